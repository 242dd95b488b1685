from collections.abc import Sequence
from typing import Any

from typing_extensions import Buffer


def best_simd_path() -> str:
    """
    The fastest conversion path this machine runs: avx512, avx2 or portable.
    """

class YuvToRgb:
    """The sampling tables of one geometry; made once, used for every frame."""

    def __init__(self, source_size: tuple[int, int], crop: Sequence[float], size: tuple[int, int], matrix: int, is_full_range: bool, value_range: tuple[float, float], path: str = 'auto') -> None:
        """
        Sizes are (width, height); crop is (x, y, width, height) in source pixels; matrix is an H.273 value.
        """

    def convert_i420(self, y: Buffer, u: Buffer, v: Buffer, pitches_bytes: tuple[int, int, int], out: Any) -> None:
        """
        Fills `out` (3, height, width), float32 or float16, contiguous, in host memory.
        """

    def convert_nv12(self, y: Buffer, uv: Buffer, pitches_bytes: tuple[int, int], out: Any) -> None:
        """Fills `out` as convert_i420 does, from interleaved chroma."""

def rgb_to_i420(rgb: Any, y: Buffer, u: Buffer, v: Buffer, pitches_bytes: tuple[int, int, int], matrix: int, is_full_range: bool, value_range: tuple[float, float], path: str = 'auto') -> None:
    """
    Writes 4:2:0 planes from `rgb` (3, H, W), float32 or float16, contiguous, in host memory.
    """

def has_device_convert() -> bool:
    """Whether this build has the CUDA kernels."""

SIMILARITY_PARTS: int = 128

def frame_similarity(first: Any, second: Any, scratch: Any, sums: Any, stream: int) -> None:
    """
    Writes the sums of first*second, first*first and second*second over two frames (3, H, W) to `sums` (1, 3) float32, on their device and on `stream`; `scratch` is (SIMILARITY_PARTS, 3).
    """

def require_device_convert() -> None:
    """
    Raises NotBuilt, which says how to get them, in a build without the CUDA kernels.
    """

class DevicePicture:
    """
    A 4:2:0 picture in fixed device memory, which it keeps alive. Nothing but its making allocates, and nothing waits for the device.
    """

    def __init__(self, width: int, height: int, y: Any, u: Any, v: Any) -> None:
        """
        Planes are (rows, bytes) uint8 on one CUDA device, rows at any distance; without `v`, `u` is NV12's chroma. NotBuilt in a build without CUDA.
        """

    def upload(self, y: Buffer, u: Buffer, v: Buffer | None, pitches_bytes: tuple[int, int, int], stream: int) -> None:
        """
        Enqueues the copy of host planes into this picture on `stream`. Page-locked planes are read after the call has returned; others are done with.
        """

    def download(self, y: Buffer, u: Buffer, v: Buffer | None, pitches_bytes: tuple[int, int, int], stream: int) -> None:
        """
        Enqueues the copy of this picture into host planes on `stream`; page-locked planes are written after the call has returned, padding between rows with them.
        """

    def copy_from(self, other: DevicePicture, stream: int) -> None:
        """Enqueues a copy of another picture of the same size and format."""

    def to_rgb(self, crop: tuple[float, float, float, float], out: Any, matrix: int, is_full_range: bool, value_range: tuple[float, float], stream: int) -> None:
        """
        Enqueues one kernel on `stream` that fills `out` (3, H, W), float32, float16 or bfloat16, with `crop` (x, y, width, height) of this picture.
        """

    def from_rgb(self, rgb: Any, matrix: int, is_full_range: bool, value_range: tuple[float, float], stream: int) -> None:
        """
        Enqueues one kernel on `stream` that writes this picture from `rgb` (3, H, W) of its size.
        """
