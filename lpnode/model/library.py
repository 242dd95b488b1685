"""The models that are on this machine, and whether their files are sound."""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from lpnode.errors import ModelError
from lpnode.model.diffusion_model import ModelFamily
from lpnode.model.family import family_at
from lpnode.model.ldm_names import UNET_PREFIX
from lpnode.model.load import load_model
from lpnode.model.model_files import weight_files
from lpnode.model.place import SHIPPED_FOLDER, SHIPPED_MODEL, ModelPlace
from lpnode.model.safetensors_file import SafetensorsFile
from lpnode.model.single_file import TOKENIZER_FOLDER
from lpnode.model.weights import Progress, is_finite, no_progress

_PARTS = ("unet", "vae", "text_encoder", "text_encoder_2", "safety_checker")
_MODEL, _CHECKPOINT = "model", "checkpoint"
_LOADED_KINDS = (_MODEL, _CHECKPOINT)
# Weights stay mapped from their file in the precision that they are stored in; the first of these
# that is there holds all the others' values.
_DTYPES = (torch.float32, torch.bfloat16, torch.float16)


@dataclass(frozen=True, slots=True)
class ModelSummary:
    """What an operator may want to know of a model on disk.

    Attributes:
        kind: model, checkpoint, autoencoder or LoRA.
        family: of models and checkpoints, else None.
        precisions: types of the weights, such as ``float16``.
        problem: why it cannot be loaded, as far as headers tell; empty if nothing is wrong.
    """

    place: ModelPlace
    kind: str
    num_bytes: int
    precisions: tuple[str, ...]
    family: ModelFamily | None = None
    problem: str = ""


def places(models_dir: Path) -> Iterator[ModelPlace]:
    """The model that ships, and everything in the folder of models."""
    if SHIPPED_FOLDER.is_dir():
        yield ModelPlace(SHIPPED_MODEL, SHIPPED_FOLDER)
    if not models_dir.is_dir():
        return
    for path in sorted(models_dir.iterdir()):
        if path.name == TOKENIZER_FOLDER:
            continue
        name = path.name.removesuffix(".safetensors").replace("--", "/", 1)
        if path.suffix == ".safetensors" or (path.is_dir() and not path.name.endswith(".partial")):
            yield ModelPlace(name, path)


def summary(place: ModelPlace) -> ModelSummary:
    """Reads the headers of a model's files; weights are not touched."""
    try:
        kind, paths = _files(place.path)
        files = [SafetensorsFile(path) for path in paths]
        at = paths[0] if kind == _CHECKPOINT else place.path
        family = family_at(at) if kind in _LOADED_KINDS else None
    except ModelError as error:
        return ModelSummary(place, "?", 0, (), problem=str(error))
    entries = [entry for file in files for entry in file.entries.values()]
    precisions = {_name(entry.dtype) for entry in entries}
    num_bytes = sum(file.num_bytes for file in files)
    return ModelSummary(place, kind, num_bytes, tuple(sorted(precisions)), family)


def check_model(summary: ModelSummary, progress: Progress = no_progress) -> Mapping[str, str]:
    """Reads every weight, and of models and checkpoints makes the networks that they are for.

    Returns: the SHA-256 of each network's weights, as ``DiffusionModel`` has it, or of the file.
    Raises: ModelError: names a tensor that is not sound, or fits no network.
    """
    if summary.kind in _LOADED_KINDS:
        dtype = next((d for d in _DTYPES if _name(d) in summary.precisions), torch.float32)
        return load_model(summary.place, dtype=dtype, progress=progress).weights_sha256
    _, paths = _files(summary.place.path)
    return {path.name: _check_file(path, progress) for path in paths}


def _check_file(path: Path, progress: Progress) -> str:
    file = SafetensorsFile(path)
    num_done = 0
    for name, tensor in file.tensors():
        num_done += tensor.nbytes
        progress(path.name, num_done, file.num_bytes)
        if tensor.is_floating_point() and not is_finite(tensor):
            raise ModelError(f"{path}: {name}: has values that are not numbers")
    with path.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def _files(path: Path) -> tuple[str, list[Path]]:
    if path.is_file():
        return _kind_of_file(path), [path]
    if (path / "model_index.json").is_file():
        parts = [path / part for part in _PARTS if (path / part).is_dir()]
        return _MODEL, [file for part in parts for file in weight_files(part)]
    if (path / "config.json").is_file():
        return "autoencoder", weight_files(path)
    files = sorted(path.glob("*.safetensors"))
    if not files:
        raise ModelError(f"{path}: there is no model in it: neither model_index.json nor weights")
    return _kind_of_file(files[0]), files


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _kind_of_file(path: Path) -> str:
    names = SafetensorsFile(path).entries
    if any(name.startswith(UNET_PREFIX) for name in names):
        return _CHECKPOINT
    return "LoRA" if any("lora" in name for name in names) else "autoencoder"
