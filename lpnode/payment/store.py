"""What must outlive the process: one SQLite file, written by one thread in groups.

Note [Group commit]
Changes come as functions of a connection. The writer takes all that are waiting, runs each in a
savepoint of one transaction, commits once, which waits for the disk, and only then tells those who
asked. A change that fails is undone alone; when the commit fails, all of them failed. So many
payments share the one wait for the disk, and none is acknowledged before it is there.

Note [Checkpoint]
What is committed lies in SQLite's write-ahead log and has to be moved into the file now and then,
which waits for the disk twice more. SQLite would do that inside a commit; here it is done when
everybody has been told and nobody waits. A store that never rests leaves it to SQLite, later.

The file holds secrets and is readable by its owner alone. A lock file keeps a second process out:
its nonces in memory would not be ours.

Source: payments.md sections 8.4 and 9.4.
"""

import asyncio
import fcntl
import logging
import os
import queue
import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from lpnode.errors import ConfigError, StorageFailed, StoreInUse
from lpnode.payment.schema import migrate
from lpnode.payment.wei_functions import add_wei_functions

_log = logging.getLogger(__name__)

T = TypeVar("T")
Change = Callable[[sqlite3.Connection], T]
"""Reads and writes inside the group's transaction. Runs on the writer thread; touches nothing of
the event loop's."""

MAX_GROUP = 256
_GROUPS_BETWEEN_CHECKPOINTS = 256
_PRAGMAS = (
    "PRAGMA journal_mode = WAL",
    # Each commit is on the disk when it returns; a power cut loses nothing acknowledged.
    "PRAGMA synchronous = FULL",
    # In pages of 4 KiB. See Note [Checkpoint].
    "PRAGMA wal_autocheckpoint = 4000",
    "PRAGMA foreign_keys = ON",
    "PRAGMA busy_timeout = 5000",
    "PRAGMA trusted_schema = OFF",
)


class _Waiting:
    """A change and who waits for it; nobody, when it was posted."""

    __slots__ = ("change", "error", "failed", "future", "made", "result")

    def __init__(
        self,
        change: Change[Any],
        future: asyncio.Future[Any] | None = None,
        made: Callable[[Any], None] | None = None,
        failed: Callable[[], None] | None = None,
    ) -> None:
        self.change = change
        self.future = future
        self.made = made
        self.failed = failed
        self.result: Any = None
        self.error: Exception | None = None


