"""Whose turn it is: first in, first out within a stream, turn by turn between streams."""

from collections import OrderedDict, deque
from collections.abc import Hashable
from typing import Generic, TypeVar

Item = TypeVar("Item")


class FairQueue(Generic[Item]):
    """Items under keys. A key with many items waiting cannot hold up one with a single item."""

    def __init__(self) -> None:
        self._waiting: OrderedDict[Hashable, deque[Item]] = OrderedDict()

    def __bool__(self) -> bool:
        return bool(self._waiting)

    def put(self, key: Hashable, item: Item) -> None:
        """Adds ``item`` behind the others of ``key``; a new key takes the last turn."""
        self._waiting.setdefault(key, deque()).append(item)

    def take(self, most: int) -> list[Item]:
        """Removes up to ``most`` items, one a key; keys with more left take the last turns."""
        taken = []
        for key in list(self._waiting)[:most]:
            items = self._waiting[key]
            taken.append(items.popleft())
            if items:
                self._waiting.move_to_end(key)
            else:
                del self._waiting[key]
        return taken
