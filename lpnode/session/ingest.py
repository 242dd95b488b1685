"""Input of one session, on its decode thread: transport stream in, frames and audio out."""

import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from lpnode.media.decoder import DecoderConfig, VideoDecoder
from lpnode.media.frame import TICKS_PER_SECOND, Frame
from lpnode.media.pacing import FramePacer
from lpnode.media.transport_stream import AccessUnit, Codec, TransportStreamReader

MAX_UNITS_A_CALL = 4
"""Pictures decoded before the loop hears of them: a backlog must not hide the newest frame."""
MAX_WAITING_UNITS = 256
"""Coded pictures that may wait: seconds of video, with a random-access picture among them as a
rule. A decoder that is too slow stops taking input beyond that."""
MAX_LAG_TICKS = TICKS_PER_SECOND
"""Coded pictures waiting over a longer time than this are a backlog to be skipped."""


MAX_STEP_TICKS = 10 * TICKS_PER_SECOND
"""A frame further than this from the one before is not believed until the next one agrees."""


@dataclass(frozen=True, slots=True)
class Tracks:
    """What the input consists of. ``opus_channels`` is its channel configuration, if Opus."""

    has_video: bool
    audio_codec: Codec | None
    opus_channels: int


@dataclass(slots=True)
class Decoded:
    """What one call made of its input."""

    frames: list[Frame] = field(default_factory=list)
    """Those that the frame-rate cap kept, in order of presentation."""
    audio: list[AccessUnit] = field(default_factory=list)
    num_decoded: int = 0
    num_skipped: int = 0
    """Coded pictures of a backlog that were never decoded."""
    errors: list[str] = field(default_factory=list)
    tracks: Tracks | None = None
    """Set when the input's tracks became known or changed."""
    num_waiting: int = 0
    """Coded pictures that are left: call again, with or without new input."""


class Ingest:
    """Demuxes, decodes and paces. Every call blocks: make them on one thread."""

    def __init__(
        self,
        *,
        max_framerate: int,
        decoder: DecoderConfig | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._reader = TransportStreamReader()
        self._decoder = VideoDecoder(decoder, clock)
        self._pacer = FramePacer(max_framerate)
        self._waiting: deque[AccessUnit] = deque()
        self._tracks: Tracks | None = None
        self._num_failures = 0
        self._last_pts_ticks: int | None = None
        self._doubtful_pts_ticks: int | None = None

    def set_max_framerate(self, max_framerate: int) -> None:
        """Changes the cap. From any thread: it replaces one number."""
        self._pacer.set_max_framerate(max_framerate)

    def feed(self, pieces: Sequence[bytes]) -> Decoded:
        """Takes input as it came, ``b""`` where a segment ended, and decodes a few pictures.

        Raises: DecodeError: the input has no H.264 where it has video, or the decoder failed for
            the last time.
        """
        decoded = Decoded()
        for piece in pieces:
            units = self._reader.feed(piece) if piece else self._reader.flush()
            for unit in units:
                (self._waiting if unit.codec is Codec.H264 else decoded.audio).append(unit)
        self._note_tracks(decoded)
        decoded.num_skipped = self._skip_backlog()
        for _ in range(min(len(self._waiting), MAX_UNITS_A_CALL)):
            frames = self._decoder.decode(self._waiting.popleft())
            decoded.num_decoded += len(frames)
            for frame in frames:
                if self._is_credible(frame.pts_ticks) and self._pacer.keeps(frame.pts_ticks):
                    decoded.frames.append(frame)
        if self._decoder.num_failures > self._num_failures:
            decoded.errors.append("Error decoding video: the decoder was restarted")
        self._num_failures = self._decoder.num_failures
        decoded.num_waiting = len(self._waiting)
        return decoded

    def _is_credible(self, pts_ticks: int) -> bool:
        """Whether a time stamp fits those before it.

        One damaged time stamp far ahead would make every later frame too early, for good: for the
        frame-rate cap and for an output whose time stamps must increase.
        """
        near = [at for at in (self._last_pts_ticks, self._doubtful_pts_ticks) if at is not None]
        if near and all(abs(pts_ticks - at) > MAX_STEP_TICKS for at in near):
            self._doubtful_pts_ticks = pts_ticks
            return False
        self._doubtful_pts_ticks = None
        self._last_pts_ticks = pts_ticks
        return True

    def _note_tracks(self, decoded: Decoded) -> None:
        reader = self._reader
        if reader.has_video is None:
            return
        tracks = Tracks(reader.has_video, reader.audio_codec, reader.opus_channels)
        if tracks != self._tracks:
            self._tracks = decoded.tracks = tracks

    def _skip_backlog(self) -> int:
        waiting = self._waiting
        if not waiting or waiting[-1].dts_ticks - waiting[0].dts_ticks <= MAX_LAG_TICKS:
            return 0
        newest = next((i for i in range(len(waiting) - 1, 0, -1) if waiting[i].is_random_access), 0)
        for _ in range(newest):
            waiting.popleft()
        return newest
