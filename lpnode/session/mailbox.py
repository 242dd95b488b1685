"""Hand-over of values between the stages of a session: bounded, with a stated rule when full.

A mailbox belongs to one event loop and has one reader. Closing it ends the reader after it has
taken what is left, and turns later puts into no-ops, so that a stage that ends closes its own
outgoing mailbox and the rest of the session winds down in order.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class _Signal:
    """Lets tasks wait until another calls ``wake``; a cancelled wait leaves nothing behind."""

    __slots__ = ("_waiters",)

    def __init__(self) -> None:
        self._waiters: list[asyncio.Future[None]] = []

    async def wait(self) -> None:
        waiter = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        try:
            await waiter
        finally:
            self._waiters.remove(waiter)

    def wake(self) -> None:
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)


class LatestMailbox(Generic[T]):
    """Holds one value; a newer one replaces it. For live frames: the newest wins."""

    __slots__ = ("_filled", "_is_closed", "_item")

    def __init__(self) -> None:
        self._item: T | None = None
        self._is_closed = False
        self._filled = _Signal()

    def put(self, item: T) -> T | None:
        """Leaves ``item`` for the reader. Returns: the value it replaced, which nobody read."""
        if self._is_closed:
            return item
        superseded, self._item = self._item, item
        self._filled.wake()
        return superseded

    async def get(self) -> T | None:
        """Waits for a value. Returns: None when the mailbox is closed and empty."""
        while self._item is None:
            if self._is_closed:
                return None
            await self._filled.wait()
        item, self._item = self._item, None
        return item

    async def __aiter__(self) -> AsyncIterator[T]:
        while (item := await self.get()) is not None:
            yield item

    def close(self) -> None:
        """No more values will come."""
        self._is_closed = True
        self._filled.wake()


class LosslessMailbox(Generic[T]):
    """Keeps every value in order; writers wait while it is full.

    Full means: the weights of what it holds reach ``capacity``. A value heavier than the capacity
    is still accepted by an empty mailbox.
    """

    __slots__ = ("_capacity", "_drained", "_filled", "_held", "_is_closed", "_items", "_weigh")

    def __init__(self, capacity: int, weigh: Callable[[T], int] = lambda _: 1) -> None:
        self._capacity = capacity
        self._weigh = weigh
        self._items: deque[T] = deque()
        self._held = 0
        self._is_closed = False
        self._filled = _Signal()
        self._drained = _Signal()

    def __len__(self) -> int:
        return len(self._items)

    async def put(self, item: T) -> None:
        """Waits for room, then adds ``item``. On a closed mailbox the value is dropped."""
        while self._held >= self._capacity and not self._is_closed:
            await self._drained.wait()
        self.offer(item)

    def offer(self, item: T) -> bool:
        """Adds ``item`` if there is room now. Returns: whether it was added."""
        if self._is_closed or self._held >= self._capacity:
            return False
        self._items.append(item)
        self._held += self._weigh(item)
        self._filled.wake()
        return True

    async def get(self) -> T | None:
        """Waits for the oldest value. Returns: None when the mailbox is closed and empty."""
        while not self._items:
            if self._is_closed:
                return None
            await self._filled.wait()
        item = self._items.popleft()
        self._held -= self._weigh(item)
        self._drained.wake()
        return item

    async def get_all(self) -> list[T]:
        """Waits for values and takes all there are. Returns: [] when closed and empty."""
        while not self._items and not self._is_closed:
            await self._filled.wait()
        return self.take_all()

    def take_all(self) -> list[T]:
        """Takes what is there now, without waiting."""
        items = list(self._items)
        self._items.clear()
        self._held = 0
        self._drained.wake()
        return items

    async def __aiter__(self) -> AsyncIterator[T]:
        while (item := await self.get()) is not None:
            yield item

    def close(self) -> None:
        """No more values will come; a waiting writer gives its value up."""
        self._is_closed = True
        self._filled.wake()
        self._drained.wake()
