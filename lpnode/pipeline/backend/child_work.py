"""Pieces of work in processes of their own, which can be ended at any moment.

What takes minutes, all memory or the interpreter for itself takes nothing from frames that way, and
nobody waits for it who wants it no more.
"""

import multiprocessing
import os
import pickle
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from typing import Any, Protocol, TypeVar

from lpnode.errors import HostError
from lpnode.pipeline.backend.engine_cache import BuildCancelled

WorkProgress = Callable[[float], None]
"""Told how much is done, 0 to 1."""

_CHILD = "lpnode.pipeline.backend.child_main"
_STOP_POLL_S = 0.1
_SHOWN_BYTES = 2000

Result = TypeVar("Result", covariant=True)


class ChildWork(Protocol[Result]):
    """What a child does. Can be pickled, as can what comes of it.

    The child imports what unpickling needs, so work that needs no torch is of classes whose modules
    need none.
    """

    @property
    def name(self) -> str:
        """Of what may fail, such as ``tensorrt``."""

    def run(self, progress: WorkProgress) -> Result:
        """Does it all. Raises: LpnodeError: its text is what ``run_in_child`` says."""


@dataclass(frozen=True, slots=True)
class Finished:
    """The last that a child sends; what it sends before are fractions."""

    result: Any


def run_in_child(
    work: ChildWork[Result],
    stop: threading.Event,
    progress: WorkProgress = lambda _: None,
) -> Result:
    """Has a child process do the work, and waits for what comes of it.

    The child ends the moment that ``stop`` is set, and by itself when this process is killed.

    Raises: BuildCancelled: ``stop`` was set; HostError: whatever the child ran into.
    """
    try:
        pickled = pickle.dumps(work)
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise HostError(f"{work.name} cannot run in a process of its own: {error}") from error
    ours, theirs = multiprocessing.Pipe()
    with (
        ours,
        theirs,
        subprocess.Popen(
            [sys.executable, "-P", "-m", _CHILD, str(theirs.fileno())],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            pass_fds=(theirs.fileno(),),
            env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
        ) as process,
    ):
        theirs.close()
        try:
            result: Result = _Child(work.name, process, ours).result(pickled, stop, progress)
            return result
        finally:
            process.kill()


class _Child:
    def __init__(
        self, name: str, process: subprocess.Popen[bytes], messages: "Connection[Any, Any]"
    ) -> None:
        assert process.stdout is not None
        self._name = name
        self._process = process
        self._messages = messages
        self._output = process.stdout
        self._said = b""
        self._finished: Finished | None = None

    def result(self, work: bytes, stop: threading.Event, progress: WorkProgress) -> Any:
        readers: dict[Any, Callable[[], bool]] = {
            self._messages: lambda: self._receive(progress),
            self._output: self._read,
        }
        with suppress(ConnectionError):  # if it has ended, what it said is still to be read
            self._messages.send_bytes(work)
        while readers:
            if stop.is_set():
                raise BuildCancelled(f"stopped while {self._name} was at work")
            for end in wait(list(readers), _STOP_POLL_S):
                if not readers[end]():
                    del readers[end]
        code = self._process.wait()
        if self._finished is None:
            reason = (
                f"was ended by signal {-code}, perhaps for want of memory" if code < 0 else "failed"
            )
            text = self._said.decode(errors="replace").strip()
            raise HostError(f"{self._name} {reason}: {text}")
        return self._finished.result

    def _read(self) -> bool:
        data = os.read(self._output.fileno(), 1 << 16)
        self._said = (self._said + data)[-_SHOWN_BYTES:]
        return bool(data)

    def _receive(self, progress: WorkProgress) -> bool:
        try:
            message = self._messages.recv()
        except (EOFError, OSError):  # it has ended, perhaps in the middle of a message
            return False
        if isinstance(message, Finished):
            self._finished = message
        else:
            progress(message)
        return True
