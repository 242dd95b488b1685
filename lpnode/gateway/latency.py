"""How long frames take from one end to the other, and how many come back."""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class LatencySummary:
    """Nearest-rank percentiles over ``count`` frames, in seconds."""

    count: int
    p50_s: float
    p95_s: float
    p99_s: float
    max_s: float


@dataclass(frozen=True, slots=True)
class FrameReturn:
    """One frame that came back: what it is known by, when, and how long after it was made."""

    key: int
    at_s: float
    latency_s: float


class LatencyMeter:
    """Matches frames that come back with the moment they were made.

    A frame is known by its ``key``: the number drawn into it, or its presentation time. One clock
    serves both ends, so both must be in this process.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._sent_at: dict[int, float] = {}
        self._sent = 0
        self._first_sent_at: float | None = None
        self._last_sent_at = 0.0
        self.returns: list[FrameReturn] = []
        self.repeated = 0
        self.unknown = 0

    @property
    def sent(self) -> int:
        """Frames made so far."""
        return self._sent

    @property
    def lost(self) -> int:
        """Frames made that have not come back."""
        return len(self._sent_at)

    def mark_sent(self, key: int) -> None:
        """Called when the frame is made: the first glass."""
        now = self._clock()
        if self._first_sent_at is None:
            self._first_sent_at = now
        self._last_sent_at = now
        self._sent_at[key] = now
        self._sent += 1

    def mark_returned(self, key: int, at_s: float | None = None) -> FrameReturn | None:
        """Called when the frame is decoded again: the last glass, at ``at_s`` of the clock or now.

        Returns: None for a key that was never sent or has come back before.
        """
        now = self._clock() if at_s is None else at_s
        sent_at = self._sent_at.pop(key, None)
        if sent_at is None:
            if self.returns and key <= self.returns[-1].key:
                self.repeated += 1
            else:
                self.unknown += 1
            return None
        returned = FrameReturn(key, now, now - sent_at)
        self.returns.append(returned)
        return returned

    def summary(self, *, since_s: float = 0.0) -> LatencySummary:
        """Percentiles of the frames that came back ``since_s`` or more after the first one made.

        All values are NaN when there are none.
        """
        start = (self._first_sent_at or 0.0) + since_s
        return summarise([frame.latency_s for frame in self.returns if frame.at_s >= start])

    def sent_fps(self) -> float:
        """Frames made a second, over the time in which they were made."""
        return _rate(self._sent, self._first_sent_at or 0.0, self._last_sent_at)

    def returned_fps(self) -> float:
        """Frames that came back a second, from the first one back to the last."""
        if not self.returns:
            return 0.0
        return _rate(len(self.returns), self.returns[0].at_s, self.returns[-1].at_s)


def summarise(latencies_s: Sequence[float]) -> LatencySummary:
    """Returns nearest-rank percentiles; NaN for an empty sequence."""
    if not latencies_s:
        return LatencySummary(0, math.nan, math.nan, math.nan, math.nan)
    ordered = sorted(latencies_s)

    def rank(share: float) -> float:
        return ordered[max(0, math.ceil(share * len(ordered)) - 1)]

    return LatencySummary(len(ordered), rank(0.50), rank(0.95), rank(0.99), ordered[-1])


def _rate(count: int, first_s: float, last_s: float) -> float:
    return (count - 1) / (last_s - first_s) if count > 1 and last_s > first_s else 0.0
