"""Work in a process of its own: what comes back, and that nothing stays."""

import subprocess
import sys
import threading

import psutil
import pytest
from child_works import Addition, Endless, Failure

from lpnode.errors import HostError
from lpnode.pipeline.backend.child_work import run_in_child
from lpnode.pipeline.backend.engine_cache import BuildCancelled


def test_results_and_progress_come_back_whatever_a_library_prints() -> None:
    told: list[float] = []
    assert run_in_child(Addition([1, 2, 3, 4]), threading.Event(), told.append) == 10
    assert told == [0.25, 0.5, 0.75, 1.0]


def test_results_and_works_may_be_larger_than_a_pipe() -> None:
    number = 1 << 8_000_000
    assert run_in_child(Addition([number]), threading.Event()) == number


@pytest.mark.parametrize(
    ("how", "text"),
    [
        ("on purpose", r"failure failed: a library that talks\nthe reason$"),
        ("by a bug", r"(?s)failure failed: .*Traceback.*ZeroDivisionError: the bug$"),
        ("by a signal", "ended by signal 9, perhaps for want of memory: a library that talks$"),
    ],
    ids=["on purpose", "by a bug", "by a signal"],
)
def test_an_error_says_what_the_child_said(how: str, text: str) -> None:
    with pytest.raises(HostError, match=text):
        run_in_child(Failure(how), threading.Event())


def test_work_that_cannot_be_pickled_is_an_error_that_names_it() -> None:
    work = Addition([1], name="addition")
    work.numbers = lambda: None  # type: ignore[assignment]
    with pytest.raises(HostError, match=r"addition cannot run in a process of its own: .*lambda"):
        run_in_child(work, threading.Event())


def test_a_stop_ends_the_child() -> None:
    stop = threading.Event()
    children: list[psutil.Process] = []

    def started(number: float) -> None:
        children.append(psutil.Process(int(number)))
        stop.set()

    with pytest.raises(BuildCancelled, match="stopped while endless work was at work"):
        run_in_child(Endless(), stop, started)
    assert [child.is_running() for child in children] == [False]


def test_a_child_ends_when_the_process_that_started_it_is_killed() -> None:
    program = """
import threading
from child_works import Endless
from lpnode.pipeline.backend.child_work import run_in_child
run_in_child(Endless(), threading.Event(), lambda number: print(int(number), flush=True))
"""
    environment = {"PYTHONPATH": ":".join(path for path in sys.path if path)}
    with subprocess.Popen(
        [sys.executable, "-P", "-c", program], stdout=subprocess.PIPE, env=environment
    ) as parent:
        assert parent.stdout is not None
        child = psutil.Process(int(parent.stdout.readline()))
        parent.kill()
    child.wait(60)
    assert not child.is_running()
