"""Precomputed multiples of the keys of senders who pay often, within a bound of memory.

Source: payments.md section 8. A key comes from recovery alone, never from a message, and only after
its address was that of the sender.
"""

import logging
import os
import threading
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import NamedTuple, Self

from lpnode._native import ticket as native
from lpnode.errors import ConfigError
from lpnode.protocol.ethereum import Address

_log = logging.getLogger(__name__)

# Senders whose tickets are being counted; a fresh address costs an entry, so there is a bound.
_MAX_CANDIDATES = 4096


class Tables(NamedTuple):
    """What native code needs of one sender."""

    generator: native.GeneratorTable
    signer: native.SignerTable


@dataclass(frozen=True, slots=True, kw_only=True)
class SignerTablesConfig:
    """When a sender gets tables, and how much memory all of them may take."""

    max_bytes: int = 64 * 2**20
    """For all senders, 256 KiB each; the one not seen for longest makes room. 0: no tables."""
    tickets_before_table: int = 32
    """Valid tickets, recovered at 40 us each, after which building (1.5 ms) pays."""

    def __post_init__(self) -> None:
        if self.max_bytes < 0:
            raise ConfigError(f"memory for signer tables is 0 bytes or more, got {self.max_bytes}")
        if self.tickets_before_table < 1:
            raise ConfigError(
                f"a signer gets tables after 1 ticket or more, got {self.tickets_before_table}"
            )


class SignerTables:
    """Tables by sender, built on a thread of its own. Any thread may ask; close it in the end."""

    def __init__(
        self, config: SignerTablesConfig, entropy: Callable[[int], bytes] = os.urandom
    ) -> None:
        """``entropy``: gives that many random bytes, the secret that blinds the tables."""
        self._config = config
        self._entropy = entropy
        self._lock = threading.Lock()
        self._generator: native.GeneratorTable | None = None
        self._tables: OrderedDict[Address, native.SignerTable] = OrderedDict()
        self._num_valid: OrderedDict[Address, int] = OrderedDict()
        self._building: dict[Address, Future[None]] = {}
        self._builder = ThreadPoolExecutor(max_workers=1, thread_name_prefix="signer-tables")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends the thread, after the table that it is building."""
        self._builder.shutdown(wait=True, cancel_futures=True)

    def __len__(self) -> int:
        return len(self._tables)

    @property
    def num_bytes(self) -> int:
        """Memory that the senders' tables take; the generator's 5.3 MB come on top."""
        return len(self._tables) * native.SignerTable.NUM_BYTES

    @property
    def num_candidates(self) -> int:
        """Senders whose valid tickets are being counted."""
        return len(self._num_valid)

    def of(self, sender: Address) -> Tables | None:
        """Returns the sender's tables, if they are built."""
        with self._lock:
            signer = self._tables.get(sender)
            if signer is None or self._generator is None:
                return None
            self._tables.move_to_end(sender)
            return Tables(self._generator, signer)

    def learn(self, sender: Address, public_key: bytes, num_valid: int) -> None:
        """Counts valid tickets of a sender without tables, and has them built when it pays.

        ``public_key``: 64 bytes, recovered from one of these tickets.
        """
        if self._config.max_bytes < native.SignerTable.NUM_BYTES:
            return
        with self._lock:
            if sender in self._tables or sender in self._building:
                return
            counted = self._num_valid.pop(sender, 0) + num_valid
            if counted < self._config.tickets_before_table:
                self._num_valid[sender] = counted
                if len(self._num_valid) > _MAX_CANDIDATES:
                    self._num_valid.popitem(last=False)
                return
            self._building[sender] = self._builder.submit(self._build, sender, public_key)

    def wait_until_built(self) -> None:
        """Blocks until every table asked for so far is there."""
        with self._lock:
            building = list(self._building.values())
        wait(building)

    def _build(self, sender: Address, public_key: bytes) -> None:
        try:
            if self._generator is None:
                self._generator = native.GeneratorTable(self._entropy(32))
            table = native.SignerTable(public_key)
        except MemoryError:  # this sender's tickets go on being recovered
            _log.warning("no memory for the table of a signer")
            with self._lock:
                del self._building[sender]
            return
        with self._lock:
            del self._building[sender]
            self._tables[sender] = table
            while self.num_bytes > self._config.max_bytes:
                self._tables.popitem(last=False)
