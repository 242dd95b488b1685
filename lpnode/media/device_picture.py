"""Pictures on their way to a CUDA device's tensors and back.

Note [Copies of a frame on a device]
YUV crosses the bus, never RGB. In: the codec's planes → page-locked planes (``page_locked_copy``,
on the decode thread, because libavcodec has memory of its own) → fixed planes on the device (one
DMA copy, because a captured graph reads from fixed addresses) → tensor (one kernel). Where the
decoder is the device's, its planes are copied on the device and the host sees no pixel. Out:
tensor → fixed planes (one kernel) → the page-locked picture that the encoder reads (one DMA copy),
or the device picture that NVENC reads. The device sees all of it in the order of one stream; the
host waits for an event behind the last copy, never for the device.

Everything here wants the device to be the calling thread's current one, as PyTorch does where it
lends a tensor.
"""

from dataclasses import dataclass

import av
import torch
from torch.utils.dlpack import from_dlpack

from lpnode._native import media
from lpnode.errors import InvalidArgument
from lpnode.media.crop import Crop
from lpnode.media.frame import Colour, Frame

_PITCH_ALIGNMENT = 64
"""Bytes; rows begin at whole cache lines of the host and whole sectors of the device."""


@dataclass(frozen=True, slots=True)
class PlaneLayout:
    """Where the planes of an 8-bit 4:2:0 picture lie in one block of bytes, one behind the other.

    Sizes in pixels. Host and device blocks have the same layout, so that one copy moves all planes.
    """

    width: int
    height: int
    is_nv12: bool = False

    def __post_init__(self) -> None:
        if self.width < 1 or self.height < 1:
            raise InvalidArgument(f"sizes must be positive, got {self.width}x{self.height}")

    @property
    def num_bytes(self) -> int:
        """Size of the whole block."""
        return sum(rows * pitch for rows, _, pitch in self._planes())

    def planes(self, block: torch.Tensor) -> list[torch.Tensor]:
        """Views (rows, bytes of a row) of ``block``, uint8: Y, U and V, or Y and UV."""
        views, offset = [], block.storage_offset()
        for rows, row_bytes, pitch in self._planes():
            views.append(block.as_strided((rows, row_bytes), (pitch, 1), offset))
            offset += rows * pitch
        return views

    def _planes(self) -> list[tuple[int, int, int]]:
        """(rows, bytes of a row, pitch) of each plane."""
        half_width, half_height = (self.width + 1) // 2, (self.height + 1) // 2
        chroma = [2 * half_width] if self.is_nv12 else [half_width, half_width]
        sizes = [(self.height, self.width), *((half_height, width) for width in chroma)]
        return [
            (rows, width, -(-width // _PITCH_ALIGNMENT) * _PITCH_ALIGNMENT) for rows, width in sizes
        ]


@dataclass(frozen=True, slots=True)
class Geometry:
    """What a conversion to tensors is made for. The frames of one decoder keep it as a rule."""

    layout: PlaneLayout
    colour: Colour

    @classmethod
    def of(cls, frame: Frame) -> "Geometry":
        """Raises: InvalidArgument: not an 8-bit 4:2:0 picture of host or device memory."""
        picture = frame.picture
        name = picture.format.name
        if name == "cuda" and picture.sw_format is not None:
            name = picture.sw_format.name
        if name not in ("yuv420p", "yuvj420p", "nv12"):
            raise InvalidArgument(f"pixel format must be yuv420p, yuvj420p or nv12, got {name}")
        return cls(PlaneLayout(picture.width, picture.height, name == "nv12"), frame.colour)


class DeviceInput:
    """Frames of one geometry to RGB tensors: fixed planes on a device, and one kernel.

    ``upload`` stays outside a CUDA graph, ``enqueue`` may be captured in one. Both act on the
    device's current stream, allocate nothing and do not wait. Used from one thread.

    Args:
        crop: what of the picture is resized, bilinearly, to the tensor's size.
        value_range: what RGB black and white become.
    Raises: NotBuilt: a build without CUDA.
    """

    def __init__(
        self,
        geometry: Geometry,
        crop: Crop,
        value_range: tuple[float, float],
        device: torch.device,
    ) -> None:
        self.geometry = geometry
        self._crop = (crop.x, crop.y, crop.width, crop.height)
        self._value_range = value_range
        self._device = device
        self._picture = _new_picture(geometry.layout, device)

    def upload(self, frame: Frame) -> None:
        """Enqueues the copy of a frame's planes, of the same geometry, to the fixed ones.

        Page-locked and device planes must stay as they are until the stream has come here.
        """
        if Geometry.of(frame) != self.geometry:
            raise InvalidArgument(f"frame must be {self.geometry}, got {Geometry.of(frame)}")
        stream = torch.cuda.current_stream(self._device)
        if frame.ready is not None:
            stream.wait_event(frame.ready)
        if frame.picture.format.name == "cuda":
            self._picture.copy_from(_on_device(frame.picture), stream.cuda_stream)
        else:
            self._picture.upload(*_host_planes(frame.picture), stream.cuda_stream)

    def enqueue(self, out: torch.Tensor) -> None:
        """Launches the kernel that fills ``out`` (3, H, W), float32, float16 or bfloat16."""
        colour = self.geometry.colour
        stream = torch.cuda.current_stream(self._device)
        self._picture.to_rgb(
            self._crop,
            out,
            int(colour.matrix),
            colour.is_full_range,
            self._value_range,
            stream.cuda_stream,
        )


class DeviceOutput:
    """RGB tensors to pictures of one size: one kernel into fixed planes, and a copy from there.

    ``enqueue`` may be captured in a CUDA graph, ``download`` stays outside. Both act on the
    device's current stream, allocate nothing and do not wait. Used from one thread.

    Args:
        value_range: RGB black and white in the tensor; what is beyond is clamped, NaN is black.
        is_nv12: for NVENC and ``cuda`` pictures; otherwise three planes, which x264 wants.
    Raises: NotBuilt: a build without CUDA.
    """

    def __init__(
        self,
        width: int,
        height: int,
        colour: Colour,
        value_range: tuple[float, float],
        device: torch.device,
        *,
        is_nv12: bool = False,
    ) -> None:
        self._colour = colour
        self._value_range = value_range
        self._device = device
        self._picture = _new_picture(PlaneLayout(width, height, is_nv12), device)

    def enqueue(self, tensor: torch.Tensor) -> None:
        """Launches the kernel that reads ``tensor`` (3, H, W), float32, float16 or bfloat16."""
        stream = torch.cuda.current_stream(self._device)
        self._picture.from_rgb(
            tensor,
            int(self._colour.matrix),
            self._colour.is_full_range,
            self._value_range,
            stream.cuda_stream,
        )

    def download(self, picture: av.VideoFrame) -> None:
        """Enqueues the copy into ``picture``: ``yuv420p``, or with NV12 ``nv12`` or ``cuda``.

        A page-locked picture and a device picture hold the result when the stream has come here.
        """
        stream = torch.cuda.current_stream(self._device)
        if picture.format.name == "cuda":
            _on_device(picture).copy_from(self._picture, stream.cuda_stream)
        else:
            self._picture.download(*_host_planes(picture), stream.cuda_stream)


def picture_in(block: torch.Tensor, layout: PlaneLayout) -> av.VideoFrame:
    """A picture whose planes lie in ``block``, uint8 of ``layout.num_bytes``, which it keeps alive.

    A block of a CUDA device gives a ``cuda`` picture, which NVENC reads, and must be NV12.
    Raises: InvalidArgument: an odd size, which FFmpeg takes no foreign memory for.
    """
    if layout.width % 2 or layout.height % 2:
        raise InvalidArgument(f"sizes must be even, got {layout.width}x{layout.height}")
    pixel_format = "nv12" if layout.is_nv12 else "yuv420p"
    planes = tuple(layout.planes(block))
    return av.VideoFrame.from_dlpack(
        planes, format=pixel_format, width=layout.width, height=layout.height
    )


def device_picture(layout: PlaneLayout, device: torch.device) -> av.VideoFrame:
    """A ``cuda`` picture in memory of its own. ``layout`` must be NV12, as NVENC reads it."""
    with torch.cuda.device(device):
        block = torch.empty(layout.num_bytes, dtype=torch.uint8, device=device)
        return picture_in(block, layout)


def page_locked_picture(layout: PlaneLayout) -> av.VideoFrame:
    """A picture in page-locked memory, which the device reads and writes while the host goes on.

    The memory comes from PyTorch's cache of page-locked blocks, and goes back there with the
    picture: from frame to frame nothing is allocated.
    """
    block = torch.empty(layout.num_bytes, dtype=torch.uint8, pin_memory=True)
    return picture_in(block, layout)


def page_locked_copy(picture: av.VideoFrame) -> av.VideoFrame:
    """A host picture's planes in page-locked memory, without its other attributes.

    ``yuvj420p`` becomes ``yuv420p``: what range it has is the frame's ``colour`` to say.
    """
    layout = PlaneLayout(picture.width, picture.height, picture.format.name == "nv12")
    block = torch.empty(layout.num_bytes, dtype=torch.uint8, pin_memory=True)
    copy_planes(picture, layout.planes(block))
    return picture_in(block, layout)


def copy_planes(picture: av.VideoFrame, planes: list[torch.Tensor]) -> None:
    """Copies a host picture into planes (rows, bytes of a row)."""
    for plane, copy in zip(picture.planes, planes, strict=True):
        rows = torch.frombuffer(plane, dtype=torch.uint8).view(-1, plane.line_size)
        copy.copy_(rows[: copy.shape[0], : copy.shape[1]])


def _new_picture(layout: PlaneLayout, device: torch.device) -> media.DevicePicture:
    media.require_device_convert()  # before PyTorch says, in other words, what it lacks itself
    block = torch.empty(layout.num_bytes, dtype=torch.uint8, device=device)
    y, u, *v = layout.planes(block)
    return media.DevicePicture(layout.width, layout.height, y, u, v[0] if v else None)


def _on_device(picture: av.VideoFrame) -> media.DevicePicture:
    """The planes of a ``cuda`` picture, in place."""
    # Given the plane itself, PyTorch would ask it to order a stream, which PyAV does not do.
    y, uv = (from_dlpack(plane.__dlpack__()) for plane in picture.planes)
    return media.DevicePicture(picture.width, picture.height, y, uv.flatten(1), None)


def _host_planes(
    picture: av.VideoFrame,
) -> tuple[
    av.video.plane.VideoPlane,
    av.video.plane.VideoPlane,
    av.video.plane.VideoPlane | None,
    tuple[int, int, int],
]:
    y, u, *rest = picture.planes
    v = rest[0] if rest else None
    return y, u, v, (y.line_size, u.line_size, 0 if v is None else v.line_size)
