"""Models from folders in the layout of diffusers."""

import contextlib
import json
import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from lpnode.errors import ModelError
from lpnode.model.diffusion_model import (
    DiffusionModel,
    ModelFamily,
    ModelTraits,
    Prediction,
    PromptEncoder,
)
from lpnode.model.prompt_encoder import ClipPromptEncoder, SdxlPromptEncoder
from lpnode.model.weights import Progress, fill, no_progress

_STEMS = ("diffusion_pytorch_model", "model")


def load_folder(
    folder: Path,
    *,
    name: str,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
    tiny_vae: Path | None = None,
    progress: Progress = no_progress,
) -> DiffusionModel:
    """Loads every network of a folder with ``model_index.json``; ``load_model`` adds digests.

    Args:
        name: as operators and gateways know the model.
        dtype: of UNet and VAE; text encoders, which never run for a frame, are float32 on a
            processor and ``dtype`` on a GPU.
        tiny_vae: the folder of an ``AutoencoderTiny`` in place of the model's own.
    Raises: ModelError: names the file, and the tensor if there is one.
    """
    index = read_json(folder / "model_index.json")
    for part in ("unet", "vae", "text_encoder", "tokenizer"):
        if part not in index or not (folder / part).is_dir():
            raise ModelError(f"{folder}: is no Stable Diffusion model: {part}/ is missing")
    with quiet_imports():
        from diffusers import AutoencoderKL, AutoencoderTiny, UNet2DConditionModel
    kinds = {
        "UNet2DConditionModel": UNet2DConditionModel,
        "AutoencoderKL": AutoencoderKL,
        "AutoencoderTiny": AutoencoderTiny,
    }

    def network(path: Path, *allowed: str) -> torch.nn.Module:
        config = read_json(path / "config.json")
        kind = config.get("_class_name")
        if kind not in allowed:
            raise ModelError(
                f"{path / 'config.json'}: _class_name: expected {' or '.join(allowed)}, "
                f"got {kind!r}"
            )
        with torch.device("meta"), _config_errors(path / "config.json"):
            module: torch.nn.Module = kinds[kind].from_config(config)
        fill(module, weight_files(path), device=device, dtype=dtype, what=kind, progress=progress)
        return module.eval().requires_grad_(False)

    unet = network(folder / "unet", "UNet2DConditionModel")
    vae = network(tiny_vae or folder / "vae", "AutoencoderTiny", "AutoencoderKL")
    encoder, num_tokens, pooled_width = load_prompt_encoder(folder, device, dtype, progress)
    scheduler = folder / "scheduler" / "scheduler_config.json"
    scheduler_config = read_json(scheduler) if scheduler.is_file() else {}
    return DiffusionModel(
        name=name,
        traits=traits_of(name, unet, vae, scheduler_config, num_tokens, pooled_width),
        unet=unet,
        vae=vae,
        prompt_encoder=encoder,
        weights_sha256={},
        scheduler_config=scheduler_config,
    )


def load_prompt_encoder(
    folder: Path, device: torch.device | str, dtype: torch.dtype, progress: Progress
) -> tuple[PromptEncoder, int, int | None]:
    """The text encoders of a folder; also L, and the width of the pooled embedding if any.

    Raises: ModelError.
    """
    with quiet_imports():
        from transformers import (
            CLIPTextConfig,
            CLIPTextModel,
            CLIPTextModelWithProjection,
            CLIPTokenizer,
        )
    host = torch.device(device).type == "cpu"

    def text_model(part: str, kind: Any) -> Any:
        path = folder / part
        config = read_json(path / "config.json")
        with _config_errors(path / "config.json"):
            module = kind(CLIPTextConfig(**config))
        fill(
            module,
            weight_files(path),
            device=device,
            dtype=torch.float32 if host else dtype,
            what=kind.__name__,
            progress=progress,
        )
        return module.to(device).eval().requires_grad_(False)

    def tokenizer(part: str) -> Any:
        try:
            return CLIPTokenizer.from_pretrained(folder / part, local_files_only=True)
        except (OSError, ValueError, TypeError) as error:
            raise ModelError(f"{folder / part}: the tokenizer cannot be read: {error}") from error

    first = tokenizer("tokenizer")
    if not (folder / "text_encoder_2").is_dir():
        encoder: PromptEncoder = ClipPromptEncoder(first, text_model("text_encoder", CLIPTextModel))
        return encoder, first.model_max_length, None
    second = text_model("text_encoder_2", CLIPTextModelWithProjection)
    encoder = SdxlPromptEncoder(
        (first, tokenizer("tokenizer_2")), (text_model("text_encoder", CLIPTextModel), second)
    )
    return encoder, first.model_max_length, second.config.projection_dim


def traits_of(
    name: str,
    unet: Any,
    vae: Any,
    scheduler_config: Mapping[str, Any],
    num_text_tokens: int,
    pooled_width: int | None,
) -> ModelTraits:
    """What a frame loop must know. Raises: ModelError: a prediction type that is not known."""
    width = int(unet.config.cross_attention_dim)
    if pooled_width is not None:
        family = ModelFamily.SDXL
    else:
        family = ModelFamily.SD21 if width == 1024 else ModelFamily.SD15
    is_tiny = type(vae).__name__ == "AutoencoderTiny"
    word = scheduler_config.get("prediction_type", Prediction.EPSILON)
    try:
        prediction = Prediction(word)
    except ValueError as error:
        raise ModelError(
            f"{name}: scheduler_config.json: prediction_type: expected epsilon or v_prediction, "
            f"got {word!r}"
        ) from error
    sample_size = unet.config.sample_size
    return ModelTraits(
        family=family,
        prediction=prediction,
        is_turbo="turbo" in name.lower(),
        is_tiny_vae=is_tiny,
        latent_scale=1.0 if is_tiny else float(vae.config.scaling_factor),
        latent_channels=int(unet.config.in_channels),
        pixels_per_latent=8,
        num_text_tokens=num_text_tokens,
        text_width=width,
        pooled_width=pooled_width,
        native_size=8 * (sample_size if isinstance(sample_size, int) else 64),
    )


def weight_files(folder: Path) -> list[Path]:
    """The safetensors files of one network: fp16 ones first, whole or in shards.

    Raises: ModelError: there are none, and what is there instead.
    """
    for stem in _STEMS:
        for variant in (".fp16", ""):
            whole = folder / f"{stem}{variant}.safetensors"
            if whole.is_file():
                return [whole]
            index = folder / f"{stem}.safetensors.index{variant}.json"
            if index.is_file():
                shards = sorted(set(read_json(index).get("weight_map", {}).values()))
                return [folder / Path(shard).name for shard in shards]
    others = sorted(path.name for path in folder.glob("*") if path.suffix in (".bin", ".ckpt"))
    hint = f"; {', '.join(others)} are pickles, which are not read" if others else ""
    raise ModelError(f"{folder}: there is no .safetensors file with weights{hint}")


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object of a model. Raises: ModelError."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ModelError(f"{path}: there is no such file") from error
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(f"{path}: is not a JSON file: {error}") from error
    if not isinstance(document, dict):
        raise ModelError(f"{path}: must have a JSON object")
    return document


@contextlib.contextmanager
def _config_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except (TypeError, ValueError, KeyError, AttributeError, NotImplementedError) as error:
        raise ModelError(f"{path}: no network can be made of it: {error}") from error


@contextlib.contextmanager
def quiet_imports() -> Iterator[None]:
    """Libraries of models log advice at import that is none of an operator's business."""
    loggers = [logging.getLogger(name) for name in ("diffusers", "transformers")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
