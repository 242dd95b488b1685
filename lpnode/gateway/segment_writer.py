"""MPEG-TS segments as a gateway makes them from a client's stream.

Each segment has a muxer of its own, so that tables come first and continuity counters restart;
presentation times are kept. FFmpeg's muxer is used on purpose: it is not the one of the node under
measurement. Source: live.md section 4.1.
"""

import time
from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any, NamedTuple

import av
from av.container import OutputContainer

MIN_SEGMENT_S = 1.0
_MUXER_OPTIONS = {
    # Each packet leaves as it is written, and no stream waits for another one.
    "flush_packets": "1",
    "max_interleave_delta": "1",
    # Times before 0 (of B-frames) are written as they are; a shift would be per segment.
    "avoid_negative_ts": "disabled",
}

AddStreams = Callable[[OutputContainer], Sequence[Any]]
"""Adds the streams to a new container and returns them in the order of their index."""


class SegmentPiece(NamedTuple):
    """Bytes to publish as they are. ``begins_segment`` is True for the first of a segment."""

    data: bytes
    begins_segment: bool


class _Bytes:
    """A file to FFmpeg, a list of written pieces to us."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []

    def write(self, data: bytes) -> int:
        self._pieces.append(bytes(data))
        return len(data)

    def take(self) -> bytes:
        pieces, self._pieces = self._pieces, []
        return b"".join(pieces)


class SegmentWriter:
    """Cuts at a key frame when a second has passed on the clock and in presentation time.

    Blocking; used from one thread.
    """

    def __init__(
        self,
        add_streams: AddStreams,
        *,
        min_segment_s: float = MIN_SEGMENT_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._add_streams = add_streams
        self._min_segment_s = min_segment_s
        self._clock = clock
        self._file = _Bytes()
        self._container: OutputContainer | None = None
        self._streams: Sequence[Any] = ()
        self._begun_at = 0.0
        self._begun_pts_s = 0.0
        self._is_at_start = True

    def write(self, packet: "av.Packet[Any]", index: int, *, may_cut: bool) -> list[SegmentPiece]:
        """Muxes one packet of stream ``index``; a cut may happen before it if ``may_cut``.

        Returns: what is to be published now, at most the end of a segment and the begin of one.
        """
        pts_s = float((packet.pts or 0) * (packet.time_base or Fraction(1)))
        pieces = []
        if self._container is None or (may_cut and self._is_long_enough(pts_s)):
            pieces = self.close()
            self._begin(pts_s)
        assert self._container is not None
        packet.stream = self._streams[index]
        self._container.mux(packet)
        return pieces + self._written()

    def close(self) -> list[SegmentPiece]:
        """Ends the last segment. Returns: what is left of it."""
        if self._container is not None:
            self._container.close()
            self._container = None
        return self._written()

    def _is_long_enough(self, pts_s: float) -> bool:
        return (
            self._clock() - self._begun_at >= self._min_segment_s
            and pts_s - self._begun_pts_s >= self._min_segment_s
        )

    def _begin(self, pts_s: float) -> None:
        self._begun_at = self._clock()
        self._begun_pts_s = pts_s
        self._is_at_start = True
        self._container = av.open(self._file, "w", format="mpegts", options=_MUXER_OPTIONS)
        self._streams = self._add_streams(self._container)

    def _written(self) -> list[SegmentPiece]:
        # The muxer may keep the first packet back until it has one of each stream.
        data = self._file.take()
        if not data:
            return []
        begins_segment, self._is_at_start = self._is_at_start, False
        return [SegmentPiece(data, begins_segment)]
