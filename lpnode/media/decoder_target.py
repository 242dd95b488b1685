"""Where decoded pictures end up: in host memory, or in a CUDA device's."""

import logging
from typing import Protocol

import av
from av.codec.hwaccel import HWAccel
from av.video.codeccontext import VideoCodecContext

from lpnode.media.frame import Colour, Frame

_log = logging.getLogger(__name__)

_IN_PLACE_FORMATS = frozenset({"yuv420p", "yuvj420p", "nv12"})
_NUM_FRAMES_IN_USE = 8
"""Decoded pictures that a session holds beside those that the decoder predicts from: a call's
worth, the newest one waiting and the one in the pipeline."""


class FrameTarget(Protocol):
    """Makes the decoder, and frames of what comes out of it. Used from the decode thread."""

    def create_decoder(self) -> VideoCodecContext:
        """An H.264 decoder that is not open yet."""

    def frame(self, picture: av.VideoFrame, pts_ticks: int, colour: Colour) -> Frame:
        """What the session gets for a decoded picture."""


class HostFrames:
    """Frames in libavcodec's own host memory."""

    def create_decoder(self) -> VideoCodecContext:
        """See ``FrameTarget.create_decoder``."""
        return _create(None)

    def frame(self, picture: av.VideoFrame, pts_ticks: int, colour: Colour) -> Frame:
        """See ``FrameTarget.frame``; what is not 8-bit 4:2:0 is converted."""
        return Frame(_in_420(picture), pts_ticks, colour)


class DeviceFrames:
    """Frames in device memory from NVDEC, or else in page-locked host memory.

    libavcodec's own H.264 decoder parses the stream either way and has NVDEC do the blocks, so that
    damage, reordering and delay are treated alike. It falls back by itself, stream by stream, where
    the chip does not take a profile or size; where there is no decoder at all, one line says so.
    """

    def __init__(self, device: str) -> None:
        """``device`` is ``cuda`` or ``cuda:N``."""
        _, _, index = device.partition(":")
        self._index = int(index or 0)
        self._has_decoder = True

    def create_decoder(self) -> VideoCodecContext:
        """See ``FrameTarget.create_decoder``."""
        if self._has_decoder:
            try:
                # With frames that stay there, PyAV takes the primary context, which is PyTorch's.
                codec = _create(HWAccel("cuda", device=str(self._index), is_hw_owned=True))
            except (av.FFmpegError, NotImplementedError) as error:
                self._has_decoder = False
                _log.warning("cuda:%d decodes no video, the CPU does: %s", self._index, error)
            else:
                codec.options = {"extra_hw_frames": str(_NUM_FRAMES_IN_USE)}
                return codec
        return _create(None)

    def frame(self, picture: av.VideoFrame, pts_ticks: int, colour: Colour) -> Frame:
        """See ``FrameTarget.frame``."""
        import torch

        from lpnode.media.device_picture import page_locked_copy

        is_on_device = picture.format.name == "cuda"
        if is_on_device and picture.sw_format is not None and picture.sw_format.name == "nv12":
            # libavcodec orders what it does to the picture on the device's default stream.
            ready = torch.cuda.Event()  # type: ignore[no-untyped-call]
            ready.record(torch.cuda.default_stream(self._index))
            return Frame(picture, pts_ticks, colour, ready)
        picture = _in_420(picture)  # from the device too, if it has more than 8 bits
        if torch.cuda.is_available() and not (picture.width % 2 or picture.height % 2):
            picture = page_locked_copy(picture)
        return Frame(picture, pts_ticks, colour)


def _create(hardware: HWAccel | None) -> VideoCodecContext:
    codec = av.CodecContext.create("h264", "r", hwaccel=hardware)
    assert isinstance(codec, VideoCodecContext)
    return codec


def _in_420(picture: av.VideoFrame) -> av.VideoFrame:
    if picture.format.name in _IN_PLACE_FORMATS:
        return picture
    return picture.reformat(format="yuv420p")  # 4:2:2, 4:4:4 or more than 8 bits: a copy
