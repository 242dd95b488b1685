"""Where one output segment ends and the next begins."""

from lpnode.errors import InvalidArgument
from lpnode.media.frame import TICKS_PER_SECOND


class Segmenter:
    """Cuts at the first key frame at or after each multiple of the segment duration.

    Multiples count from the first key frame. The writer puts tables before every key frame, so
    each segment begins with PAT, PMT and an IDR. Source: live.md 4.3.
    """

    def __init__(self, duration_s: float = 2.0) -> None:
        if duration_s <= 0:
            raise InvalidArgument(f"segment duration must be positive, got {duration_s} s")
        self._duration_ticks = round(duration_s * TICKS_PER_SECOND)
        self._first_ticks: int | None = None
        self._next_cut_ticks = 0

    def begins_segment(self, pts_ticks: int, *, is_key: bool) -> bool:
        """Whether this video packet begins a new segment; call it for each, before writing it.

        Packets before the first key frame belong to no segment: it returns False. In a stream
        without video every audio packet counts as a key frame.
        """
        if not is_key:
            return False
        if self._first_ticks is None:
            self._first_ticks = pts_ticks
        elif pts_ticks < self._next_cut_ticks:
            return False
        num_whole = (pts_ticks - self._first_ticks) // self._duration_ticks
        self._next_cut_ticks = self._first_ticks + (num_whole + 1) * self._duration_ticks
        return True
