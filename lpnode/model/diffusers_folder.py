"""Models from folders in the layout of diffusers."""

from pathlib import Path

import torch

from lpnode.errors import ModelError
from lpnode.model.assemble import NetworkSource, assemble, read_tokenizer, text_layout
from lpnode.model.diffusion_model import DiffusionModel
from lpnode.model.meta_module import make_network, make_text_model
from lpnode.model.model_files import read_json, weight_files
from lpnode.model.safetensors_file import SafetensorsFile
from lpnode.model.tiny_vae import tiny_vae_source
from lpnode.model.weights import Progress, no_progress


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
        dtype: of UNet and VAE; see ``assemble`` for text encoders.
        tiny_vae: an autoencoder of TAESD's kind in place of the model's own: see ``tiny_vae``.
    Raises: ModelError: names the file, and the tensor if there is one. OutOfDeviceMemory.
    """
    index = read_json(folder / "model_index.json")
    parts = ["unet", "vae", "text_encoder", "tokenizer"]
    numbers = ("", "_2") if index.get("text_encoder_2", [None])[0] else ("",)
    for part in [*parts, *(f"{part}_2" for part in parts[2:] if len(numbers) == 2)]:
        if part not in index or not (folder / part).is_dir():
            raise ModelError(f"{folder}: is no Stable Diffusion model: {part}/ is missing")
    scheduler = folder / "scheduler" / "scheduler_config.json"
    return assemble(
        name,
        unet=network_source(folder / "unet", "UNet2DConditionModel"),
        vae=tiny_vae_source(tiny_vae)
        if tiny_vae
        else network_source(folder / "vae", "AutoencoderTiny", "AutoencoderKL"),
        text_models=[
            _text_source(folder / f"text_encoder{number}", is_projected=number == "_2")
            for number in numbers
        ],
        tokenizers=[read_tokenizer(folder / f"tokenizer{number}") for number in numbers],
        scheduler_config=read_json(scheduler) if scheduler.is_file() else {},
        device=device,
        dtype=dtype,
        progress=progress,
    )


def network_source(folder: Path, *allowed: str) -> NetworkSource:
    """A network of diffusers in a folder of its own. Raises: ModelError."""
    path = folder / "config.json"
    module = make_network(read_json(path), path, *allowed)
    return NetworkSource(module=module, where=path, files=_open(folder))


def _text_source(folder: Path, *, is_projected: bool) -> NetworkSource:
    path = folder / "config.json"
    config = read_json(path)
    wanted = "CLIPTextModelWithProjection" if is_projected else "CLIPTextModel"
    kinds = config.get("architectures") or [wanted]
    if kinds != [wanted]:
        raise ModelError(f"{path}: architectures: expected {wanted}, got {kinds}")
    files = _open(folder)
    return NetworkSource(
        module=make_text_model(config, path, is_projected=is_projected),
        where=path,
        files=files,
        layout=text_layout(files, is_projected=is_projected),
    )


def _open(folder: Path) -> list[SafetensorsFile]:
    return [SafetensorsFile(path) for path in weight_files(folder)]
