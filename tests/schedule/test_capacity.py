import pytest

from lpnode.errors import InvalidArgument, NoCapacity
from lpnode.schedule.capacity import Capacity, ModelKey

KEY = ModelKey(35, "noop")


def test_the_last_slot_is_leased_once() -> None:
    capacity = Capacity({KEY: 1})
    capacity.lease(KEY)
    with pytest.raises(NoCapacity, match=r"^insufficient capacity$"):
        capacity.lease(KEY)


def test_a_model_that_is_not_offered_has_no_capacity() -> None:
    capacity = Capacity({KEY: 1})
    with pytest.raises(NoCapacity):
        capacity.lease(ModelKey(35, "other"))
    assert capacity.idle(ModelKey(35, "other")) == capacity.in_use(ModelKey(35, "other")) == 0


def test_a_slot_goes_back_at_once_and_only_once() -> None:
    capacity = Capacity({KEY: 2})
    with capacity.lease(KEY) as slot:
        other = capacity.lease(KEY)
        slot.release()
        assert (capacity.idle(KEY), capacity.in_use(KEY)) == (1, 1)
    assert (capacity.idle(KEY), capacity.in_use(KEY)) == (1, 1)
    other.release()
    assert capacity.idle(KEY) == 2


def test_whoever_watches_hears_of_leases_returns_and_new_totals() -> None:
    capacity = Capacity({KEY: 1})
    idle: list[int] = []
    capacity.watch(lambda: idle.append(capacity.idle(KEY)))
    capacity.lease(KEY).release()
    capacity.set_total(KEY, 0)
    assert idle == [0, 1, 0]


def test_slots_can_be_withdrawn_while_they_are_leased() -> None:
    capacity = Capacity({KEY: 2})
    slot = capacity.lease(KEY)
    capacity.set_total(KEY, 0)
    assert (capacity.idle(KEY), capacity.in_use(KEY)) == (0, 1)
    with pytest.raises(NoCapacity):
        capacity.lease(KEY)
    slot.release()
    assert capacity.idle(KEY) == 0


def test_slots_of_an_unknown_model_cannot_be_set() -> None:
    with pytest.raises(InvalidArgument):
        Capacity({}).set_total(KEY, 1)
