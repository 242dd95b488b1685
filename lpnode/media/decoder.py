"""H.264 access units to pictures, frame by frame and without look-ahead."""

import logging
import re
import time
from collections.abc import Callable
from dataclasses import dataclass

import av
from av.codec.context import Flags
from av.video.codeccontext import VideoCodecContext

from lpnode.errors import ConfigError, DecodeError
from lpnode.media.decoder_target import DeviceFrames, FrameTarget, HostFrames
from lpnode.media.frame import Colour, Frame, Matrix
from lpnode.media.transport_stream import AccessUnit

_log = logging.getLogger(__name__)

# ITU-T H.273: 4 is FCC, 5 and 6 are BT.601 for 625 and 525 lines; 2 is "unspecified".
_BT601_COEFFICIENTS = frozenset({4, 5, 6})
_UNSPECIFIED = 2
_FULL_RANGE = 2
_HD_LINES = 720


@dataclass(frozen=True, slots=True, kw_only=True)
class DecoderConfig:
    """How much damage is tolerated. Defaults are the reference's (live.md 4.1)."""

    max_errors: int = 10
    """Outstanding errors; each good frame takes one off, the next one restarts the decoder."""
    max_failures: int = 3
    """The failure with this number ends the stream."""
    failure_memory_s: float = 120.0
    """A failure is forgotten when none followed for so long."""
    max_pixels: int = 4096 * 2304
    """Larger pictures are errors, so that a parameter set cannot claim gigabytes."""
    num_threads: int = 1
    """Slice threads; frame threads would add a frame of delay each."""
    device: str = "cpu"
    """Where frames are wanted, as torch names it. A CUDA device decodes them itself if it can; else
    they are put in page-locked memory, from where it copies them."""

    def __post_init__(self) -> None:
        if self.max_errors < 0 or self.max_failures < 1 or self.num_threads < 1:
            raise ConfigError(
                "max_errors must be at least 0, max_failures and num_threads at least 1, got "
                f"{self.max_errors}, {self.max_failures}, {self.num_threads}"
            )
        if self.max_pixels < 16 * 16:
            raise ConfigError(f"max_pixels must be at least 256, got {self.max_pixels}")
        if not re.fullmatch(r"cpu|cuda(:\d+)?", self.device, re.ASCII):
            raise ConfigError(f"device: expected cpu, cuda or cuda:N, got {self.device!r}")


class VideoDecoder:
    """Decodes one H.264 track; parameter sets come in band.

    Begins, and goes on after a loss, at a random access point. Blocks: call it on a codec thread,
    one call at a time; libavcodec runs without the GIL.
    """

    def __init__(
        self, config: DecoderConfig | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._config = config or DecoderConfig()
        self._clock = clock
        self._has_reordering = False
        self._is_waiting = True
        self._num_errors = 0
        self._num_failures = 0
        self._last_failure_s = 0.0
        is_wanted_on_host = self._config.device == "cpu"
        self._target: FrameTarget = (
            HostFrames() if is_wanted_on_host else DeviceFrames(self._config.device)
        )
        self._codec = self._open()

    @property
    def num_errors(self) -> int:
        """Outstanding errors against the budget."""
        return self._num_errors

    @property
    def num_failures(self) -> int:
        """Restarts that are not forgotten."""
        return self._num_failures

    def decode(self, unit: AccessUnit) -> list[Frame]:
        """Decodes one access unit.

        Returns: the pictures that are now complete, in order of presentation: the unit's own at
            once, or after the reordering delay if the stream has B-frames. None while waiting for
            a random access point.
        Raises: DecodeError: the decoder failed for the last time.
        """
        frames: list[Frame] = []
        if unit.has_discontinuity and not unit.is_random_access and not self._is_waiting:
            # Pictures would be predicted from ones that are missing.
            frames = self.flush()
            self._is_waiting = True
        if self._is_waiting and not unit.is_random_access:
            return frames
        self._is_waiting = False
        if unit.pts_ticks != unit.dts_ticks and not self._has_reordering:
            self._allow_reordering(frames)
        packet = av.Packet(unit.payload)  # type: ignore[arg-type]  # takes any buffer, in place
        packet.pts = unit.pts_ticks
        packet.dts = unit.dts_ticks
        try:
            pictures = self._codec.decode(packet)
        except av.FFmpegError as error:
            self._count_error(error)
            return frames
        for picture in pictures:
            self._num_errors = max(0, self._num_errors - 1)
            if (frame := self._to_frame(picture)) is not None:
                frames.append(frame)
        return frames

    def flush(self) -> list[Frame]:
        """Returns pictures held back for reordering; decoding goes on at a random access point."""
        frames = self._drained()
        self._codec.flush_buffers()
        self._is_waiting = True
        return frames

    def _drained(self) -> list[Frame]:
        try:
            pictures = self._codec.decode(None)
        except av.FFmpegError:  # what was held back is damaged as well
            pictures = []
        return [frame for picture in pictures if (frame := self._to_frame(picture)) is not None]

    def _to_frame(self, picture: av.VideoFrame) -> Frame | None:
        if picture.pts is None:
            return None
        return self._target.frame(picture, picture.pts, colour_of(picture))

    def _open(self) -> VideoCodecContext:
        codec = self._target.create_decoder()
        codec.thread_count = self._config.num_threads
        codec.thread_type = "SLICE"
        codec.options = {**codec.options, "max_pixels": str(self._config.max_pixels)}
        if not self._has_reordering:
            codec.flags |= Flags.low_delay
        return codec

    def _allow_reordering(self, frames: list[Frame]) -> None:
        # With the low-delay flag, B-frames of encoders that do not announce their reordering come
        # out in coding order. The first unit with two time stamps is early enough to notice.
        self._has_reordering = True
        if self._codec.is_open:
            frames += self._drained()
        self._codec = self._open()

    def _count_error(self, error: av.FFmpegError) -> None:
        self._num_errors += 1
        if self._num_errors <= self._config.max_errors:
            return
        now = self._clock()
        if now - self._last_failure_s > self._config.failure_memory_s:
            self._num_failures = 0
        self._last_failure_s = now
        self._num_failures += 1
        if self._num_failures >= self._config.max_failures:
            raise DecodeError(
                f"the H.264 decoder failed {self._num_failures} times; last error: {error.strerror}"
            ) from error
        _log.warning(
            "H.264 decoder restarted after %d errors: %s", self._num_errors, error.strerror
        )
        self._num_errors = 0
        self._is_waiting = True
        self._codec = self._open()


def colour_of(picture: av.VideoFrame) -> Colour:
    """How to read the picture; a matrix that is not stated follows from the number of lines.

    BT.601 below 720 lines, else BT.709; limited range unless full range is stated.
    """
    coefficients = int(picture.colorspace)
    if coefficients == _UNSPECIFIED:
        matrix = Matrix.BT709 if picture.height >= _HD_LINES else Matrix.BT601
    else:
        matrix = Matrix.BT601 if coefficients in _BT601_COEFFICIENTS else Matrix.BT709
    is_full_range = int(picture.color_range) == _FULL_RANGE or picture.format.name == "yuvj420p"
    return Colour(matrix, is_full_range)
