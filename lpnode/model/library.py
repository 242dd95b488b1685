"""The models that are on this machine, and whether their files are sound."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

from lpnode.errors import ModelError
from lpnode.model.diffusers_folder import weight_files
from lpnode.model.place import SHIPPED_FOLDER, SHIPPED_MODEL, ModelPlace
from lpnode.model.safetensors_file import SafetensorsFile
from lpnode.model.weights import Progress, no_progress

_PARTS = ("unet", "vae", "text_encoder", "text_encoder_2", "safety_checker")


@dataclass(frozen=True, slots=True)
class ModelSummary:
    """What an operator may want to know of a model on disk.

    Attributes:
        kind: model, checkpoint, autoencoder or LoRA.
        precisions: types of the weights, such as ``float16``.
        problem: why it cannot be loaded, as far as headers tell; empty if nothing is wrong.
    """

    place: ModelPlace
    kind: str
    num_bytes: int
    precisions: tuple[str, ...]
    problem: str = ""


def places(models_dir: Path) -> Iterator[ModelPlace]:
    """The model that ships, and everything in the folder of models."""
    if SHIPPED_FOLDER.is_dir():
        yield ModelPlace(SHIPPED_MODEL, SHIPPED_FOLDER)
    if not models_dir.is_dir():
        return
    for path in sorted(models_dir.iterdir()):
        name = path.name.removesuffix(".safetensors").replace("--", "/", 1)
        if path.suffix == ".safetensors" or (path.is_dir() and not path.name.endswith(".partial")):
            yield ModelPlace(name, path)


def summary(place: ModelPlace) -> ModelSummary:
    """Reads the headers of a model's files; weights are not touched."""
    try:
        kind, paths = _files(place.path)
        files = [SafetensorsFile(path) for path in paths]
    except ModelError as error:
        return ModelSummary(place, "?", 0, (), str(error))
    entries = [entry for file in files for entry in file.entries.values()]
    precisions = {str(entry.dtype).removeprefix("torch.") for entry in entries}
    num_bytes = sum(file.num_bytes for file in files)
    return ModelSummary(place, kind, num_bytes, tuple(sorted(precisions)))


def check_values(place: ModelPlace, progress: Progress = no_progress) -> None:
    """Reads every weight of a model. Raises: ModelError: names a tensor that is not sound."""
    _, paths = _files(place.path)
    files = [SafetensorsFile(path) for path in paths]
    num_bytes = sum(file.num_bytes for file in files)
    num_done = 0
    for file in files:
        for name, tensor in file.tensors():
            num_done += file.entries[name].num_bytes
            progress(str(file.path.relative_to(place.path.parent)), num_done, num_bytes)
            if tensor.is_floating_point() and not torch.isfinite(tensor.float()).all():
                raise ModelError(f"{file.path}: {name}: has values that are not numbers")


def _files(path: Path) -> tuple[str, list[Path]]:
    if path.is_file():
        return "checkpoint", [path]
    if (path / "model_index.json").is_file():
        parts = [path / part for part in _PARTS if (path / part).is_dir()]
        return "model", [file for part in parts for file in weight_files(part)]
    if (path / "config.json").is_file():
        return "autoencoder", weight_files(path)
    loras = sorted(path.glob("*.safetensors"))
    if not loras:
        raise ModelError(f"{path}: there is no model in it: neither model_index.json nor weights")
    return "LoRA", loras
