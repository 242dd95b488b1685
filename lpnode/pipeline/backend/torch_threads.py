"""How many threads work on one call of torch on the processor.

Note [Threads of torch]: the number belongs to the thread that calls, through its OpenMP pool, and
a thread that calls torch for the first time takes the one that was set last anywhere in the
process. So a model's device thread gets a number of its own, and what new threads take (those of
codecs, and of other models) is put back to what it was. Fewer threads win where they are about as
fast, because the cores are the codecs' too, and none has more than torch began with, which is what
``OMP_NUM_THREADS`` says or else the number of cores.
"""

import time
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import ThreadPoolExecutor

import torch

ABOUT_AS_FAST = 1.1
"""How much more time a call may take with fewer threads, as a factor."""
LONG_CALL_S = 1.0
"""A call that takes longer on all threads is not measured: so much work always divides well."""
_RUNS = 3

_fastest: dict[Hashable, int] = {}
"""What was measured before in this process, so that repeats are alike."""


def use_threads(num_threads: int) -> None:
    """Sets how many threads work on torch calls of this thread, and of no other."""
    with ThreadPoolExecutor(1, thread_name_prefix="torch-threads") as other:
        default = other.submit(torch.get_num_threads).result()
        torch.set_num_threads(num_threads)
        other.submit(torch.set_num_threads, default).result()


def default_threads() -> int:
    """How many threads work on the torch calls of a new thread."""
    with ThreadPoolExecutor(1, thread_name_prefix="torch-threads") as other:
        return other.submit(torch.get_num_threads).result()


def use_fastest(key: Hashable, call: Callable[[], object]) -> int:
    """Has this thread use the number of threads with which ``call`` is fastest.

    Args:
        key: calls with the same key are measured once in a process.
    Returns: the number.
    Source: Note [Threads of torch].
    """
    most = default_threads()
    if most == 1:
        return _use(1)
    if key not in _fastest:
        _fastest[key] = _measure(most, call)
    return _use(min(_fastest[key], most))


def fewest_of_the_fastest(times_s: Sequence[tuple[int, float]]) -> int:
    """The smallest number of threads that is about as fast as the best, from (number, seconds)."""
    limit_s = ABOUT_AS_FAST * min(seconds for _, seconds in times_s)
    return min(number for number, seconds in times_s if seconds <= limit_s)


def _measure(most: int, call: Callable[[], object]) -> int:
    times_s: list[tuple[int, float]] = []
    number = most
    while number >= 1:
        _use(number)
        # The first call also brings the pool of threads up.
        if _seconds(call) > LONG_CALL_S and number == most:
            return most
        times_s.append((number, min(_seconds(call) for _ in range(_RUNS))))
        number //= 2
    return fewest_of_the_fastest(times_s)


def _seconds(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def _use(num_threads: int) -> int:
    # Setting it throws oneDNN's prepared kernels away, even where nothing changes.
    if torch.get_num_threads() != num_threads:
        use_threads(num_threads)
    return num_threads
