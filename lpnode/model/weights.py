"""From files to modules: which tensor goes where, and whether it can."""

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from lpnode.errors import ModelError, OutOfDeviceMemory
from lpnode.model.safetensors_file import SafetensorsFile, TensorEntry

Progress = Callable[[str, int, int], None]
"""What is being done, bytes done so far, bytes in all."""

_SHOWN = 5


def no_progress(what: str, num_done: int, num_bytes: int) -> None:
    """For callers that show none."""


def _whole(tensor: torch.Tensor) -> torch.Tensor:
    return tensor


@dataclass(frozen=True, slots=True)
class Stored:
    """How a module's tensor lies in a file: under which name, and what is taken of that.

    ``take`` gives a view of the file's tensor; it is tried on the meta device too.
    """

    name: str
    take: Callable[[torch.Tensor], torch.Tensor] = _whole


@dataclass(frozen=True, slots=True)
class Layout:
    """How the tensors of one network lie in files.

    Attributes:
        stored: where the tensor of a name in the module is.
        prefix: what the names of this network's tensors begin with, where a file has several.
        is_surplus: whether a name in the files is of no use here, and may be there.
    """

    stored: Callable[[str], Stored] = Stored
    prefix: str = ""
    is_surplus: Callable[[str], bool] = lambda name: False


AS_IN_MODULE = Layout()
"""Names in files are those of the module."""


def fill(
    module: torch.nn.Module,
    files: Sequence[SafetensorsFile],
    *,
    device: torch.device | str,
    dtype: torch.dtype,
    what: str,
    layout: Layout = AS_IN_MODULE,
    progress: Progress = no_progress,
) -> None:
    """Gives a module the weights of its files, converted to ``dtype`` on ``device``.

    Every tensor is checked against the module's before any is read. A tensor whose type and device
    are right already stays mapped from its file; others are converted one by one, so that no second
    set of weights is ever in memory.

    Args: module: its weights may lie on the meta device.
    Raises: ModelError: names the file and the tensor. OutOfDeviceMemory.
    """
    entries = entries_of(files, layout)
    wanted = check(module, entries, layout, what)
    num_bytes = sum(entry.num_bytes for entry in entries.values())
    num_done = 0
    state: dict[str, torch.Tensor] = {}
    users: dict[str, list[str]] = {}
    for name, stored in wanted.items():
        users.setdefault(stored.name, []).append(name)
    try:
        for file in files:
            for stored_name, tensor in file.tensors(sorted(file.entries.keys() & users.keys())):
                for name in users[stored_name]:
                    taken = wanted[name].take(tensor)
                    state[name] = converted(taken, file.path, stored_name, device, dtype)
                num_done += tensor.nbytes
                progress(what, num_done, num_bytes)
    except torch.OutOfMemoryError as error:
        raise OutOfDeviceMemory(f"{what} does not fit into the memory of {device}") from error
    module.load_state_dict(state, assign=True, strict=False)
    _count_positions(module, device)


def entries_of(files: Iterable[SafetensorsFile], layout: Layout) -> dict[str, TensorEntry]:
    """What the files have for a network of this layout, and the module may want."""
    return {
        name: entry
        for file in files
        for name, entry in file.entries.items()
        if name.startswith(layout.prefix) and not _is_surplus(name, layout)
    }


def converted(
    tensor: torch.Tensor, file: Path, name: str, device: torch.device | str, dtype: torch.dtype
) -> torch.Tensor:
    """The tensor as the module wants it. Raises: ModelError: it has values that are no numbers."""
    if not tensor.is_floating_point() or tensor.itemsize == 1:
        raise ModelError(
            f"{file}: {name}: is of {tensor.dtype}; weights must be float16, bfloat16, float32 or "
            "float64: quantised files are not read"
        )
    moved = tensor.contiguous().to(device, dtype)
    if not is_finite(moved):
        if is_finite(tensor):
            raise ModelError(
                f"{file}: {name}: has values that {dtype} cannot hold; use a version of the model "
                "made for half precision, or float32"
            )
        raise ModelError(f"{file}: {name}: has values that are not numbers; the file is damaged")
    return moved


def is_finite(tensor: torch.Tensor) -> bool:
    """Whether all values are numbers."""
    # One pass and no copy: least and greatest are NaN as soon as one value is.
    return tensor.numel() == 0 or all(bool(end.isfinite()) for end in torch.aminmax(tensor))


def check(
    module: torch.nn.Module, entries: Mapping[str, TensorEntry], layout: Layout, what: str
) -> dict[str, Stored]:
    """Compares the tensors of files with those of a module, which is all done with headers.

    Returns: where each of the module's tensors is. Raises: ModelError.
    """
    shapes = {
        name: tuple(tensor.shape)
        for name, tensor in module.state_dict().items()
        if not _is_position(name)
    }
    wanted = {name: layout.stored(name) for name in shapes}
    for name, stored in wanted.items():
        entry = entries.get(stored.name)
        if entry is not None and _shape_taken(stored, entry) != shapes[name]:
            use = "" if stored.name == name else f" for {name}"
            raise ModelError(
                f"{entry.file}: {stored.name}: has the shape {entry.shape}, {what} needs "
                f"{shapes[name]}{use}; the file belongs to another model, or config.json does"
            )
    known = {stored.name for stored in wanted.values()}
    missing = sorted(known - entries.keys())
    unknown = sorted(entries.keys() - known)
    if missing or unknown:
        paths = sorted({str(entry.file) for entry in entries.values()})
        raise ModelError(
            f"{', '.join(paths) or 'no file'}: does not fit {what}: "
            + "; ".join(
                f"{kind} {len(names)} tensors: {', '.join(names[:_SHOWN])}"
                + (", …" if len(names) > _SHOWN else "")
                for kind, names in (("lacks", missing), ("has unknown", unknown))
                if names
            )
        )
    return wanted


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


def _shape_taken(stored: Stored, entry: TensorEntry) -> tuple[int, ...] | None:
    try:
        return tuple(stored.take(torch.empty(entry.shape, device="meta")).shape)
    except (IndexError, RuntimeError):
        return None


def _is_position(name: str) -> bool:
    """CLIP's count from 0, which some files have as a tensor and modules make themselves."""
    return name.endswith("position_ids")


def _is_surplus(name: str, layout: Layout) -> bool:
    return _is_position(name) or layout.is_surplus(name)


def _count_positions(module: torch.nn.Module, device: torch.device | str) -> None:
    for part in module.modules():
        positions = part._buffers.get("position_ids")
        if positions is not None:
            counted = torch.arange(positions.shape[-1], device=device)
            part._buffers["position_ids"] = counted.expand(positions.shape)
