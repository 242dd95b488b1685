"""What makes engines of exported networks, and the process that it works in."""

import logging
import os
import pickle
import selectors
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from lpnode.errors import HostError
from lpnode.pipeline.backend.engine_cache import BuildCancelled
from lpnode.pipeline.backend.engine_key import Precision, ShapeProfile

logger = logging.getLogger(__name__)

CompileProgress = Callable[[float], None]
"""Told how much is done, 0 to 1."""

_CHILD = "lpnode.pipeline.backend.engine_compile"
_STOP_POLL_S = 0.1
_SHOWN_CHARS = 2000


class EngineCompiler(Protocol):
    """Compiles networks ahead of time. Can be pickled; importing its module loads no torch.

    ``name`` and ``version`` go into the keys of its engines.
    """

    @property
    def name(self) -> str:
        """Such as ``tensorrt``."""

    @property
    def version(self) -> str:
        """Of the library. Raises: NotBuilt: it is not installed; says how to get it."""

    def compile(
        self,
        onnx: Path,
        profile: ShapeProfile,
        precision: Precision,
        target: Path,
        progress: CompileProgress,
    ) -> None:
        """Compiles an exported network into ``target``; further files go beside it. Takes minutes.

        Raises: HostError, InvalidArgument: it cannot; NotBuilt.
        """

    def open(self, engine: Path) -> Any:
        """The ``GraphRunner`` of a compiled network. Raises: HostError, NotBuilt."""


def compile_in_child(
    compiler: EngineCompiler,
    onnx: Path,
    profile: ShapeProfile,
    precision: Precision,
    target: Path,
    progress: CompileProgress,
    stop: threading.Event,
) -> None:
    """Runs ``compiler.compile`` in a process of its own, which can be ended at any moment.

    A compiler that crashes or takes all memory takes nothing else with it, and frames go on
    meanwhile. The child ends by itself when this process is killed.

    Raises: BuildCancelled: ``stop`` was set; HostError: whatever the child ran into.
    """
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", _CHILD],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
    )
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stderr is not None
    said: dict[Any, bytes] = {process.stdout: b"", process.stderr: b""}
    try:
        pickle.dump((compiler, onnx, profile, precision, target), process.stdin)
        process.stdin.flush()
        with selectors.DefaultSelector() as selector:
            for pipe in said:
                selector.register(pipe, selectors.EVENT_READ)
            while selector.get_map():
                if stop.is_set():
                    raise BuildCancelled("stopped while an engine was being compiled")
                for ready, _ in selector.select(_STOP_POLL_S):
                    data = os.read(ready.fd, 1 << 16)
                    said[ready.fileobj] += data
                    if not data:
                        selector.unregister(ready.fileobj)
                said[process.stdout] = _told(said[process.stdout], progress)
        code = process.wait()
    except BrokenPipeError:
        code = process.wait()
    finally:
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout, process.stderr):
            pipe.close()
    if code:
        text = said[process.stderr].decode(errors="replace").strip()[-_SHOWN_CHARS:]
        reason = (
            f"was ended by signal {-code}, perhaps for want of memory" if code < 0 else "failed"
        )
        raise HostError(f"{compiler.name} {reason}: {text}")


def _told(lines: bytes, progress: CompileProgress) -> bytes:
    *whole, rest = lines.split(b"\n")
    if whole:
        progress(float(whole[-1]))
    return rest
