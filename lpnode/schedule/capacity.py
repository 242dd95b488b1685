"""Slots per model: counted once, leased and returned exactly."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple, Self

from lpnode.errors import InvalidArgument, NoCapacity


class ModelKey(NamedTuple):
    """What a slot is for. ``capability`` is the numbered ability, ``model_id`` is opaque."""

    capability: int
    model_id: str


@dataclass(slots=True)
class _Slots:
    total: int
    in_use: int = 0


class Slot:
    """A leased place for one session or job. Returning it twice is harmless."""

    __slots__ = ("_capacity", "_is_held", "key")

    def __init__(self, capacity: "Capacity", key: ModelKey) -> None:
        self.key = key
        self._capacity = capacity
        self._is_held = True

    def release(self) -> None:
        """Returns the place; the next lease may take it at once."""
        if self._is_held:
            self._is_held = False
            self._capacity._put_back(self.key)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


class Capacity:
    """Free and taken slots of every model on offer. Used from the event loop only."""

    def __init__(self, totals: Mapping[ModelKey, int]) -> None:
        self._slots = {key: _Slots(total) for key, total in totals.items()}
        self._is_withdrawn = False
        self._watchers: list[Callable[[], None]] = []

    def lease(self, key: ModelKey) -> Slot:
        """Takes a slot: check and reservation are one step.

        Raises: NoCapacity: the model is unknown, its slots are taken, or the offer is withdrawn.
        Source: live.md section 9.
        """
        if not self.idle(key):
            raise NoCapacity
        self._slots[key].in_use += 1
        self._changed()
        return Slot(self, key)

    def idle(self, key: ModelKey) -> int:
        """Slots free now; 0 for an unknown model, and for all once the offer is withdrawn."""
        slots = self._slots.get(key)
        if slots is None or self._is_withdrawn:
            return 0
        return max(0, slots.total - slots.in_use)

    def in_use(self, key: ModelKey) -> int:
        """Slots taken now; 0 for an unknown model."""
        slots = self._slots.get(key)
        return slots.in_use if slots else 0

    def set_total(self, key: ModelKey, total: int) -> None:
        """Offers more or fewer slots of a known model; leases that are out stay valid.

        Raises: InvalidArgument: the model is unknown or ``total`` is negative.
        """
        slots = self._slots.get(key)
        if slots is None or total < 0:
            raise InvalidArgument(f"cannot offer {total} slots of {key}")
        slots.total = total
        self._changed()

    def keys(self) -> list[ModelKey]:
        """Every model on offer, in configuration order."""
        return list(self._slots)

    def withdraw(self) -> None:
        """Offers nothing from now on; what is leased stays leased. For a node that drains."""
        self._is_withdrawn = True
        self._changed()

    def watch(self, changed: Callable[[], None]) -> None:
        """Calls ``changed`` after every lease and return, on the event loop."""
        self._watchers.append(changed)

    def _put_back(self, key: ModelKey) -> None:
        self._slots[key].in_use -= 1
        self._changed()

    def _changed(self) -> None:
        for changed in self._watchers:
            changed()
