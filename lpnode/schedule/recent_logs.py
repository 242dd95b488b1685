"""The newest log lines about models, for the restart event."""

import logging
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

SUBJECTS = ("lpnode.pipeline", "lpnode.schedule")
"""Loggers that are listened to. Lines of sessions and requests are nobody else's business."""


class RecentLogs(logging.Handler):
    """Keeps the newest lines. Source: live.md section 6.2, and trap 14: not the oldest."""

    def __init__(self, num_lines: int = 100) -> None:
        super().__init__(logging.INFO)
        self.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s %(message)s"))
        self._lines: deque[str] = deque(maxlen=num_lines)

    def emit(self, record: logging.LogRecord) -> None:
        """Called by ``logging`` for each line."""
        self._lines.append(self.format(record))

    def lines(self) -> tuple[str, ...]:
        """Oldest first."""
        return tuple(self._lines)

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Receives the lines of ``SUBJECTS`` for as long as the block runs."""
        loggers = [logging.getLogger(name) for name in SUBJECTS]
        for logger in loggers:
            logger.addHandler(self)
        try:
            yield
        finally:
            for logger in loggers:
                logger.removeHandler(self)
