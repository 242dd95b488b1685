"""What must be known of a model's networks, and whether they belong together."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lpnode.errors import ModelError
from lpnode.model.diffusion_model import ModelFamily, ModelTraits, Prediction

_SD21_WIDTH = 1024
_PIXELS_PER_LATENT = 8
_NUM_SIZE_IDS = 6
_SAMPLE_SIZE = 64


def traits_of(
    name: str,
    unet: Any,
    vae: Any,
    text_models: Sequence[Any],
    scheduler_config: Mapping[str, Any],
    num_text_tokens: int,
    family: ModelFamily | None = None,
) -> ModelTraits:
    """What a frame loop must know of networks that passed ``check_fit``.

    Raises: ModelError: a prediction type that is not known.
    """
    width = int(unet.config.cross_attention_dim)
    is_sdxl = len(text_models) == 2
    if family is None and is_sdxl:
        family = ModelFamily.SDXL
    elif family is None:
        family = family_by_width(width)
    word = scheduler_config.get("prediction_type", Prediction.EPSILON)
    try:
        prediction = Prediction(word)
    except ValueError as error:
        raise ModelError(
            f"{name}: scheduler_config.json: prediction_type: expected epsilon or v_prediction, "
            f"got {word!r}"
        ) from error
    is_tiny = type(vae).__name__ == "AutoencoderTiny"
    sample_size = unet.config.sample_size
    return ModelTraits(
        family=family,
        prediction=prediction,
        is_turbo="turbo" in name.lower(),
        is_tiny_vae=is_tiny,
        latent_scale=1.0 if is_tiny else float(vae.config.scaling_factor),
        latent_channels=int(unet.config.in_channels),
        pixels_per_latent=_PIXELS_PER_LATENT,
        num_text_tokens=num_text_tokens,
        text_width=width,
        pooled_width=int(text_models[1].config.projection_dim) if is_sdxl else None,
        native_size=_PIXELS_PER_LATENT
        * (sample_size if isinstance(sample_size, int) else _SAMPLE_SIZE),
    )


def family_by_width(text_width: object) -> ModelFamily:
    """Which of the families with one text encoder takes texts of this width."""
    return ModelFamily.SD21 if text_width == _SD21_WIDTH else ModelFamily.SD15


def check_fit(
    unet: tuple[Path, Any], vae: tuple[Path, Any], text_models: Sequence[tuple[Path, Any]]
) -> None:
    """Compares what networks give with what the others take, by their configurations alone.

    Args: each network with the file that it is made from.
    Raises: ModelError: a network of another family, or one for another task; names both files.
    """
    _check_unet(*unet, num_text_models=len(text_models))
    path, config = unet[0], unet[1].config
    given = [int(model.config.hidden_size) for _, model in text_models]
    names = " and ".join(str(where) for where, _ in text_models)
    if sum(given) != config.cross_attention_dim:
        raise ModelError(
            f"{names}: gives texts of width {sum(given)}, but {path} takes "
            f"{config.cross_attention_dim}: the text encoder is another model's"
        )
    if len(text_models) == 2:
        _check_pooled(path, config, *text_models[1])
    where, module = vae
    channels = int(module.config.latent_channels)
    if channels != config.in_channels:
        raise ModelError(
            f"{where}: has latents of {channels} channels, but {path} takes "
            f"{config.in_channels}: the autoencoder is another model's"
        )
    if _scale(module.config) != _PIXELS_PER_LATENT:
        raise ModelError(
            f"{where}: has {_scale(module.config)} pixels a latent, {_PIXELS_PER_LATENT} are "
            "supported"
        )
    for key in ("latents_mean", "latents_std", "shift_factor"):
        if module.config.get(key):
            raise ModelError(f"{where}: {key} is not supported")


def _check_unet(path: Path, unet: Any, *, num_text_models: int) -> None:
    config = unet.config
    if config.in_channels != config.out_channels:
        raise ModelError(
            f"{path}: takes {config.in_channels} channels and gives {config.out_channels}: models "
            "for inpainting or editing are not supported"
        )
    is_sdxl = num_text_models == 2
    if (config.addition_embed_type == "text_time") != is_sdxl:
        needs = "two text encoders, as SDXL has" if not is_sdxl else "one text encoder"
        raise ModelError(f"{path}: needs {needs}, but the model has {num_text_models}")
    for key in ("class_embed_type", "encoder_hid_dim_type", "num_class_embeds"):
        if config.get(key) is not None:
            raise ModelError(f"{path}: {key} {config[key]!r} is not supported")
    if not isinstance(config.cross_attention_dim, int):
        raise ModelError(
            f"{path}: cross_attention_dim: expected one number, got {config.cross_attention_dim!r}"
        )


def _check_pooled(path: Path, config: Any, where: Path, text_model: Any) -> None:
    size_width = _NUM_SIZE_IDS * int(config.addition_time_embed_dim or 0)
    wanted = int(config.projection_class_embeddings_input_dim or 0) - size_width
    given = int(text_model.config.projection_dim)
    if given != wanted:
        raise ModelError(
            f"{where}: gives pooled texts of width {given}, but {path} takes {wanted}: the text "
            "encoder is another model's"
        )


def _scale(config: Any) -> int:
    blocks = config.get("encoder_block_out_channels") or config.get("block_out_channels")
    return int(2 ** (len(blocks) - 1))
