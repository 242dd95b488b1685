"""Which nonces each recipient rand was paid with. Source: payments.md section 2.6."""

from collections.abc import Iterable
from enum import Enum
from typing import NamedTuple

MAX_NONCES = 600
"""For each recipient rand."""


class NonceVerdict(Enum):
    """What became of a nonce."""

    NEW = "new"
    SEEN = "already seen"
    TOO_MANY = "too many values"


class SavedNonces(NamedTuple):
    """The nonces of one recipient rand as they are on disk."""

    rand_hash: bytes
    expiration_block: int
    nonces: frozenset[int]


class _Seen:
    __slots__ = ("expiration_block", "nonces")

    def __init__(self, expiration_block: int, nonces: Iterable[int] = ()) -> None:
        self.expiration_block = expiration_block
        self.nonces = set(nonces)


class Nonces:
    """Lets each nonce of a recipient rand through once. Used from the event loop only.

    What is claimed counts at once, before it is on disk, so that two payments on their way cannot
    both have it.
    """

    def __init__(self, saved: Iterable[SavedNonces] = (), *, evicted_l1_block: int = 0) -> None:
        self._seen = {row.rand_hash: _Seen(row.expiration_block, row.nonces) for row in saved}
        self._evicted_l1_block = evicted_l1_block

    def __len__(self) -> int:
        """How many recipient rands have nonces."""
        return len(self._seen)

    def has_expired(self, expiration_block: int, last_l1_block: int) -> bool:
        """Whether parameters are past their time, or their nonces may be forgotten already."""
        return expiration_block <= max(last_l1_block, self._evicted_l1_block)

    def claim(
        self, rand_hash: bytes, expiration_block: int, nonces: Iterable[int]
    ) -> list[NonceVerdict]:
        """Takes those that are new; answers for each in its order."""
        seen = self._seen.get(rand_hash)
        if seen is None:
            seen = self._seen[rand_hash] = _Seen(expiration_block)
        return [self._claim_one(seen.nonces, nonce) for nonce in nonces]

    def release(self, rand_hash: bytes, nonces: Iterable[int]) -> None:
        """Gives claimed nonces back: they could not be written."""
        seen = self._seen.get(rand_hash)
        if seen is None:
            return
        seen.nonces.difference_update(nonces)
        if not seen.nonces:
            del self._seen[rand_hash]

    def evict(self, last_l1_block: int) -> int:
        """Forgets the nonces of parameters that have expired; returns of how many.

        The block is kept: it does not matter if the chain's head ever seems to be before it.
        """
        expired = [
            rand_hash
            for rand_hash, seen in self._seen.items()
            if seen.expiration_block <= last_l1_block
        ]
        for rand_hash in expired:
            del self._seen[rand_hash]
        self._evicted_l1_block = max(self._evicted_l1_block, last_l1_block)
        return len(expired)

    @staticmethod
    def _claim_one(seen: set[int], nonce: int) -> NonceVerdict:
        if nonce in seen:
            return NonceVerdict.SEEN
        if len(seen) >= MAX_NONCES:
            return NonceVerdict.TOO_MANY
        seen.add(nonce)
        return NonceVerdict.NEW
