"""Works for ``run_in_child``, in a module that a child imports in no time."""

import os
import signal
import threading
from collections.abc import Callable
from dataclasses import dataclass

from lpnode.errors import HostError


@dataclass
class Addition:
    """Adds numbers up, and tells how much is done after each."""

    numbers: list[int]
    name: str = "addition"

    def run(self, progress: Callable[[float], None]) -> int:
        total = 0
        for done, number in enumerate(self.numbers, 1):
            print("a library that talks")
            total += number
            progress(done / len(self.numbers))
        return total


@dataclass
class Failure:
    """Ends in one of three ways, after some words of a library."""

    how: str
    name: str = "failure"

    def run(self, _: Callable[[float], None]) -> None:
        print("a library that talks", flush=True)
        if self.how == "on purpose":
            raise HostError("the reason")
        if self.how == "by a bug":
            raise ZeroDivisionError("the bug")
        os.kill(os.getpid(), signal.SIGKILL)


@dataclass
class Endless:
    """Tells its process's number and goes on for good."""

    name: str = "endless work"

    def run(self, progress: Callable[[float], None]) -> None:
        progress(os.getpid())
        threading.Event().wait()
