"""The process that does one piece of work: see ``run_in_child``.

It ends when its connection does, that is when the process that started it is gone.
"""

import os
import pickle
import sys
import threading
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import Any

from lpnode.errors import LpnodeError
from lpnode.pipeline.backend.child_work import ChildWork, Finished

_NICENESS = 10
_FAILED = 1


def main() -> None:
    """Works, and exits with 0 or with the reason on standard error."""
    fd = int(sys.argv[1])
    os.set_inheritable(fd, False)  # processes that compilers start must not hold it
    os.nice(_NICENESS)  # frames go first
    parent: Connection[Any, Any] = Connection(fd)
    # Whole, before what is in it imports anything: whoever sends it can be stopped again at once.
    pickled = parent.recv_bytes()
    threading.Thread(target=_end_with, args=(parent,), name="parent watch", daemon=True).start()
    work: ChildWork[Any] = pickle.loads(pickled)
    try:
        parent.send(Finished(work.run(parent.send)))
    except LpnodeError as error:
        print(error, file=sys.stderr)
        sys.stderr.flush()
        os._exit(_FAILED)
    os._exit(0)  # destructors of compilers take seconds, and there is nothing to save


def _end_with(parent: "Connection[Any, Any]") -> None:
    with suppress(EOFError, OSError):
        parent.recv_bytes()
    os._exit(_FAILED)


if __name__ == "__main__":
    main()
