"""Models in one ``.safetensors`` file, as the original Stable Diffusion code writes them."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import torch

from lpnode.errors import ModelError
from lpnode.model.assemble import NetworkSource, assemble, read_tokenizer
from lpnode.model.checkpoint_config import (
    Shapes,
    clip_config,
    open_clip_config,
    unet_config,
    vae_config,
)
from lpnode.model.diffusion_model import DiffusionModel, ModelFamily, Prediction
from lpnode.model.ldm_names import UNET_PREFIX, VAE_PREFIX
from lpnode.model.meta_module import make_network, make_text_model
from lpnode.model.model_files import read_json
from lpnode.model.safetensors_file import SafetensorsFile
from lpnode.model.tiny_vae import tiny_vae_source
from lpnode.model.weights import Layout, Progress, Stored, no_progress

TOKENIZER_FOLDER: Final = "tokenizer"
"""Has CLIP's words, beside checkpoints or one folder above them."""

_CLIP_SD15 = "cond_stage_model.transformer.text_model."
_CLIP_SD15_SHORT = "cond_stage_model.transformer."
_OPEN_CLIP_SD21 = "cond_stage_model.model."
_CLIP_SDXL = "conditioner.embedders.0.transformer.text_model."
_OPEN_CLIP_SDXL = "conditioner.embedders.1.model."
_REFINER = "conditioner.embedders.0.model."

_OPEN_CLIP_PAD: Final = "!"
_V_MARK = "v_pred"
_SAMPLE_SIZE_768 = 96
_SAMPLE_SIZE_TURBO = 64

_SCHEDULER: Mapping[str, Any] = {
    "_class_name": "EulerDiscreteScheduler",
    "beta_schedule": "scaled_linear",
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "num_train_timesteps": 1000,
    "steps_offset": 1,
    "timestep_spacing": "leading",
}


def load_single_file(
    path: Path,
    *,
    name: str,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
    tiny_vae: Path | None = None,
    progress: Progress = no_progress,
) -> DiffusionModel:
    """Loads a checkpoint of SD 1.5, SD 2.1 or SDXL; ``load_model`` adds digests.

    The names are mapped here, not by diffusers' converters: those fetch configurations from the
    network, and drop what they do not know without a word.

    The words of the tokenizer are not in such a file: they are read from a folder ``tokenizer``
    beside the file or one above. ``scheduler/scheduler_config.json`` beside it, if it is there,
    says what the UNet predicts.

    Args: as of ``load_folder``.
    Raises: ModelError: names the tensor or folder. OutOfDeviceMemory.
    """
    file = SafetensorsFile(path)
    shapes = {entry: described.shape for entry, described in file.entries.items()}
    family = family_of(path, shapes)
    words = _tokenizer_folder(path)
    is_pair = family is ModelFamily.SDXL
    try:
        unet, unet_names = unet_config(shapes, family)
        texts = _text_sources(file, shapes, family)
        vae = tiny_vae_source(tiny_vae) if tiny_vae else _vae_source(file, shapes, family)
    except (KeyError, IndexError, StopIteration) as error:
        raise ModelError(
            f"{path}: is no complete checkpoint: it lacks {error.args[0] if error.args else error}"
        ) from error
    prediction = _prediction(path, name, file, family)
    if family is ModelFamily.SD21 and prediction == Prediction.V:
        unet["sample_size"] = _SAMPLE_SIZE_768
    elif "turbo" in name.lower():
        unet["sample_size"] = _SAMPLE_SIZE_TURBO
    return assemble(
        name,
        unet=NetworkSource(
            module=make_network(unet, path, "UNet2DConditionModel"),
            where=path,
            files=[file],
            layout=Layout(unet_names, UNET_PREFIX),
        ),
        vae=vae,
        text_models=texts,
        tokenizers=[
            read_tokenizer(words, **({"pad_token": _OPEN_CLIP_PAD} if is_open_clip else {}))
            for is_open_clip in ((False, True) if is_pair else (family is ModelFamily.SD21,))
        ],
        scheduler_config=dict(_SCHEDULER) | {"prediction_type": prediction},
        device=device,
        dtype=dtype,
        progress=progress,
        family=family,
    )


def family_of(path: Path, shapes: Shapes) -> ModelFamily:
    """The family of a checkpoint by its text encoders. Raises: ModelError: what it is instead."""
    if f"{UNET_PREFIX}input_blocks.0.0.weight" not in shapes:
        raise ModelError(f"{path}: is no Stable Diffusion checkpoint: {_what_it_is(shapes)}")
    if _has(shapes, _OPEN_CLIP_SDXL):
        return ModelFamily.SDXL
    if _has(shapes, _REFINER):
        raise ModelError(f"{path}: is SDXL's refiner, which is not supported; give the base model")
    if _has(shapes, _OPEN_CLIP_SD21):
        return ModelFamily.SD21
    if _has(shapes, _CLIP_SD15_SHORT):
        return ModelFamily.SD15
    raise ModelError(
        f"{path}: has no text encoder (cond_stage_model. or conditioner.); "
        "give a checkpoint with all networks"
    )


