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

def yuv_to_rgb_device(y: Any, u: Any, v: Any, source_size: tuple[int, int], crop: tuple[float, float, float, float], out: Any, matrix: int, is_full_range: bool, value_range: tuple[float, float], stream: int) -> None:
    """
    Fills `out` (3, H, W), float32, float16 or bfloat16, from planes (rows, pitch) uint8 on the same CUDA device; without `v`, `u` is NV12's chroma. Enqueued on `stream`, a CUDA stream of the current device; NotBuilt in a build without CUDA.
    """

def rgb_to_yuv_device(rgb: Any, y: Any, u: Any, v: Any, matrix: int, is_full_range: bool, value_range: tuple[float, float], stream: int) -> None:
    """
    Writes planes (rows, pitch) uint8 from `rgb` (3, H, W) on the same CUDA device, as yuv_to_rgb_device reads them.
    """
