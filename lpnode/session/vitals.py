"""What a session knows of its own health: when things last happened and how fast they go on.

All moments are seconds of the session's monotonic clock. Nothing here reads a clock.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from lpnode.protocol.live_event import params_hash

FPS_WINDOW_S = 10.0
"""Source: live.md section 6.3."""


@dataclass(slots=True)
class FrameRate:
    """Frames a second over the last whole window; 0 until the first one has closed."""

    window_start_s: float
    fps: float = 0.0
    total: int = 0
    _count: int = 0

    def count(self) -> None:
        """One frame passed."""
        self._count += 1
        self.total += 1

    def roll(self, now_s: float) -> None:
        """Closes the window if it is at least 10 s long."""
        elapsed_s = now_s - self.window_start_s
        if elapsed_s >= FPS_WINDOW_S:
            self.fps = round(self._count / elapsed_s, 2)
            self._count = 0
            self.window_start_s = now_s


@dataclass(slots=True)
class Vitals:
    """The record of one stream; each stage of the session writes its own part of it."""

    start_s: float
    input_rate: FrameRate = field(init=False)
    output_rate: FrameRate = field(init=False)
    last_input_s: float | None = None
    last_output_s: float | None = None
    unanswered_since_s: float | None = None
    """When the first input after the last output came; None if there was none since."""
    params_updated_s: float | None = None
    params: Mapping[str, Any] | None = None
    """The newest full parameter set, as the gateway sent it."""
    params_hash: str | None = None
    """Made once: a set may have megabytes."""
    params_are_news: bool = False
    """Whether ``params`` has not been in a status yet."""
    last_error_s: float | None = None
    last_error: str | None = None
    error_is_news: bool = False
    """Whether ``last_error`` has not been in an error event yet."""
    last_restart_s: float | None = None
    restart_logs: list[str] | None = None
    """Lines of the newest restart that no status has carried yet."""
    restart_count: int = 0

    def __post_init__(self) -> None:
        self.input_rate = FrameRate(self.start_s)
        self.output_rate = FrameRate(self.start_s)

    def saw_input(self, now_s: float) -> None:
        """A frame of the input passed the frame-rate cap."""
        self.last_input_s = now_s
        if self.unanswered_since_s is None:
            self.unanswered_since_s = now_s
        self.input_rate.count()

    def saw_output(self, now_s: float) -> None:
        """The pipeline finished a frame; loading frames do not count."""
        self.last_output_s = now_s
        self.unanswered_since_s = None
        self.output_rate.count()

    def saw_params(self, params: Mapping[str, Any], now_s: float) -> None:
        """A full parameter set was applied."""
        self.params = params
        self.params_hash = params_hash(params)
        self.params_are_news = True
        self.params_updated_s = now_s

    def saw_error(self, message: str, now_s: float) -> None:
        """Something failed and the stream goes on; a newer error replaces an older one."""
        self.last_error = message
        self.last_error_s = now_s
        self.error_is_news = True

    def saw_restart(self, logs: list[str], count: int, now_s: float) -> None:
        """The pipeline was restarted: what was measured of the old one no longer counts."""
        self.last_output_s = self.unanswered_since_s = None
        self.output_rate = FrameRate(now_s)
        self.last_error = self.last_error_s = None
        self.error_is_news = False
        self.last_restart_s = now_s
        self.restart_logs = logs
        self.restart_count = count

    def roll(self, now_s: float) -> None:
        """Closes the windows of the frame rates that are due."""
        self.input_rate.roll(now_s)
        self.output_rate.roll(now_s)
