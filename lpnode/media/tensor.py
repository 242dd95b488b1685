"""Pictures to tensors and back, in one native pass each way.

Planes are read and written where the codec keeps them; no picture in between is ever made.
RGB tensors are (3, H, W), float32 or float16, R first, in the caller's value range.
"""

import atexit
from dataclasses import dataclass
from functools import lru_cache

import av
import torch

from lpnode._native import media
from lpnode.errors import InvalidArgument
from lpnode.media.frame import Colour, Frame


@dataclass(frozen=True, slots=True)
class Crop:
    """A rectangle of a picture, in its pixels; edges may fall between pixels."""

    x: float
    y: float
    width: float
    height: float


def cover_crop(src_w: int, src_h: int, dst_w: int, dst_h: int) -> Crop:
    """The part of a picture that fills the target when scaled to cover it, centred.

    The picture is thought scaled, keeping its aspect, until it covers the target; the dimension
    that is then too long is rounded down to even (but never below the target), and the middle is
    cut out. All in pixels.
    """
    if min(src_w, src_h, dst_w, dst_h) < 1:
        raise InvalidArgument(f"sizes must be positive, got {src_w}x{src_h} to {dst_w}x{dst_h}")
    scaled_w, scaled_h = dst_w, dst_h
    if src_w * dst_h > dst_w * src_h:
        scaled_w = max(src_w * dst_h // src_h // 2 * 2, dst_w)
    elif src_w * dst_h < dst_w * src_h:
        scaled_h = max(src_h * dst_w // src_w // 2 * 2, dst_h)
    left, top = (scaled_w - dst_w) // 2, (scaled_h - dst_h) // 2
    pixel_w, pixel_h = src_w / scaled_w, src_h / scaled_h
    return Crop(left * pixel_w, top * pixel_h, dst_w * pixel_w, dst_h * pixel_h)


# A session keeps one geometry; the limit only bounds what odd inputs could pile up.
@lru_cache(maxsize=128)
def _converter(
    source_size: tuple[int, int],
    crop: Crop,
    size: tuple[int, int],
    colour: Colour,
    value_range: tuple[float, float],
    path: str,
) -> media.YuvToRgb:
    return media.YuvToRgb(
        source_size,
        (crop.x, crop.y, crop.width, crop.height),
        size,
        int(colour.matrix),
        colour.is_full_range,
        value_range,
        path,
    )


# Native objects that outlive the interpreter would be reported as leaks.
atexit.register(_converter.cache_clear)


def to_tensor(
    frame: Frame,
    out: torch.Tensor,
    crop: Crop,
    value_range: tuple[float, float],
    *,
    path: str = "auto",
) -> None:
    """Fills ``out`` (3, H, W) with ``crop`` of the picture, resized bilinearly.

    RGB black and white become ``value_range``. ``path`` picks the instruction set: ``auto``,
    ``portable``, ``avx2`` or ``avx512``. The GIL is released; nothing is allocated for a geometry
    that was seen before.

    Raises: InvalidArgument: a pixel format other than yuv420p, yuvj420p and nv12, or a tensor that
        is not contiguous (3, H, W) float32 or float16, or a crop outside the picture.
    """
    _check(out)
    height, width = out.shape[1:]
    converter = _converter(
        (frame.width, frame.height), crop, (width, height), frame.colour, value_range, path
    )
    planes = frame.picture.planes
    name = frame.picture.format.name
    if name in ("yuv420p", "yuvj420p"):
        y, u, v = planes
        pitches_bytes = (y.line_size, u.line_size, v.line_size)
        converter.convert_i420(y, u, v, pitches_bytes, out)
    elif name == "nv12":
        y, uv = planes
        converter.convert_nv12(y, uv, (y.line_size, uv.line_size), out)
    else:
        raise InvalidArgument(f"pixel format must be yuv420p, yuvj420p or nv12, got {name}")


def to_frame(
    tensor: torch.Tensor,
    picture: av.VideoFrame,
    colour: Colour,
    value_range: tuple[float, float],
    *,
    path: str = "auto",
) -> None:
    """Writes ``tensor`` (3, H, W) into the planes of ``picture``, of the same size and yuv420p.

    Values outside ``value_range`` are clamped and NaN becomes black. Chroma is the mean of each
    2x2 block. The GIL is released.

    Raises: InvalidArgument: another pixel format, size, shape or dtype.
    """
    _check(tensor)
    height, width = tensor.shape[1:]
    if picture.format.name not in ("yuv420p", "yuvj420p"):
        raise InvalidArgument(f"pixel format must be yuv420p, got {picture.format.name}")
    if (picture.width, picture.height) != (width, height):
        raise InvalidArgument(
            f"picture must be {width}x{height}, got {picture.width}x{picture.height}"
        )
    y, u, v = picture.planes
    media.rgb_to_i420(
        tensor,
        y,
        u,
        v,
        (y.line_size, u.line_size, v.line_size),
        int(colour.matrix),
        colour.is_full_range,
        value_range,
        path,
    )


def _check(tensor: torch.Tensor) -> None:
    is_planar = tensor.dim() == 3 and tensor.shape[0] == 3 and tensor.is_contiguous()
    if not is_planar or tensor.dtype not in (torch.float32, torch.float16):
        raise InvalidArgument(
            "tensor must be contiguous (3, H, W) float32 or float16, "
            f"got {tuple(tensor.shape)} {tensor.dtype}"
        )
