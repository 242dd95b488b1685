"""The frame-rate cap of live input: which frames are kept."""

from lpnode.errors import InvalidArgument
from lpnode.media.frame import TICKS_PER_SECOND


class FramePacer:
    """Keeps at most ``max_framerate`` frames a second of presentation time.

    The choice of frames is that of the reference, to the bit: the same double-precision sums.
    Source: live.md 4.2 (ai-runner trickle/decoder.py).
    """

    def __init__(self, max_framerate: int = 24) -> None:
        self._due_s = 0.0
        self.set_max_framerate(max_framerate)

    def set_max_framerate(self, max_framerate: int) -> None:
        """Changes the cap from the next frame on. Frames a second, 1 to 60."""
        if not 1 <= max_framerate <= 60:
            raise InvalidArgument(f"max_framerate must be 1 to 60, got {max_framerate}")
        self._interval_s = 1.0 / max_framerate

    def keeps(self, pts_ticks: int) -> bool:
        """Whether the frame is kept; call it once a frame, in order of presentation."""
        pts_s = float(pts_ticks) / TICKS_PER_SECOND
        if pts_s < self._due_s:
            return False
        late = pts_s > self._due_s + self._interval_s
        self._due_s = (pts_s if late else self._due_s) + self._interval_s
        return True
