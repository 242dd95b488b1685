"""From files to modules: which tensor goes where, and whether it can."""

import hashlib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import torch

from lpnode.errors import ModelError
from lpnode.model.safetensors_file import SafetensorsFile, TensorEntry

Progress = Callable[[str, int, int], None]
"""What is being done, bytes done so far, bytes in all."""

_SHOWN = 5


def no_progress(what: str, num_done: int, num_bytes: int) -> None:
    """For callers that show none."""


def fill(
    module: torch.nn.Module,
    files: Iterable[Path],
    *,
    device: torch.device | str,
    dtype: torch.dtype,
    what: str,
    progress: Progress = no_progress,
) -> None:
    """Gives a module the weights of its files, converted to ``dtype`` on ``device``.

    Every tensor is checked against the module's before any is read. A tensor whose type and device
    are right already stays mapped from its file; others are converted one by one, so that no second
    set of weights is ever in memory.

    Args: module: its weights may lie on the meta device.
    Raises: ModelError: names the file and the tensor.
    """
    opened = [SafetensorsFile(path) for path in files]
    entries = {name: entry for file in opened for name, entry in file.entries.items()}
    check(module, entries, what)
    num_bytes = sum(file.num_bytes for file in opened)
    num_done = 0
    state: dict[str, torch.Tensor] = {}
    for file in opened:
        for name, tensor in file.tensors():
            num_done += file.entries[name].num_bytes
            progress(what, num_done, num_bytes)
            if not name.endswith("position_ids"):  # some files have the count from 0, as a tensor
                state[name] = converted(tensor, file.path, name, device, dtype)
    module.load_state_dict(state, assign=True, strict=False)


def converted(
    tensor: torch.Tensor, file: Path, name: str, device: torch.device | str, dtype: torch.dtype
) -> torch.Tensor:
    """The tensor as the module wants it. Raises: ModelError: it has values that are no numbers."""
    if not tensor.is_floating_point():
        return tensor.to(device)
    if not torch.isfinite(tensor).all():
        raise ModelError(f"{file}: {name}: has values that are not numbers; the file is damaged")
    moved = tensor.to(device, dtype)
    if not torch.isfinite(moved).all():
        raise ModelError(
            f"{file}: {name}: has values that {dtype} cannot hold; use a version of the model "
            "made for half precision, or float32"
        )
    return moved


def check(module: torch.nn.Module, entries: Mapping[str, TensorEntry], what: str) -> None:
    """Compares the tensors of files with those of a module. Raises: ModelError."""
    wanted = {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}
    for name, entry in entries.items():
        if name in wanted and entry.shape != wanted[name]:
            raise ModelError(
                f"{entry.file}: {name}: has the shape {entry.shape}, {what} needs {wanted[name]}; "
                "the file belongs to another model, or config.json does"
            )
    ignored = {name for name in (*wanted, *entries) if name.endswith("position_ids")}
    missing = sorted(wanted.keys() - entries.keys() - ignored)
    unknown = sorted(entries.keys() - wanted.keys() - ignored)
    if missing or unknown:
        files = sorted({str(entry.file) for entry in entries.values()})
        raise ModelError(
            f"{', '.join(files) or 'no file'}: does not fit {what}: "
            + "; ".join(
                f"{kind} {len(names)} tensors: {', '.join(names[:_SHOWN])}"
                + (", …" if len(names) > _SHOWN else "")
                for kind, names in (("lacks", missing), ("has unknown", unknown))
                if names
            )
        )


def digest(module: torch.nn.Module) -> str:
    """SHA-256 of a module's weights: names, types, shapes and bytes in the order of the names.

    It depends neither on how they were stored nor on where they lie.
    """
    sha256 = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        sha256.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        flat = tensor.detach().cpu().contiguous().flatten()
        sha256.update(memoryview(flat.view(torch.uint8).numpy()))
    return sha256.hexdigest()
