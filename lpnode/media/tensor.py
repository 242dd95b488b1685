"""Pictures to tensors and back, in one native pass each way.

Planes are read and written where the codec keeps them; no picture in between is ever made. For a
tensor on a CUDA device see ``device_picture``, whose classes a frame loop uses itself: the
functions here wait for the device.
RGB tensors are (3, H, W), float32 or float16 (on a device bfloat16 too), R first, in the caller's
value range.
"""

import atexit
from functools import lru_cache

import av
import torch

from lpnode._native import media
from lpnode.errors import InvalidArgument
from lpnode.media.crop import Crop, cover_crop
from lpnode.media.device_picture import DeviceInput, DeviceOutput, Geometry
from lpnode.media.frame import Colour, Frame

__all__ = ["Crop", "cover_crop", "to_frame", "to_tensor"]


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
    formats = ("yuv420p", "yuvj420p", "cuda") if tensor.is_cuda else ("yuv420p", "yuvj420p")
    if picture.format.name not in formats:
        raise InvalidArgument(
            f"pixel format must be {' or '.join(formats)}, got {picture.format.name}"
        )
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
    with torch.cuda.device(out.device):
        conversion = DeviceInput(Geometry.of(frame), crop, value_range, out.device)
        conversion.upload(frame)
        conversion.enqueue(out)
        # The picture is the caller's again, and may be page-locked or the decoder's.
        torch.cuda.current_stream().synchronize()


def _from_device_tensor(
    tensor: torch.Tensor,
    picture: av.VideoFrame,
    colour: Colour,
    value_range: tuple[float, float],
) -> None:
    size = (picture.width, picture.height)
    is_nv12 = picture.format.name == "cuda"
    with torch.cuda.device(tensor.device):
        conversion = DeviceOutput(*size, colour, value_range, tensor.device, is_nv12=is_nv12)
        conversion.enqueue(tensor)
        conversion.download(picture)
        torch.cuda.current_stream().synchronize()


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
