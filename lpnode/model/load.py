"""One model, from wherever it lies, with everything fused that belongs in its weights."""

import logging
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from lpnode.model.diffusers_folder import load_folder
from lpnode.model.diffusion_model import DiffusionModel
from lpnode.model.lora import fuse
from lpnode.model.place import ModelPlace
from lpnode.model.single_file import load_single_file
from lpnode.model.weights import Progress, digest, no_progress

logger = logging.getLogger(__name__)

Loras = Sequence[tuple[Path, float]]
"""Files with their strengths, in the order in which they are fused."""


def load_model(
    place: ModelPlace,
    *,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
    tiny_vae: Path | None = None,
    loras: Loras | Callable[[DiffusionModel], Loras] = (),
    progress: Progress = no_progress,
) -> DiffusionModel:
    """Loads a model for ``device``.

    Args:
        dtype: of UNet and VAE.
        tiny_vae: an autoencoder of TAESD's kind that stands in for the model's own.
        loras: or what they are for a model of some traits, once it is loaded.
    Raises: ModelError: names the file, and the tensor if there is one.
    """
    load = load_folder if place.path.is_dir() else load_single_file
    model = load(
        place.path,
        name=place.name,
        device=device,
        dtype=dtype,
        tiny_vae=tiny_vae,
        progress=progress,
    )
    for path, strength in loras(model) if callable(loras) else loras:
        fuse(path, strength, model.unet, model.prompt_encoder.text_models)
        logger.info("%s: fused %s at %g", place.name, path.name, strength)
    model.weights_sha256 = {"unet": digest(model.unet), "vae": digest(model.vae)}
    return model
