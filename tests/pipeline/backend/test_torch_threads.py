"""One thread's number of torch threads, apart from everybody else's."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from lpnode.pipeline.backend import torch_threads
from lpnode.pipeline.backend.torch_threads import (
    default_threads,
    fewest_of_the_fastest,
    use_fastest,
    use_threads,
)


@pytest.fixture
def device_thread() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(1) as thread:
        thread.submit(torch.get_num_threads).result()
        yield thread


@pytest.fixture
def three_by_default() -> Iterator[None]:
    """New threads take three, whatever this machine has."""
    own, before = torch.get_num_threads(), default_threads()
    with ThreadPoolExecutor(1) as other:
        other.submit(torch.set_num_threads, 3).result()
        yield
        other.submit(torch.set_num_threads, before).result()
    assert torch.get_num_threads() == own


def test_a_number_is_one_threads_own(device_thread: ThreadPoolExecutor) -> None:
    own, default = torch.get_num_threads(), default_threads()
    device_thread.submit(use_threads, default + 2).result()
    assert device_thread.submit(torch.get_num_threads).result() == default + 2
    assert (torch.get_num_threads(), default_threads()) == (own, default)


def test_fewer_threads_are_taken_where_they_are_about_as_fast() -> None:
    assert fewest_of_the_fastest([(8, 1.0), (4, 1.05), (2, 1.3), (1, 2.5)]) == 4
    assert fewest_of_the_fastest([(8, 1.0), (4, 0.5), (2, 0.52), (1, 0.6)]) == 2


@pytest.mark.usefixtures("three_by_default")
def test_a_call_is_measured_with_all_threads_and_fewer_and_once_in_a_process(
    device_thread: ThreadPoolExecutor,
) -> None:
    seen: list[int] = []

    def call() -> None:
        seen.append(torch.get_num_threads())

    chosen = device_thread.submit(use_fastest, object(), call).result()
    assert set(seen) == {3, 1}
    key = object()
    for _ in range(2):
        chosen = device_thread.submit(use_fastest, key, call).result()
        assert device_thread.submit(torch.get_num_threads).result() == chosen
    assert len(seen) == 16, "two keys, two numbers, one call to warm up and three to measure"


@pytest.mark.usefixtures("three_by_default")
def test_a_long_call_is_made_once_and_gets_all_threads(
    device_thread: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch_threads, "LONG_CALL_S", 0.0)
    calls: list[int] = []
    chosen = device_thread.submit(
        use_fastest, object(), lambda: calls.append(torch.get_num_threads())
    ).result()
    assert (chosen, calls) == (3, [3])
