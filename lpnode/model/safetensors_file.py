"""Weights on disk: safetensors files, mapped into memory, with errors that name what is wrong."""

import json
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from lpnode.errors import ModelError

MAX_HEADER_BYTES = 100_000_000
"""The format's own limit."""
_PICKLES = (".ckpt", ".bin", ".pt", ".pth")

DTYPES: Mapping[str, torch.dtype] = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}


@dataclass(frozen=True, slots=True)
class TensorEntry:
    """What a file's header says of one tensor."""

    name: str
    file: Path
    dtype: torch.dtype
    shape: tuple[int, ...]
    num_bytes: int


class SafetensorsFile:
    """One file, its header read and checked; tensors are read when asked for.

    ``metadata`` is what the file's maker says of it, texts by name.

    Args: scope: put in front of every name, where several files have the same.
    Raises: ModelError: missing, a pickle, truncated, or not safetensors.
    Source: the format's specification in the safetensors project's README.
    """

    def __init__(self, path: Path, *, scope: str = "") -> None:
        self.path = path
        self._scope = scope
        described, self.metadata = _read_header(path)
        self.entries: Mapping[str, TensorEntry] = {scope + entry.name: entry for entry in described}

    @property
    def num_bytes(self) -> int:
        """Of all tensors."""
        return sum(entry.num_bytes for entry in self.entries.values())

    def tensors(self, names: Iterable[str] | None = None) -> Iterator[tuple[str, torch.Tensor]]:
        """Tensors on the host, memory-mapped, not copied: all in the order of their names, or some.

        Raises: ModelError: the file changed since its header was read.
        """
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(self.path, framework="pt", device="cpu") as file:
                for name in sorted(self.entries) if names is None else names:
                    yield name, file.get_tensor(name.removeprefix(self._scope))
        except (SafetensorError, OSError) as error:
            raise ModelError(f"{self.path}: cannot be read: {error}") from error


def _read_header(path: Path) -> tuple[list[TensorEntry], Mapping[str, str]]:
    if path.suffix in _PICKLES:
        raise ModelError(
            f"{path}: {path.suffix} files are pickles, which can run any code when they are read; "
            "give the .safetensors version of the model"
        )
    try:
        with path.open("rb") as file:
            size = path.stat().st_size
            length = int.from_bytes(file.read(8), "little")
            if size < 8 or length > min(MAX_HEADER_BYTES, size - 8):
                raise ModelError(
                    f"{path}: not a safetensors file, or cut off: its header would have {length} "
                    f"bytes, the file has {size}; download it again"
                )
            text = file.read(length)
    except FileNotFoundError as error:
        raise ModelError(f"{path}: there is no such file") from error
    except OSError as error:
        raise ModelError(f"{path}: cannot be read: {error.strerror}") from error
    try:
        header = json.loads(text)
        metadata = dict(header.pop("__metadata__", None) or {})
        described = [
            (name, fields["dtype"], tuple(fields["shape"]), tuple(fields["data_offsets"]))
            for name, fields in header.items()
        ]
    except (ValueError, AttributeError, KeyError, TypeError, RecursionError) as error:
        raise ModelError(f"{path}: not a safetensors file: its header is not valid") from error
    entries = [
        _entry(path, name, dtype_name, shape, offsets, size - 8 - length)
        for name, dtype_name, shape, offsets in described
    ]
    return entries, metadata


def _entry(
    path: Path,
    name: str,
    dtype_name: str,
    shape: tuple[int, ...],
    offsets: tuple[int, ...],
    num_there: int,
) -> TensorEntry:
    dtype = DTYPES.get(dtype_name)
    if dtype is None:
        raise ModelError(f"{path}: {name}: the type {dtype_name} is not known here")
    num_bytes = math.prod(shape) * dtype.itemsize
    if len(offsets) != 2 or offsets[1] - offsets[0] != num_bytes:
        raise ModelError(
            f"{path}: {name}: {offsets} are not the {num_bytes} bytes of {dtype_name} {shape}"
        )
    if offsets[1] > num_there:
        raise ModelError(
            f"{path}: {name}: the file is cut off: {offsets[1]} bytes of tensors are needed, "
            f"{num_there} are there; download it again"
        )
    return TensorEntry(name, path, dtype, shape, num_bytes)
