"""Weights on disk: safetensors files, mapped into memory, with errors that name what is wrong."""

import json
import math
from collections.abc import Iterator, Mapping
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

    Raises: ModelError: missing, a pickle, truncated, or not safetensors.
    Source: the format's specification in the safetensors project's README.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.entries: Mapping[str, TensorEntry] = {
            entry.name: entry for entry in _read_header(path)
        }

    @property
    def num_bytes(self) -> int:
        """Of all tensors."""
        return sum(entry.num_bytes for entry in self.entries.values())

    def tensors(self) -> Iterator[tuple[str, torch.Tensor]]:
        """Every tensor on the host, in the order of the names; memory-mapped, not copied.

        Raises: ModelError: the file changed since its header was read.
        """
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(self.path, framework="pt", device="cpu") as file:
                for name in sorted(self.entries):
                    yield name, file.get_tensor(name)
        except (SafetensorError, OSError) as error:
            raise ModelError(f"{self.path}: cannot be read: {error}") from error


def _read_header(path: Path) -> Iterator[TensorEntry]:
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
        header.pop("__metadata__", None)
        described = [
            (name, fields["dtype"], tuple(fields["shape"]), tuple(fields["data_offsets"]))
            for name, fields in header.items()
        ]
    except (ValueError, AttributeError, KeyError, TypeError, RecursionError) as error:
        raise ModelError(f"{path}: not a safetensors file: its header is not valid") from error
    for name, dtype_name, shape, offsets in described:
        dtype = DTYPES.get(dtype_name)
        if dtype is None:
            raise ModelError(f"{path}: {name}: the type {dtype_name} is not known here")
        num_bytes = math.prod(shape) * dtype.itemsize
        if len(offsets) != 2 or offsets[1] - offsets[0] != num_bytes:
            raise ModelError(
                f"{path}: {name}: {offsets} are not the {num_bytes} bytes of {dtype_name} {shape}"
            )
        if offsets[1] > size - 8 - length:
            raise ModelError(
                f"{path}: {name}: the file is cut off: {8 + length + offsets[1]} bytes are needed, "
                f"{size} are there; download it again"
            )
        yield TensorEntry(name, path, dtype, shape, num_bytes)
