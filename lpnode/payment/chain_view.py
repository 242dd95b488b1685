"""What payments need from the chain, declared by the one who needs it.

``lpnode.chain`` satisfies these; ``node.py`` puts the two together. Nothing here waits except what
is marked ``async``, and only those raise ``ChainError``.
"""

from typing import Protocol

from lpnode.protocol.ethereum import Address


class SenderFunds(Protocol):
    """TicketBroker.getSenderInfo and claimedReserve at one block. Amounts in wei."""

    @property
    def deposit_wei(self) -> int:
        """Paid out first."""

    @property
    def withdraw_round(self) -> int:
        """From this round on the sender can take its funds back; 0: not unlocking."""

    @property
    def reserve_wei(self) -> int:
        """What is left of the reserve."""

    @property
    def reserve_claimed_wei(self) -> int:
        """What all recipients have claimed of it in the current round."""

    @property
    def claimed_by_us_wei(self) -> int:
        """What our recipient has claimed of it in the current round."""


class ChainView(Protocol):
    """The newest state that the node has seen."""

    @property
    def last_l1_block(self) -> int:
        """An L1 block number, also on an L2. Never decreases."""

    @property
    def last_initialized_round(self) -> int:
        """The round in which tickets are created now."""

    @property
    def is_round_initialized(self) -> bool:
        """Whether the current round has begun; until then no ticket can be redeemed."""

    @property
    def num_round_blocks_left(self) -> int:
        """L1 blocks until the current round ends."""

    @property
    def gas_price_wei(self) -> int:
        """Per unit of gas; 0 when it is not known."""

    @property
    def pool_size(self) -> int:
        """How many orchestrators share each sender's reserve."""

    @property
    def is_recipient_active(self) -> bool:
        """Whether our recipient is an active orchestrator in the last initialised round."""

    def round_block_hash(self, number: int) -> bytes:
        """32 bytes that RoundsManager keeps for a round; zeros when it has none, or when the
        node's copy is in doubt."""


class SenderReader(Protocol):
    """Reads from TicketBroker."""

    async def sender_funds(self, sender: Address) -> SenderFunds:
        """Raises: ChainError."""
