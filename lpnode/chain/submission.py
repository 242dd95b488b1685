"""A transaction on its way: every signed attempt at it under one nonce, and its record on disk."""

import asyncio
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Protocol, Self

from lpnode.chain.eth import Receipt
from lpnode.chain.gas_price import Fees
from lpnode.chain.signer import SignedTransaction, Transaction
from lpnode.errors import LpnodeError
from lpnode.protocol.ethereum import Address


@dataclass(frozen=True, slots=True)
class Attempt:
    """One signed form of a transaction; a replacement is another one with the same nonce."""

    transaction: Transaction
    signed: SignedTransaction

    @property
    def fees(self) -> Fees:
        """What it offers."""
        return Fees(self.transaction.fee_cap_wei, self.transaction.tip_wei)

    def to_record(self) -> bytes:
        """Everything, for a store to keep. No secret is in it."""
        fields = {
            name: value.hex() if isinstance(value, bytes) else value
            for name, value in asdict(self.transaction).items()
        }
        return json.dumps(fields | {"raw": self.signed.raw.hex()}).encode()

    @classmethod
    def from_record(cls, transaction_hash: bytes, record: bytes) -> Self:
        """Reads what ``to_record`` made."""
        fields = json.loads(record)
        raw = bytes.fromhex(fields.pop("raw"))
        fields["to"] = Address(bytes.fromhex(fields["to"]))
        fields["calldata"] = bytes.fromhex(fields["calldata"])
        return cls(Transaction(**fields), SignedTransaction(raw, transaction_hash))


@dataclass(frozen=True, slots=True)
class StoredAttempt:
    """A row: one attempt of an account."""

    account: Address
    nonce: int
    hash: bytes
    record: bytes


class SubmissionStore(Protocol):
    """Keeps attempts through a restart. Durable means: when the method has returned."""

    async def save_attempt(self, attempt: StoredAttempt) -> None:
        """Keeps an attempt; called before the network sees it. The same one may come again."""

    async def forget_nonce(self, account: Address, nonce: int) -> None:
        """Removes every attempt with this nonce: the chain has settled it, or it was never sent."""

    async def attempts(self, account: Address) -> Sequence[StoredAttempt]:
        """Returns what is kept, in the order it came."""


@dataclass(slots=True, eq=False)
class Submission:
    """A transaction that was handed to the network. ``Transactions`` alone changes it."""

    attempts: list[Attempt]
    next_step_s: float
    """When it is replaced, or given up."""
    num_replacements: int = 0
    num_missing: int = 0
    """Polls in a row that found the nonce used and none of the attempts mined."""
    outcome: asyncio.Future[Receipt] = field(
        default_factory=lambda: asyncio.get_running_loop().create_future()
    )

    @property
    def nonce(self) -> int:
        """The account's number of this transaction."""
        return self.attempts[0].transaction.nonce

    @property
    def hashes(self) -> tuple[bytes, ...]:
        """Of every attempt, oldest first; one of them may be mined."""
        return tuple(attempt.signed.hash for attempt in self.attempts)

    async def receipt(self) -> Receipt:
        """Waits until the transaction is mined.

        Raises:
            TransactionReverted: it was mined and the contract declined.
            TransactionTimedOut: it was not mined in time; it may still be.
            TransactionLost: its nonce was used by another transaction.
        """
        return await asyncio.shield(self.outcome)

    def fail(self, error: LpnodeError) -> None:
        """Tells whoever waits."""
        if not self.outcome.done():
            self.outcome.set_exception(error)
            # Nobody need be waiting: a resumed transaction may have lost its owner.
            self.outcome.exception()
