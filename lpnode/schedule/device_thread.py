"""The one thread that a loaded model runs on, seen from the event loop."""

import asyncio
import contextlib
import threading
import time
from collections import deque
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import Any, Generic, TypeVar

from lpnode.errors import HostError
from lpnode.schedule.fair_queue import FairQueue

T = TypeVar("T")
Task = TypeVar("Task")
Result = TypeVar("Result")

ENDED = "the model is no longer running"

# Note [Abandoned threads]
# A native call cannot be interrupted. When one hangs, its thread is abandoned: everybody who waits
# for it is told at once, its results are dropped, and should the call ever return, the thread runs
# its parting action and ends. It is a daemon thread: a hung device cannot keep the process alive.


@dataclass(slots=True, eq=False)
class _Command:
    action: Callable[[], Any]
    future: asyncio.Future[Any]


@dataclass(slots=True, eq=False)
class _Frame(Generic[Task]):
    key: Hashable
    task: Task
    future: asyncio.Future[Any]
    has_begun: bool = False
    is_withdrawn: bool = False


class DeviceThread(Generic[Task, Result]):
    """Runs commands and batches of tasks in turn, on a thread with a name.

    Commands go before tasks, in order, and never overlap a batch. Tasks that wait together form one
    batch, at most one task a key, keys in turn; nothing ever waits for a batch to fill.

    Args:
        run_batch: gets 1 to ``max_batch`` tasks; gives one result or exception each, in order.
        parting: called on the thread as the last thing it does.
        clock: monotonic seconds.
    All methods are for the event loop that was running when it was made.
    """

    def __init__(
        self,
        name: str,
        run_batch: Callable[[Sequence[Task]], Sequence[Result | Exception]],
        *,
        max_batch: int,
        parting: Callable[[], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._run_batch = run_batch
        self._max_batch = max_batch
        self._parting = parting
        self._clock = clock
        self._loop = asyncio.get_running_loop()
        self._inbox: SimpleQueue[_Command | _Frame[Task] | None] = SimpleQueue()
        self._pending: set[asyncio.Future[Any]] = set()
        self._frames: set[_Frame[Task]] = set()
        self._busy_since_s: float | None = None
        self._is_abandoned = False
        self._ended = asyncio.Event()
        self._thread = threading.Thread(target=self._main, name=name, daemon=True)
        self._thread.start()

    def busy_for_s(self) -> float:
        """Seconds that the present call has taken so far; 0 when the thread is idle."""
        since_s = self._busy_since_s
        return 0.0 if since_s is None else self._clock() - since_s

    def post(self, action: Callable[[], T]) -> "asyncio.Future[T]":
        """Has the thread call ``action`` before it takes more tasks; the future gets the answer."""
        future: asyncio.Future[T] = self._new_future()
        self._inbox.put(_Command(action, future))
        return future

    async def process(self, key: Hashable, task: Task) -> Result:
        """Has ``task`` run in the next batch in which it is ``key``'s turn.

        When the caller is cancelled before then, the task is not run at all.
        """
        future: asyncio.Future[Result] = self._new_future()
        entry = _Frame(key, task, future)
        self._frames.add(entry)
        self._inbox.put(entry)
        try:
            return await future
        finally:
            entry.is_withdrawn = True
            self._frames.discard(entry)

    def withdraw(self, key: Hashable, reason: str) -> None:
        """Fails the tasks of ``key`` that have not begun with HostError; they are never run."""
        for entry in self._frames:
            if entry.key == key and not entry.has_begun:
                entry.is_withdrawn = True
                if not entry.future.done():
                    entry.future.set_exception(HostError(reason))

    def abandon(self, reason: str) -> None:
        """Fails everybody who waits with HostError. See Note [Abandoned threads]."""
        if self._is_abandoned:
            return
        self._is_abandoned = True
        self._inbox.put(None)
        for future in list(self._pending):
            if not future.done():
                future.set_exception(HostError(reason))

    async def stop(self) -> None:
        """Runs the commands sent so far, drops waiting tasks, and waits for the thread to end."""
        self._inbox.put(None)
        await self._ended.wait()
        self.abandon(ENDED)

    def _new_future(self) -> "asyncio.Future[Any]":
        future: asyncio.Future[Any] = self._loop.create_future()
        if self._is_abandoned:
            future.set_exception(HostError(ENDED))
        else:
            self._pending.add(future)
            future.add_done_callback(self._pending.discard)
        return future

    def _main(self) -> None:
        commands: deque[_Command] = deque()
        frames: FairQueue[_Frame[Task]] = FairQueue()
        is_stopping = False
        while not self._is_abandoned:
            try:
                entry = self._inbox.get(block=not (commands or frames or is_stopping))
            except Empty:
                if commands:
                    self._command(commands.popleft())
                elif is_stopping:
                    break
                else:
                    self._batch(frames.take(self._max_batch))
                continue
            if entry is None:
                is_stopping = True
            elif isinstance(entry, _Command):
                commands.append(entry)
            else:
                frames.put(entry.key, entry)
        self._part()

    def _command(self, command: _Command) -> None:
        self._busy_since_s = self._clock()
        try:
            outcome = command.action()
        except Exception as error:  # noqa: BLE001 - whoever sent the command gets it
            outcome = error
        self._busy_since_s = None
        self._deliver([(command.future, outcome)])

    def _batch(self, frames: list[_Frame[Task]]) -> None:
        frames = [frame for frame in frames if not frame.is_withdrawn]
        if not frames:
            return
        for frame in frames:
            frame.has_begun = True
        self._busy_since_s = self._clock()
        outcomes: Sequence[Result | Exception]
        try:
            outcomes = self._run_batch([frame.task for frame in frames])
        except Exception as error:  # noqa: BLE001 - whoever sent the tasks gets it
            outcomes = [error] * len(frames)
        self._busy_since_s = None
        self._deliver(
            [(frame.future, outcome) for frame, outcome in zip(frames, outcomes, strict=True)]
        )

    def _part(self) -> None:
        try:
            self._parting()
        finally:
            self._to_loop(self._ended.set)

    def _deliver(self, outcomes: list[tuple[asyncio.Future[Any], Any]]) -> None:
        self._to_loop(_settle, outcomes)

    def _to_loop(self, callback: Callable[..., object], *args: Any) -> None:
        # An abandoned thread may outlive the loop; there is nobody left to tell then.
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(callback, *args)


def _settle(outcomes: list[tuple[asyncio.Future[Any], Any]]) -> None:
    for future, outcome in outcomes:
        if future.done():
            continue
        if isinstance(outcome, Exception):
            future.set_exception(outcome)
        else:
            future.set_result(outcome)
