"""The two clocks of a session as one."""

import time
from collections.abc import Callable


class Clock:
    """Seconds that never jump, and the wall-clock time that a moment of them stands for.

    The distance between the two is taken once, so that times of one session keep their order when
    the wall clock is set.
    """

    __slots__ = ("_offset_s", "now")

    def __init__(
        self,
        monotonic: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self.now = monotonic
        self._offset_s = wall() - monotonic()

    def wall_s(self, moment_s: float) -> float:
        """Seconds since the epoch at ``moment_s`` of ``now()``."""
        return moment_s + self._offset_s

    def wall_ms(self, moment_s: float) -> int:
        """Whole milliseconds since the epoch at ``moment_s`` of ``now()``."""
        return round(self.wall_s(moment_s) * 1000)
