"""The process that compiles one engine: a pickled job on standard input, fractions on output.

It ends when standard input does, that is when the process that started it is gone.
"""

import os
import pickle
import sys
import threading

from lpnode.errors import LpnodeError
from lpnode.pipeline.backend.engine_compiler import EngineCompiler

_NICENESS = 10
_FAILED = 1


def main() -> None:
    """Compiles, and exits with 0 or with the reason on standard error."""
    # Libraries print to standard output; only fractions may reach whoever reads it.
    told = os.fdopen(os.dup(sys.stdout.fileno()), "w", buffering=1)
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    os.nice(_NICENESS)  # frames go first
    compiler: EngineCompiler
    compiler, onnx, profile, precision, target = pickle.load(sys.stdin.buffer)
    threading.Thread(target=_end_with_parent, name="parent watch", daemon=True).start()
    try:
        compiler.compile(
            onnx, profile, precision, target, lambda fraction: print(fraction, file=told)
        )
    except LpnodeError as error:
        print(error, file=sys.stderr)
        sys.stderr.flush()
        os._exit(_FAILED)
    sys.stderr.flush()
    os._exit(0)  # destructors of compilers take seconds, and there is nothing to save


def _end_with_parent() -> None:
    sys.stdin.buffer.read()
    os._exit(_FAILED)


if __name__ == "__main__":
    main()
