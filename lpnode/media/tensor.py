"""Pictures to tensors and back, in one native pass each way.

Planes are read and written where the codec keeps them; no picture in between is ever made. For a
tensor on a CUDA device the planes themselves are copied to or from the device, and one kernel does
the rest there.
RGB tensors are (3, H, W), float32 or float16 (on a device bfloat16 too), R first, in the caller's
value range.
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

    Raises:
        InvalidArgument: a pixel format other than yuv420p, yuvj420p and nv12, or a tensor that is
            not contiguous (3, H, W) of a known dtype, or a crop outside the picture.
        NotBuilt: a CUDA tensor in a build without CUDA, or a path this machine does not run.
    """
    _check(out)
    if out.is_cuda:
        _to_device_tensor(frame, out, crop, value_range)
        return
    height, width = out.shape[1:]
    converter = _converter(
        (frame.width, frame.height), crop, (width, height), frame.colour, value_range, path
    )
    if _is_nv12(frame.picture):
        y, uv = frame.picture.planes
        converter.convert_nv12(y, uv, (y.line_size, uv.line_size), out)
    else:
        y, u, v = frame.picture.planes
        converter.convert_i420(y, u, v, (y.line_size, u.line_size, v.line_size), out)


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

    Raises:
        InvalidArgument: another pixel format, size, shape or dtype.
        NotBuilt: a CUDA tensor in a build without CUDA, or a path this machine does not run.
    """
    _check(tensor)
    height, width = tensor.shape[1:]
    if picture.format.name not in ("yuv420p", "yuvj420p"):
        raise InvalidArgument(f"pixel format must be yuv420p, got {picture.format.name}")
    if (picture.width, picture.height) != (width, height):
        raise InvalidArgument(
            f"picture must be {width}x{height}, got {picture.width}x{picture.height}"
        )
    if tensor.is_cuda:
        _from_device_tensor(tensor, picture, colour, value_range)
        return
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


def _to_device_tensor(
    frame: Frame, out: torch.Tensor, crop: Crop, value_range: tuple[float, float]
) -> None:
    """Copies the planes to the device and enqueues the kernel on its current stream."""
    is_nv12 = _is_nv12(frame.picture)
    with torch.cuda.device(out.device):
        planes = [_rows(plane).to(out.device) for plane in frame.picture.planes]
        media.yuv_to_rgb_device(
            planes[0],
            planes[1],
            None if is_nv12 else planes[2],
            (frame.width, frame.height),
            (crop.x, crop.y, crop.width, crop.height),
            out,
            int(frame.colour.matrix),
            frame.colour.is_full_range,
            value_range,
            torch.cuda.current_stream().cuda_stream,
        )


def _from_device_tensor(
    tensor: torch.Tensor,
    picture: av.VideoFrame,
    colour: Colour,
    value_range: tuple[float, float],
) -> None:
    """Enqueues the kernel on the device's current stream, waits, and copies the planes back."""
    height, width = tensor.shape[1:]
    half = ((height + 1) // 2, (width + 1) // 2)
    with torch.cuda.device(tensor.device):
        y, u, v = (
            torch.empty(shape, dtype=torch.uint8, device=tensor.device)
            for shape in ((height, width), half, half)
        )
        media.rgb_to_yuv_device(
            tensor,
            y,
            u,
            v,
            int(colour.matrix),
            colour.is_full_range,
            value_range,
            torch.cuda.current_stream().cuda_stream,
        )
        for plane, values in zip(picture.planes, (y, u, v), strict=True):
            _rows(plane)[: values.shape[0], : values.shape[1]].copy_(values)


def _rows(plane: av.video.plane.VideoPlane) -> torch.Tensor:
    """The plane's own memory as (rows, pitch) bytes."""
    return torch.frombuffer(plane, dtype=torch.uint8).view(-1, plane.line_size)


def _is_nv12(picture: av.VideoFrame) -> bool:
    """False for yuv420p and yuvj420p. Raises: InvalidArgument: any other format."""
    name = picture.format.name
    if name not in ("yuv420p", "yuvj420p", "nv12"):
        raise InvalidArgument(f"pixel format must be yuv420p, yuvj420p or nv12, got {name}")
    return name == "nv12"


_HOST_DTYPES = (torch.float32, torch.float16)


def _check(tensor: torch.Tensor) -> None:
    dtypes = (*_HOST_DTYPES, torch.bfloat16) if tensor.is_cuda else _HOST_DTYPES
    is_planar = tensor.dim() == 3 and tensor.shape[0] == 3 and tensor.is_contiguous()
    if not is_planar or tensor.dtype not in dtypes:
        raise InvalidArgument(
            f"tensor must be contiguous (3, H, W), one of {', '.join(map(str, dtypes))}, "
            f"got {tuple(tensor.shape)} {tensor.dtype}"
        )
