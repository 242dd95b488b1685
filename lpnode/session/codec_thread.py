"""A named thread for the blocking codec calls of one session."""

import asyncio
import contextvars
import logging
import queue
import threading
from collections.abc import Callable
from typing import Any, TypeVar

R = TypeVar("R")

_log = logging.getLogger(__name__)


class CodecThread:
    """Runs calls one after another on a thread of its own.

    The calls release the GIL inside, last about one frame, and cannot be cancelled: a caller that
    is cancelled stops waiting, the call itself runs to its end. The thread is a daemon, so a call
    that never returns holds up neither ``close`` beyond its deadline nor the end of the process.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self._loop = asyncio.get_running_loop()
        self._ended = self._loop.create_future()
        self._calls: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        # The thread logs under the context (session id) of the task that made it.
        context = contextvars.copy_context()
        threading.Thread(target=context.run, args=(self._work,), name=name, daemon=True).start()

    async def run(self, call: Callable[..., R], *args: Any) -> R:
        """Waits for ``call(*args)`` on the thread; raises what it raises."""
        result: asyncio.Future[R] = self._loop.create_future()

        def work() -> None:
            try:
                value = call(*args)
            except BaseException as error:  # noqa: BLE001 - carried over to the waiting task
                self._hand_over(_fail, result, error)
            else:
                self._hand_over(_fulfil, result, value)

        self._calls.put(work)
        return await result

    async def close(self, deadline_s: float) -> bool:
        """Lets the thread end after the calls it has.

        Returns: False if a call still runs at the deadline; the thread is then abandoned and ends
            when that call does.
        """
        self._calls.put(None)
        done, _ = await asyncio.wait([self._ended], timeout=deadline_s)
        if not done:
            _log.error("%s: a call did not return in %.1f s; abandoned", self.name, deadline_s)
        return bool(done)

    def _work(self) -> None:
        while (work := self._calls.get()) is not None:
            work()
            # The closure holds frames; they must not live until the next call comes.
            del work
        self._hand_over(_fulfil, self._ended, None)

    def _hand_over(self, deliver: Callable[..., None], *args: Any) -> None:
        try:
            self._loop.call_soon_threadsafe(deliver, *args)
        except RuntimeError:
            # The loop closed while an abandoned call ran: nobody waits for it any more.
            _log.debug("%s: result came after the event loop closed", self.name)


def _fulfil(future: asyncio.Future[Any], value: Any) -> None:
    if not future.done():
        future.set_result(value)


def _fail(future: asyncio.Future[Any], error: BaseException) -> None:
    if not future.done():
        future.set_exception(error)
