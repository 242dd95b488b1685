from collections import defaultdict

from hypothesis import given
from hypothesis import strategies as st

from lpnode.schedule.fair_queue import FairQueue


def test_a_key_with_much_waiting_does_not_hold_up_the_others() -> None:
    queue: FairQueue[str] = FairQueue()
    for number in range(100):
        queue.put("busy", f"busy {number}")
    queue.put("quiet", "quiet 0")
    assert [queue.take(1) for _ in range(3)] == [["busy 0"], ["quiet 0"], ["busy 1"]]


def test_a_batch_has_at_most_one_item_a_key() -> None:
    queue: FairQueue[int] = FairQueue()
    for key, item in (("a", 1), ("a", 2), ("b", 3)):
        queue.put(key, item)
    assert queue.take(8) == [1, 3]
    assert queue.take(8) == [2]
    assert not queue


@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("put"), st.integers(0, 4)),
            st.tuples(st.just("take"), st.integers(1, 3)),
        )
    )
)
def test_nothing_is_lost_and_each_key_keeps_its_order(steps: list[tuple[str, int]]) -> None:
    queue: FairQueue[tuple[int, int]] = FairQueue()
    put: dict[int, list[int]] = defaultdict(list)
    taken: dict[int, list[int]] = defaultdict(list)
    for number, (step, argument) in enumerate([*steps, *[("take", 3)] * len(steps)]):
        if step == "put":
            put[argument].append(number)
            queue.put(argument, (argument, number))
        else:
            batch = queue.take(argument)
            assert len({key for key, _ in batch}) == len(batch) <= argument
            for key, item in batch:
                taken[key].append(item)
    assert taken == put
    assert not queue