def _what_it_is(shapes: Shapes) -> str:
    for mark, what in (
        (r".*lora_(down|up)|.*lora_[AB]\.|.*\.lora\.", "it is a LoRA"),
        (r"control_model\.|.*zero_convs", "it is a ControlNet"),
        (r"(encoder|decoder)\.(down|up|mid)", "it is an autoencoder"),
        (r"text_model\.", "it is a text encoder"),
        (r"down_blocks\.", "it is a UNet of diffusers, which belongs in unet/ of a folder"),
        (r".*(joint_blocks|double_blocks)\.", "it is of another architecture"),
    ):
        if any(re.match(mark, name) for name in shapes):
            return what
    return f"{UNET_PREFIX}input_blocks.0.0.weight is missing"


def _has(shapes: Shapes, prefix: str) -> bool:
    return any(name.startswith(prefix) for name in shapes)


def _vae_source(file: SafetensorsFile, shapes: Shapes, family: ModelFamily) -> NetworkSource:
    config, names = vae_config(shapes, family)
    return NetworkSource(
        module=make_network(config, file.path, "AutoencoderKL"),
        where=file.path,
        files=[file],
        layout=Layout(names, VAE_PREFIX, lambda name: name.startswith(f"{VAE_PREFIX}loss.")),
    )


def _text_sources(
    file: SafetensorsFile, shapes: Shapes, family: ModelFamily
) -> Sequence[NetworkSource]:
    if family is ModelFamily.SD21:
        return [_open_clip_source(file, shapes, _OPEN_CLIP_SD21, is_projected=False)]
    if family is ModelFamily.SDXL:
        second = _open_clip_source(file, shapes, _OPEN_CLIP_SDXL, is_projected=True)
        return [_clip_source(file, shapes, _CLIP_SDXL), second]
    # Some early tools wrote the encoder without its inner name.
    prefix = _CLIP_SD15 if _has(shapes, _CLIP_SD15) else _CLIP_SD15_SHORT
    return [_clip_source(file, shapes, prefix)]


def _clip_source(file: SafetensorsFile, shapes: Shapes, prefix: str) -> NetworkSource:
    module = make_text_model(clip_config(shapes, prefix), file.path, is_projected=False)
    layout = Layout(lambda name: Stored(prefix + name), prefix)
    return NetworkSource(module=module, where=file.path, files=[file], layout=layout)


def _open_clip_source(
    file: SafetensorsFile, shapes: Shapes, prefix: str, *, is_projected: bool
) -> NetworkSource:
    config, names = open_clip_config(shapes, prefix, is_projected=is_projected)
    # What CLIP compares texts and pictures by is of no use here, nor is what SD 2.1 leaves out.
    surplus = {f"{prefix}logit_scale", f"{prefix}attn_mask"}
    last = f"{prefix}transformer.resblocks.{config['num_hidden_layers']}."

    def is_surplus(name: str) -> bool:
        is_left_out = name.startswith(last) or name == f"{prefix}text_projection"
        return name in surplus or (not is_projected and is_left_out)

    return NetworkSource(
        module=make_text_model(config, file.path, is_projected=is_projected),
        where=file.path,
        files=[file],
        layout=Layout(names, prefix, is_surplus),
    )


def _tokenizer_folder(path: Path) -> Path:
    candidates = [path.parent / TOKENIZER_FOLDER, path.parent.parent / TOKENIZER_FOLDER]
    for folder in candidates:
        if folder.is_dir():
            return folder
    raise ModelError(
        f"{path}: needs CLIP's words, which are not in such a file: put the tokenizer of any "
        "Stable Diffusion model (vocab.json and merges.txt) into "
        f"{candidates[0]} or {candidates[1]}; lpnode model add OWNER/NAME --tokenizer gets it"
    )


def _prediction(path: Path, name: str, file: SafetensorsFile, family: ModelFamily) -> str:
    """What the UNet predicts, which no tensor's shape tells. Raises: ModelError."""
    config = path.parent / "scheduler" / "scheduler_config.json"
    if config.is_file():
        return str(read_json(config).get("prediction_type", Prediction.EPSILON))
    said = file.metadata.get("modelspec.prediction_type", "")
    if _V_MARK in file.entries or said in {"v", Prediction.V}:
        return Prediction.V
    if said == Prediction.EPSILON or family is not ModelFamily.SD21:
        return Prediction.EPSILON
    # The published files of SD 2: 768 predicts the velocity; 512, base and turbo the noise.
    text = f"{name} {path.stem}".lower()
    if re.search(r"768|v.?pred", text):
        return Prediction.V
    if re.search(r"512|base|turbo", text):
        return Prediction.EPSILON
    raise ModelError(
        f"{path}: models of SD 2 predict noise or velocity, and nothing in the file says which: "
        f'write {{"prediction_type": "v_prediction"}} or {{"prediction_type": "epsilon"}} to '
        f"{config}"
    )
