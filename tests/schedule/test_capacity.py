"""Slots are counted exactly."""

import pytest

from lpnode.errors import NoCapacity
from lpnode.schedule.capacity import Capacity, ModelKey

KEY = ModelKey(35, "noop")


def test_the_last_slot_goes_to_exactly_one_of_two() -> None:
    capacity = Capacity({KEY: 1})
    capacity.lease(KEY)
    with pytest.raises(NoCapacity, match="insufficient capacity"):
        capacity.lease(KEY)
    assert (capacity.idle(KEY), capacity.in_use(KEY)) == (0, 1)


def test_an_unknown_model_has_no_slots() -> None:
    capacity = Capacity({KEY: 1})
    with pytest.raises(NoCapacity):
        capacity.lease(ModelKey(35, "other"))


def test_releasing_twice_returns_one_slot() -> None:
    capacity = Capacity({KEY: 2})
    slot = capacity.lease(KEY)
    capacity.lease(KEY)
    slot.release()
    slot.release()
    assert capacity.in_use(KEY) == 1


def test_a_slot_is_returned_when_its_block_fails() -> None:
    capacity = Capacity({KEY: 1})
    with pytest.raises(ZeroDivisionError), capacity.lease(KEY):
        raise ZeroDivisionError
    assert capacity.idle(KEY) == 1


def test_watchers_hear_of_leases_returns_and_withdrawal() -> None:
    capacity = Capacity({KEY: 1})
    idle: list[int] = []
    capacity.watch(lambda: idle.append(capacity.idle(KEY)))
    slot = capacity.lease(KEY)
    slot.release()
    capacity.withdraw()
    assert idle == [0, 1, 0]


def test_a_withdrawn_offer_leases_nothing_and_takes_slots_back() -> None:
    capacity = Capacity({KEY: 2})
    slot = capacity.lease(KEY)
    capacity.withdraw()
    with pytest.raises(NoCapacity):
        capacity.lease(KEY)
    slot.release()
    assert (capacity.idle(KEY), capacity.in_use(KEY)) == (0, 0)