class PaymentStore:
    """The open store. ``write`` and ``post`` are for the event loop it was opened on."""

    def __init__(self, path: Path) -> None:
        """Opens the file, creates or migrates it, and reads nothing else yet.

        Raises: ConfigError: it cannot be opened, is another program's, or is in use.
        """
        self.path = path
        self._lock_fd = _lock(path.with_name(path.name + ".lock"))
        try:
            self._connection = _connect(path)
            migrate(self._connection)
        except (sqlite3.Error, OSError) as error:
            os.close(self._lock_fd)
            raise ConfigError(f"the payment store {path} cannot be opened: {error}") from error
        except BaseException:  # nobody else gives the lock back
            os.close(self._lock_fd)
            raise
        self._queue: queue.SimpleQueue[_Waiting | None] = queue.SimpleQueue()
        self._num_groups = 0  # since the last checkpoint
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closed: asyncio.Future[None] | None = None

    def read(self, query: Change[T]) -> T:
        """Runs ``query`` at once, before ``start``. Raises: StorageFailed."""
        assert self._thread is None, "the writer thread has the connection"
        try:
            return query(self._connection)
        except sqlite3.Error as error:
            raise StorageFailed(f"payment store: {error}") from error

    def start(self) -> None:
        """Begins to take changes, from the running loop."""
        self._loop = asyncio.get_running_loop()
        self._closed = self._loop.create_future()
        self._thread = threading.Thread(target=self._run, name="payment store", daemon=True)
        self._thread.start()

    async def write(
        self,
        change: Change[T],
        *,
        made: Callable[[T], None] | None = None,
        failed: Callable[[], None] | None = None,
    ) -> T:
        """Runs ``change`` and returns its result once it is on the disk.

        A caller that is cancelled has asked nevertheless: the change is made. So what memory must
        do with the outcome is ``made`` and ``failed``, one of which runs on the event loop before
        this returns, and without the caller if need be.
        Raises: StorageFailed: nothing of it is on the disk. Whatever else ``change`` raises.
        """
        assert self._loop is not None
        future: asyncio.Future[T] = self._loop.create_future()
        self._queue.put(_Waiting(change, future, made, failed))
        return await future

    def post(self, change: Change[None]) -> None:
        """Has ``change`` made soon, in order; a failure is logged."""
        self._queue.put(_Waiting(change))

    async def close(self) -> None:
        """Makes all changes that were asked for, then closes the file."""
        try:
            if self._closed is not None:
                self._queue.put(None)
                await asyncio.shield(self._closed)
        finally:
            # Also for a caller that is cancelled meanwhile: what is left takes one commit.
            if self._thread is not None:
                self._thread.join()
                self._thread = None
            self._connection.close()
            os.close(self._lock_fd)

    def _run(self) -> None:
        is_open = True
        while is_open:
            group = [self._queue.get()]
            while len(group) < MAX_GROUP and group[-1] is not None:
                try:
                    group.append(self._queue.get_nowait())
                except queue.Empty:
                    break
            is_open = group[-1] is not None
            changes = [waiting for waiting in group if waiting is not None]
            if changes:
                self._commit(changes)
                self._call(_deliver, changes)
                self._checkpoint_if_idle()
        assert self._closed is not None
        self._call(_finish, self._closed)

    def _commit(self, changes: list[_Waiting]) -> None:
        connection = self._connection
        try:
            connection.execute("BEGIN IMMEDIATE")
            for waiting in changes:
                self._apply(waiting)
            connection.execute("COMMIT")
        except sqlite3.Error as error:
            for waiting in changes:
                waiting.error = StorageFailed(f"payment store: {error}")
                waiting.error.__cause__ = error
        finally:
            if connection.in_transaction:
                connection.execute("ROLLBACK")

    def _checkpoint_if_idle(self) -> None:
        self._num_groups += 1
        if self._num_groups < _GROUPS_BETWEEN_CHECKPOINTS or not self._queue.empty():
            return
        self._num_groups = 0
        try:
            self._connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
        except sqlite3.Error as error:  # nothing is lost: it is all in the log
            _log.warning("payment store: no checkpoint: %s", error)

    def _apply(self, waiting: _Waiting) -> None:
        connection = self._connection
        connection.execute("SAVEPOINT change")
        try:
            waiting.result = waiting.change(connection)
        except Exception as error:  # the asker's, who gets it; the group goes on
            if not connection.in_transaction:
                # SQLite gave the whole transaction up: full disk, or the disk failed.
                raise sqlite3.OperationalError(str(error)) from error
            connection.execute("ROLLBACK TO change")
            waiting.error = (
                StorageFailed(f"payment store: {error}")
                if isinstance(error, sqlite3.Error)
                else error
            )
            if waiting.error is not error:
                waiting.error.__cause__ = error
        connection.execute("RELEASE change")

    def _call(self, function: Callable[[Any], None], argument: Any) -> None:
        assert self._loop is not None
        try:
            self._loop.call_soon_threadsafe(function, argument)
        except RuntimeError:  # the loop has ended without close(): nobody waits any more
            _log.warning("the payment store outlived its event loop")


def _deliver(changes: list[_Waiting]) -> None:
    for waiting in changes:
        if waiting.error is None and waiting.made is not None:
            waiting.made(waiting.result)
        elif waiting.error is not None and waiting.failed is not None:
            waiting.failed()
        future = waiting.future
        if future is None:
            if waiting.error is not None:
                _log.error("payment store: a change was lost", exc_info=waiting.error)
        elif future.cancelled():
            continue
        elif waiting.error is not None:
            future.set_exception(waiting.error)
        else:
            future.set_result(waiting.result)


def _finish(closed: asyncio.Future[None]) -> None:
    if not closed.done():
        closed.set_result(None)


def _connect(path: Path) -> sqlite3.Connection:
    # Made here with the right mode: SQLite gives its side files that of the main one.
    os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
    path.chmod(0o600)
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    for pragma in _PRAGMAS:
        connection.execute(pragma)
    add_wei_functions(connection)
    return connection


def _lock(path: Path) -> int:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise ConfigError(f"the payment store cannot be made in {path.parent}: {error}") from error
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(fd)
        raise StoreInUse(
            f"another process uses the payments of {path.parent}; stop it, or give this one "
            "another -dataDir"
        ) from error
    return fd
