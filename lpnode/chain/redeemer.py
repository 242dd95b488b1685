"""Redeems won tickets at TicketBroker with the node's account.

It is what ``payment.redeem`` asks for; the ticket comes as it keeps it.

Source: payments.md sections 4.5 and 5.2.
"""

from typing import Protocol

from lpnode.chain.eth import Receipt
from lpnode.chain.submission import Submission
from lpnode.chain.ticket_broker import (
    TICKET_REDEEMED,
    TICKET_TRANSFER,
    RedeemableTicket,
    TicketBroker,
)
from lpnode.chain.transactions import Transactions
from lpnode.errors import ChainError
from lpnode.protocol.ethereum import Address, checksum_text


class TicketTerms(Protocol):
    """What all tickets of one quote share."""

    @property
    def recipient(self) -> Address:
        """Whom the ticket pays."""

    @property
    def face_value_wei(self) -> int:
        """What it pays."""

    @property
    def win_prob(self) -> int:
        """Out of 2**256 - 1."""

    @property
    def recipient_rand_hash(self) -> bytes:
        """32 bytes."""

    @property
    def aux_data(self) -> bytes:
        """Creation round and its block hash, 64 bytes."""


class Promise(Protocol):
    """A sender's ticket."""

    @property
    def params(self) -> TicketTerms:
        """Its terms."""

    @property
    def sender(self) -> Address:
        """Who pays."""

    @property
    def nonce(self) -> int:
        """The sender's number of it."""


class WonTicket(Protocol):
    """A ticket and what proves that it won."""

    @property
    def ticket(self) -> Promise:
        """The ticket."""

    @property
    def signature(self) -> bytes:
        """65 bytes, as received."""

    @property
    def recipient_rand(self) -> bytes:
        """32 bytes; public from the moment the transaction is sent."""


class Redeeming:
    """A redemption that the network has been told of."""

    def __init__(
        self, submission: Submission, broker: Address, sender: Address, recipient: Address
    ) -> None:
        self._submission = submission
        self._broker = broker
        self._sender = sender
        self._recipient = recipient

    @property
    def tx_hash(self) -> bytes:
        """Of its newest transaction, 32 bytes."""
        return self._submission.hashes[-1]

    async def payout_wei(self) -> int:
        """Waits until it is mined; returns what was paid, which may be less than the face value.

        Raises: TransactionTimedOut: it may still be mined. ChainError: it did nothing.
        """
        receipt = await self._submission.receipt()
        payout_wei = _payout_wei(receipt, self._broker, self._sender, self._recipient)
        if payout_wei is None:
            raise ChainError(f"transaction 0x{receipt.transaction_hash.hex()} redeemed no ticket")
        return payout_wei


class Redeemer:
    """TicketBroker and the account that pays the gas, for one recipient."""

    def __init__(
        self, broker: TicketBroker, transactions: Transactions, recipient: Address
    ) -> None:
        """``transactions``: has taken up again what was under way before."""
        self._broker = broker
        self._transactions = transactions
        self._recipient = recipient
        # A process that is killed right behind sending has not written down for which ticket; the
        # calldata says it, also when the chain has settled it and nobody watches it any more.
        self._resumed = {
            submission.attempts[-1].transaction.calldata: submission.hashes
            for submission in transactions.under_way
        }

    async def is_used(self, ticket_hash: bytes, *, is_final: bool = False) -> bool:
        """Whether the ticket was redeemed, as of the newest or the newest final block.

        Raises: ChainError.
        """
        return await self._broker.is_used(ticket_hash, "finalized" if is_final else "latest")

    async def claimable_reserve_wei(self, sender: Address) -> int:
        """What we could take of the sender's reserve now. Raises: ChainError."""
        return await self._broker.claimable_reserve(sender, self._recipient)

    async def payout(self, ticket: WonTicket, tx_hash: bytes | None) -> tuple[bytes, int] | None:
        """The transaction of ours that redeemed a ticket, and what it paid, in wei.

        ``tx_hash``: what was sent for it; None when that is not known. Returns None if neither that
        one nor one that replaced it did. Raises: ChainError.
        """
        hashes = (tx_hash,) if tx_hash is not None else self._resumed.get(_calldata(ticket), ())
        parties = ticket.ticket.sender, ticket.ticket.params.recipient
        for sent in hashes:
            receipt = await self._transactions.receipt(sent)
            if receipt is None:
                continue
            payout_wei = _payout_wei(receipt, self._broker.address, *parties)
            if payout_wei is not None:
                return receipt.transaction_hash, payout_wei
        return None

    def is_under_way(self, tx_hash: bytes) -> bool:
        """Whether that transaction is still being watched."""
        return any(tx_hash in submission.hashes for submission in self._transactions.under_way)

    async def redeem(self, ticket: WonTicket) -> Redeeming:
        """Sends the redemption. For a ticket whose redemption is under way, returns that one.

        Raises:
            CallReverted: the contract would decline now; nothing was sent.
            ChainError: nothing was sent.
        """
        params = ticket.ticket.params
        if params.recipient != self._recipient:
            raise ChainError(
                f"the ticket pays {checksum_text(params.recipient)}, "
                f"not {checksum_text(self._recipient)}"
            )
        calldata = _calldata(ticket)
        submission = self._under_way(calldata)
        if submission is None:
            submission = await self._transactions.submit(self._broker.address, calldata)
        return Redeeming(submission, self._broker.address, ticket.ticket.sender, params.recipient)

    def _under_way(self, calldata: bytes) -> Submission | None:
        # Calldata says which ticket it is, also for what another process had sent.
        for submission in self._transactions.under_way:
            transaction = submission.attempts[-1].transaction
            if transaction.to == self._broker.address and transaction.calldata == calldata:
                return submission
        return None


def _calldata(ticket: WonTicket) -> bytes:
    params = ticket.ticket.params
    return RedeemableTicket(
        recipient=params.recipient,
        sender=ticket.ticket.sender,
        face_value_wei=params.face_value_wei,
        win_prob=params.win_prob,
        sender_nonce=ticket.ticket.nonce,
        recipient_rand_hash=params.recipient_rand_hash,
        aux_data=params.aux_data,
        signature=ticket.signature,
        recipient_rand=int.from_bytes(ticket.recipient_rand, "big"),
    ).redeem_calldata()


def _payout_wei(
    receipt: Receipt, broker: Address, sender: Address, recipient: Address
) -> int | None:
    """What a transaction that redeems one ticket has paid; None: it did not redeem it."""
    parties = tuple(party.rjust(32, b"\0") for party in (sender, recipient))

    def amounts(topic: bytes) -> list[int]:
        """The first word of each such event between the two."""
        return [
            int.from_bytes(log.data[:32], "big")
            for log in receipt.logs
            if log.address == broker and log.topics == (topic, *parties)
        ]

    if not amounts(TICKET_REDEEMED.topic):
        return None
    # The contract does not tell of a payout of nothing.
    return sum(amounts(TICKET_TRANSFER.topic))
