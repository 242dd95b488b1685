"""Senders' funds as last read from the chain.

Nothing is computed from events: one that concerns a sender makes the next use read again, so a
reorganised or repeated event cannot be counted twice.

Source: payments.md section 3.3.
"""

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field

from lpnode.errors import ChainError, ConfigError
from lpnode.payment.chain_view import SenderFunds, SenderReader
from lpnode.protocol.ethereum import Address

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class SendersConfig:
    """How long what was read counts, in seconds.

    Attributes:
        fresh_s: without an event, read again after as long.
        stale_s: and while the chain cannot be read, what is known counts for as long.
        failure_s: a failed read is not tried again before.
        max_senders: how many are kept; the unknown ones too, so that they cost one read.
        max_reads: how many are read at once, however many strangers ask. Senders that were seen to
            have funds are read beside those that were not, and never wait for them.
    """

    fresh_s: float = 60.0
    stale_s: float = 900.0
    failure_s: float = 1.0
    max_senders: int = 10_000
    max_reads: int = 8

    def __post_init__(self) -> None:
        if not 0 < self.fresh_s <= self.stale_s:
            raise ConfigError(
                f"fresh_s must be positive and at most stale_s, got {self.fresh_s:g} and "
                f"{self.stale_s:g}"
            )
        if self.max_senders <= 0 or self.max_reads <= 0:
            raise ConfigError(
                f"max_senders and max_reads must be positive, got {self.max_senders} and "
                f"{self.max_reads}"
            )


@dataclass(slots=True)
class _Known:
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    funds: SenderFunds | None = None
    read_at_s: float = 0.0
    num_events: int = 0
    num_events_read: int = -1
    failure: ChainError | None = None
    failed_at_s: float = 0.0


class Senders:
    """Reads each sender once for all who ask. Used from the event loop only."""

    def __init__(
        self, config: SendersConfig, reader: SenderReader, *, now_s: Callable[[], float]
    ) -> None:
        """``now_s``: a monotonic clock."""
        self._config = config
        self._reader = reader
        self._now_s = now_s
        self._known: OrderedDict[Address, _Known] = OrderedDict()
        self._reads = asyncio.Semaphore(config.max_reads)
        self._reads_of_strangers = asyncio.Semaphore(config.max_reads)

    def __len__(self) -> int:
        return len(self._known)

    async def funds(self, sender: Address) -> SenderFunds:
        """What the sender has. Waits for the chain when that is not known, or in doubt.

        Raises: ChainError: it cannot be read, and nothing recent enough is known.
        """
        known = self._known.get(sender)
        if known is None:
            known = self._known[sender] = _Known()
            if len(self._known) > self._config.max_senders:
                self._known.popitem(last=False)
        else:
            self._known.move_to_end(sender)
        if self._is_fresh(known):
            assert known.funds is not None
            return known.funds
        async with known.lock:
            # Somebody else may have read while this one waited.
            if not self._is_fresh(known):
                await self._read(sender, known)
            assert known.funds is not None
            return known.funds

    def doubt(self, sender: Address) -> None:
        """Hears of an event that concerns the sender."""
        known = self._known.get(sender)
        if known is not None:
            known.num_events += 1

    def doubt_all(self) -> None:
        """Hears of a new round, of a reorganisation, or that events may have been missed."""
        for known in self._known.values():
            known.num_events += 1

    def _is_fresh(self, known: _Known) -> bool:
        age_s = self._now_s() - known.read_at_s
        is_undoubted = known.num_events_read == known.num_events
        return known.funds is not None and is_undoubted and age_s < self._config.fresh_s

    async def _read(self, sender: Address, known: _Known) -> None:
        began_s = self._now_s()
        if known.failure is not None and began_s - known.failed_at_s < self._config.failure_s:
            self._fall_back(known, known.failure)
            return
        # An event during the read leaves what was read in doubt.
        num_events = known.num_events
        reads = self._reads if _has_funds(known) else self._reads_of_strangers
        try:
            async with reads:
                funds = await self._reader.sender_funds(sender)
        except ChainError as error:
            known.failure, known.failed_at_s = error, self._now_s()
            self._fall_back(known, error)
            return
        known.funds, known.read_at_s, known.failure = funds, began_s, None
        known.num_events_read = num_events

    def _fall_back(self, known: _Known, error: ChainError) -> None:
        is_recent = self._now_s() - known.read_at_s < self._config.stale_s
        if known.funds is None or not is_recent:
            raise ChainError(str(error)) from error
        _log.debug("a sender's funds are as of earlier: %s", error)


def _has_funds(known: _Known) -> bool:
    """Whether the sender was seen to have any, which takes more than an address."""
    funds = known.funds
    return funds is not None and funds.deposit_wei + funds.reserve_wei > 0
