"""Follows the logs of some contracts, and takes back those of blocks that the chain gave up.

Source: payments.md 5.5 and 9.5. Unlike the reference, the hash of what was read last is compared
with the chain at each step, so a log of an orphaned block does not stay applied.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass

from lpnode.chain.eth import Eth, Header, Log
from lpnode.errors import ChainError, ConfigError, RpcRefused
from lpnode.protocol.ethereum import Address

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class FollowerConfig:
    """How far is looked at once and back."""

    chunk_blocks: int = 1000
    """For one request; halved when an endpoint finds it too many."""
    num_checkpoints: int = 128
    """Heads that are remembered, and with them how deep a reorganisation may go."""

    def __post_init__(self) -> None:
        if self.chunk_blocks <= 0 or self.num_checkpoints <= 0:
            raise ConfigError(
                f"chunks and checkpoints must be positive, got {self.chunk_blocks} blocks and "
                f"{self.num_checkpoints}"
            )


@dataclass(frozen=True, slots=True)
class Cursor:
    """A block up to which everything was read."""

    number: int
    hash: bytes


@dataclass(frozen=True, slots=True)
class Changes:
    """What one step found."""

    head: Header
    removed: tuple[Log, ...] = ()
    """Given out earlier and no longer part of the chain; newest first."""
    added: tuple[Log, ...] = ()
    """Oldest first."""
    is_gap: bool = False
    """Logs may be missing: the chain changed deeper than is remembered. Read all state again."""


class LogFollower:
    """Gives out each log of the chain once, and takes it back if the chain does."""

    def __init__(
        self,
        eth: Eth,
        addresses: Sequence[Address],
        topics: Sequence[bytes],
        config: FollowerConfig | None = None,
        *,
        start: Cursor | None = None,
    ) -> None:
        """``start``: goes on behind this block; None: with what comes after the newest one."""
        self._eth = eth
        self._addresses = tuple(addresses)
        self._topics = tuple(topics)
        self._config = config or FollowerConfig()
        self._checkpoints = [] if start is None else [start]
        self._head: Header | None = None
        self._recent: list[Log] = []
        """Logs behind the oldest checkpoint."""
        self._chunk_blocks = self._config.chunk_blocks

    @property
    def cursor(self) -> Cursor | None:
        """Where a later follower can go on; None before the first step."""
        return self._checkpoints[-1] if self._checkpoints else None

    async def advance(self) -> Changes:
        """Reads up to the newest block.

        Raises: ChainError: nothing has changed here, and the next step finds it all.
        """
        head = await self._eth.head()
        if not self._checkpoints:
            self._checkpoints = [Cursor(head.number, head.hash)]
            self._head = head
            return Changes(head)
        num_kept = await self._num_kept(head)
        if num_kept == 0:
            return self._start_over(head)
        kept = self._checkpoints[num_kept - 1]
        if head.number == kept.number:
            self._head = head
        if head.number <= kept.number:
            # The endpoint may be a little behind another one; time does not run backwards for that.
            if self._head is None:
                raise ChainError(f"the endpoint is at block {head.number}, behind {kept.number}")
            return Changes(self._head)
        added = await self._read(kept.number + 1, head)
        return self._commit(head, num_kept, added)

    async def _num_kept(self, head: Header) -> int:
        """How many checkpoints are still part of the chain that ends in ``head``."""
        if self._checkpoints[0].number > head.number:
            return len(self._checkpoints)  # nothing to compare: the endpoint is behind
        for num_kept in range(len(self._checkpoints), 0, -1):
            checkpoint = self._checkpoints[num_kept - 1]
            if checkpoint.number > head.number:
                # The endpoint is behind, or the chain is shorter now: an older one tells.
                continue
            if await self._is_part(checkpoint, head):
                newer = self._checkpoints[num_kept:]
                is_behind = all(cursor.number > head.number for cursor in newer)
                return len(self._checkpoints) if is_behind else num_kept
        return 0

    async def _is_part(self, checkpoint: Cursor, head: Header) -> bool:
        if checkpoint.number == head.number:
            return checkpoint.hash == head.hash
        if checkpoint.number == head.number - 1:
            return checkpoint.hash == head.parent_hash
        there = await self._eth.header(checkpoint.number)
        if there is None:
            raise ChainError(f"the endpoint does not know block {checkpoint.number}")
        return there.hash == checkpoint.hash

    async def _read(self, first: int, head: Header) -> list[Log]:
        logs: list[Log] = []
        while first <= head.number:
            last = min(first + self._chunk_blocks - 1, head.number)
            try:
                found = await self._eth.logs(self._addresses, self._topics, first, last)
            except RpcRefused:
                if self._chunk_blocks == 1:
                    raise
                self._chunk_blocks = max(1, self._chunk_blocks // 2)
                continue
            logs += found
            first = last + 1
        # Nothing of another fork may have come in between.
        there = await self._eth.header(head.number)
        if there is None or there.hash != head.hash:
            raise ChainError(f"block {head.number} changed while its logs were read")
        return logs

    def _commit(self, head: Header, num_kept: int, added: list[Log]) -> Changes:
        kept = self._checkpoints[num_kept - 1]
        removed = [log for log in self._recent if log.block_number > kept.number]
        if num_kept < len(self._checkpoints):
            _log.warning(
                "the chain was reorganised behind block %d: %d events are taken back",
                kept.number,
                len(removed),
            )
        self._checkpoints[num_kept:] = [Cursor(head.number, head.hash)]
        self._head = head
        self._recent = [log for log in self._recent if log.block_number <= kept.number] + added
        del self._checkpoints[: -self._config.num_checkpoints]
        oldest = self._checkpoints[0].number
        self._recent = [log for log in self._recent if log.block_number > oldest]
        return Changes(head, tuple(reversed(removed)), tuple(added))

    def _start_over(self, head: Header) -> Changes:
        _log.warning(
            "the chain was reorganised deeper than block %d: all state is read again",
            self._checkpoints[0].number,
        )
        removed = tuple(reversed(self._recent))
        self._checkpoints = [Cursor(head.number, head.hash)]
        self._head = head
        self._recent = []
        return Changes(head, removed, is_gap=True)
