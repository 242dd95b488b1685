"""TicketBroker: senders' funds, redeemed tickets, and the calldata that redeems one.

Source: payments.md 5.2.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from lpnode.chain.abi import Event, Function
from lpnode.chain.contract import Contract
from lpnode.chain.eth import Block
from lpnode.protocol.ethereum import Address

_TICKET = "(address,address,uint256,uint256,uint256,bytes32,bytes)"

REDEEM = Function(f"redeemWinningTicket({_TICKET},bytes,uint256)")
BATCH_REDEEM = Function(f"batchRedeemWinningTickets({_TICKET}[],bytes[],uint256[])")
GET_TICKET_HASH = Function(f"getTicketHash({_TICKET})", "bytes32")
GET_SENDER_INFO = Function("getSenderInfo(address)", "uint256", "uint256", "uint256", "uint256")
CLAIMED_RESERVE = Function("claimedReserve(address,address)", "uint256")
CLAIMABLE_RESERVE = Function("claimableReserve(address,address)", "uint256")
USED_TICKETS = Function("usedTickets(bytes32)", "bool")
TICKET_VALIDITY_PERIOD = Function("ticketValidityPeriod()", "uint256")
UNLOCK_PERIOD = Function("unlockPeriod()", "uint256")
FUND_DEPOSIT_AND_RESERVE = Function("fundDepositAndReserve(uint256,uint256)")

DEPOSIT_FUNDED = Event("DepositFunded", "address indexed sender", "uint256 amount")
RESERVE_FUNDED = Event("ReserveFunded", "address indexed reserveHolder", "uint256 amount")
RESERVE_CLAIMED = Event(
    "ReserveClaimed", "address indexed reserveHolder", "address claimant", "uint256 amount"
)
TICKET_TRANSFER = Event(
    "WinningTicketTransfer",
    "address indexed sender",
    "address indexed recipient",
    "uint256 amount",
)
TICKET_REDEEMED = Event(
    "WinningTicketRedeemed",
    "address indexed sender",
    "address indexed recipient",
    "uint256 faceValue",
    "uint256 winProb",
    "uint256 senderNonce",
    "uint256 recipientRand",
    "bytes auxData",
)
UNLOCK = Event("Unlock", "address indexed sender", "uint256 startRound", "uint256 endRound")
UNLOCK_CANCELLED = Event("UnlockCancelled", "address indexed sender")
WITHDRAWAL = Event("Withdrawal", "address indexed sender", "uint256 deposit", "uint256 reserve")
PARAMETER_UPDATE = Event("ParameterUpdate", "string param")

SENDER_EVENTS = (
    DEPOSIT_FUNDED,
    RESERVE_FUNDED,
    RESERVE_CLAIMED,
    TICKET_TRANSFER,
    UNLOCK,
    UNLOCK_CANCELLED,
    WITHDRAWAL,
)
"""What changes a sender's funds; the sender is the first topic behind the event's own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RedeemableTicket:
    """A winning ticket and what proves it. Integers below 2**256."""

    recipient: Address
    sender: Address
    face_value_wei: int
    win_prob: int
    sender_nonce: int
    recipient_rand_hash: bytes
    aux_data: bytes
    """Creation round and its block hash, 64 bytes."""
    signature: bytes
    """65 bytes as received."""
    recipient_rand: int

    def _fields(self) -> tuple[object, ...]:
        return (
            self.recipient,
            self.sender,
            self.face_value_wei,
            self.win_prob,
            self.sender_nonce,
            self.recipient_rand_hash,
            self.aux_data,
        )

    def redeem_calldata(self) -> bytes:
        """Calldata of ``redeemWinningTicket``."""
        return REDEEM.encode(self._fields(), self.signature, self.recipient_rand)

    def hash_calldata(self) -> bytes:
        """Calldata of ``getTicketHash``."""
        return GET_TICKET_HASH.encode(self._fields())


def batch_redeem_calldata(tickets: Sequence[RedeemableTicket]) -> bytes:
    """Calldata of ``batchRedeemWinningTickets``.

    The transaction succeeds whatever becomes of each ticket: only ``WinningTicketRedeemed`` tells.
    So an estimate of its gas is too low as well: it finds what the transaction survives with, not
    what every ticket needs. Give it the gas of one redemption for each.
    """
    return BATCH_REDEEM.encode(
        [ticket._fields() for ticket in tickets],
        [ticket.signature for ticket in tickets],
        [ticket.recipient_rand for ticket in tickets],
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class SenderFunds:
    """What a sender has in TicketBroker, all read at one block. Amounts in wei."""

    deposit_wei: int
    withdraw_round: int
    """From this round on the sender can take its funds back; 0: not unlocking."""
    reserve_wei: int
    """What is left of the reserve."""
    reserve_claimed_wei: int
    """What all recipients have claimed of it in the current round."""
    claimed_by_us_wei: int
    """What our recipient has claimed of it in the current round."""


class TicketBroker(Contract):
    """Reads TicketBroker. Every method may raise ``ChainError``."""

    async def sender_funds(
        self, sender: Address, recipient: Address, block: Block = "latest"
    ) -> SenderFunds:
        """Returns the funds of a sender as ``recipient`` sees them.

        ``block`` must name one block, not a tag, for the two reads to agree.
        """
        deposit, withdraw_round, remaining, claimed = await self.read_all(
            GET_SENDER_INFO, sender, block=block
        )
        by_us = await self.read(CLAIMED_RESERVE, sender, recipient, block=block)
        return SenderFunds(
            deposit_wei=deposit,
            withdraw_round=withdraw_round,
            reserve_wei=remaining,
            reserve_claimed_wei=claimed,
            claimed_by_us_wei=by_us,
        )

    async def claimable_reserve(
        self, sender: Address, recipient: Address, block: Block = "latest"
    ) -> int:
        """Wei that ``recipient`` can still take from the reserve in the current round."""
        return int(await self.read(CLAIMABLE_RESERVE, sender, recipient, block=block))

    async def is_used(self, ticket_hash: bytes, block: Block = "latest") -> bool:
        """Whether the ticket with this hash (32 bytes) was redeemed."""
        return bool(await self.read(USED_TICKETS, ticket_hash, block=block))

    async def ticket_validity_period(self, block: Block = "latest") -> int:
        """How many rounds, counted from its own, a ticket can be redeemed in."""
        return int(await self.read(TICKET_VALIDITY_PERIOD, block=block))

    async def unlock_period(self) -> int:
        """How many rounds pass between a sender's unlock and its withdrawal."""
        return int(await self.read(UNLOCK_PERIOD))
