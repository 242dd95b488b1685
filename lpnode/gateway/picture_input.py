"""The test picture as live input, like a camera: frames at their times, or not at all."""

from collections.abc import Sequence
from typing import Any

import av
from av.container import OutputContainer

from lpnode.gateway.live_encoder import LiveEncoder
from lpnode.gateway.media_input import Step
from lpnode.gateway.segment_writer import SegmentPiece, SegmentWriter
from lpnode.media.frame import TICKS_PER_SECOND
from lpnode.media.test_source import MovingPicture

_MAX_LATE = 2
"""Frames by which this machine may be behind before it leaves some out."""


class PictureInput:
    """Encodes the moving picture in real time. Frames are known by their number.

    Numbers count from 0 and fix the presentation time; when this machine is too slow, numbers are
    left out, as a camera leaves frames out.
    """

    def __init__(self, size: tuple[int, int], fps: int, *, duration_s: float) -> None:
        self._fps = fps
        self._num_frames = round(duration_s * fps)
        self._source = MovingPicture(*size)
        self._picture = av.VideoFrame(*size, "yuv420p")
        self._encoder = LiveEncoder(*size, fps)
        self._writer = SegmentWriter(self._add_streams)
        self._number = -1
        self.num_left_out = 0

    def prepare(self, elapsed_s: float) -> Step | None:
        """Draws the next picture."""
        number, due = self._number + 1, int(elapsed_s * self._fps)
        if due > number + _MAX_LATE:
            number = due
        if number >= self._num_frames:
            return None
        self.num_left_out += number - self._number - 1
        self._number = number
        self._source.draw(number, self._picture)
        return Step(number / self._fps, number)

    def produce(self) -> list[SegmentPiece]:
        """Encodes and muxes it."""
        pts_ticks = self._number * TICKS_PER_SECOND // self._fps
        pieces = []
        for packet in self._encoder.encode(self._picture, pts_ticks):
            pieces += self._writer.write(packet, 0, may_cut=packet.is_keyframe)
        return pieces

    def finish(self) -> list[SegmentPiece]:
        """Ends the last segment."""
        return self._writer.close()

    def _add_streams(self, container: OutputContainer) -> Sequence[Any]:
        return [self._encoder.add_stream(container)]
