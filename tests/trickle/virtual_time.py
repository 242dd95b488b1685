"""An event loop whose clock jumps over silence: real sockets, hours in milliseconds."""

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any

GRACE_S = 0.002
"""Real time in which loopback sockets must show what was sent to them."""


class _JumpingSelector(selectors.DefaultSelector):
    skipped_s = 0.0

    def select(self, timeout: float | None = None) -> list[Any]:
        if timeout is None or timeout <= 0:
            return super().select(timeout)
        events = super().select(min(timeout, GRACE_S))
        if not events:
            self.skipped_s += timeout
        return events


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """Its time is the monotonic clock plus whatever nothing happened in."""

    def __init__(self) -> None:
        self._jumping = _JumpingSelector()
        super().__init__(self._jumping)

    def time(self) -> float:
        return super().time() + self._jumping.skipped_s


def run_in_virtual_time(scenario: Coroutine[Any, Any, None]) -> None:
    """Runs ``scenario`` to its end and checks that it leaves no task behind."""
    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        runner.run(scenario)
        left = asyncio.all_tasks(runner.get_loop())
        assert not left, f"tasks left behind: {left}"
