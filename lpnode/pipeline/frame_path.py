"""How pictures reach a pipeline's tensors and come back: on the host, or through a CUDA device."""

from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Protocol, TypeVar

import av
import torch

from lpnode.media.crop import cover_crop
from lpnode.media.device_picture import DeviceInput, DeviceOutput, Geometry
from lpnode.media.frame import Colour, Frame
from lpnode.media.tensor import to_frame, to_tensor
from lpnode.pipeline.pipeline import PipelineSpec

T = TypeVar("T")

MAX_CONVERSIONS = 32
"""Geometries whose planes are kept on the device, each way; one of 1080p takes 3 MiB."""

# Note [One stream a model]
# A model's thread works on one CUDA stream of its own: copies in, conversions, the pipeline, and
# copies out are in the order in which they were enqueued. Frames of several sessions are rows of
# one UNet call, so streams of sessions would only meet there and part again. What a session does
# on its own, decoding to device memory, is on another stream, and the frame carries the event that
# orders the two. The host waits once a batch, for an event behind the last copy. It is not the
# default stream, because libavcodec works there: the two would wait for each other.
# Decode threads allocate and launch at any time, so a graph is to be captured with
# capture_error_mode="thread_local": in the default mode a call of theirs would end the capture.


class FramePath(Protocol):
    """The conversions around one pipeline. Used from the model's thread."""

    def enter_thread(self) -> None:
        """Called first of all on the model's thread, before the pipeline is loaded there."""

    def to_tensor(self, frame: Frame, out: torch.Tensor) -> None:
        """Has ``out`` (3, H, W) filled with the middle of ``frame``, scaled to cover it."""

    def to_picture(self, tensor: torch.Tensor, picture: av.VideoFrame, colour: Colour) -> None:
        """Has ``tensor`` (3, H, W) written into ``picture``, of the same size."""

    def wait(self) -> None:
        """Returns when all that was asked for is done. Raises: torch.AcceleratorError."""


def frame_path(spec: PipelineSpec) -> FramePath:
    """The path to tensors of ``spec.device``."""
    if torch.device(spec.device).type == "cuda":
        return DevicePath(spec)
    return HostPath(spec)


class HostPath:
    """Converts at once, on the calling thread."""

    def __init__(self, spec: PipelineSpec) -> None:
        self._value_range = spec.value_range

    def enter_thread(self) -> None:
        """See ``FramePath.enter_thread``."""

    def to_tensor(self, frame: Frame, out: torch.Tensor) -> None:
        """See ``FramePath.to_tensor``."""
        height, width = out.shape[1:]
        crop = cover_crop(frame.width, frame.height, width, height)
        to_tensor(frame, out, crop, self._value_range)

    def to_picture(self, tensor: torch.Tensor, picture: av.VideoFrame, colour: Colour) -> None:
        """See ``FramePath.to_picture``."""
        to_frame(tensor, picture, colour, self._value_range)

    def wait(self) -> None:
        """Everything is done already."""


class DevicePath:
    """Enqueues copies and kernels on the thread's stream. See Note [One stream a model]."""

    def __init__(self, spec: PipelineSpec) -> None:
        self._spec = spec
        self._device = torch.device(spec.device)
        self._inputs: OrderedDict[Hashable, DeviceInput] = OrderedDict()
        self._outputs: OrderedDict[Hashable, DeviceOutput] = OrderedDict()
        self._done: torch.cuda.Event | None = None

    def enter_thread(self) -> None:
        """Makes a stream of its own the calling thread's current one, and its device likewise."""
        if self._device.index is None:
            self._device = torch.device("cuda", torch.cuda.current_device())
        torch.cuda.set_device(self._device)
        stream = torch.cuda.Stream(self._device)  # type: ignore[no-untyped-call]
        torch.cuda.set_stream(stream)

    def to_tensor(self, frame: Frame, out: torch.Tensor) -> None:
        """See ``FramePath.to_tensor``; ``frame`` must stay until ``wait`` has returned."""
        height, width = out.shape[1:]
        geometry = Geometry.of(frame)
        crop = cover_crop(frame.width, frame.height, width, height)
        conversion = _kept(
            self._inputs,
            (geometry, crop),
            lambda: DeviceInput(geometry, crop, self._spec.value_range, self._device),
        )
        # Frames that share planes follow each other on the stream: none is overwritten early.
        conversion.upload(frame)
        conversion.enqueue(out)

    def to_picture(self, tensor: torch.Tensor, picture: av.VideoFrame, colour: Colour) -> None:
        """See ``FramePath.to_picture``; ``picture`` holds the result when ``wait`` has returned."""
        height, width = tensor.shape[1:]
        is_nv12 = picture.format.name in ("nv12", "cuda")
        conversion = _kept(
            self._outputs,
            (width, height, colour, is_nv12),
            lambda: DeviceOutput(
                width, height, colour, self._spec.value_range, self._device, is_nv12=is_nv12
            ),
        )
        conversion.enqueue(tensor)
        conversion.download(picture)

    def wait(self) -> None:
        """See ``FramePath.wait``: for an event, while other streams of the device go on."""
        if self._done is None:
            self._done = torch.cuda.Event()  # type: ignore[no-untyped-call]
        self._done.record(torch.cuda.current_stream(self._device))
        self._done.synchronize()


def _kept(kept: OrderedDict[Hashable, T], key: Hashable, make: Callable[[], T]) -> T:
    """The object of this key, made if it is new; the one that was used longest ago gives way."""
    value = kept.get(key)
    if value is None:
        value = kept[key] = make()
        if len(kept) > MAX_CONVERSIONS:
            kept.popitem(last=False)
    else:
        kept.move_to_end(key)
    return value
