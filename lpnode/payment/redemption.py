"""Whether a ticket that won should be redeemed now. Pure: the state of the chain comes in.

Source: payments.md sections 4.3 and 4.5.
"""

from dataclasses import dataclass
from enum import Enum

from lpnode.payment.winning import Winner

_NO_HASH = bytes(32)


class Action(Enum):
    """What to do with a winner now."""

    REDEEM = "redeem"
    WAIT = "wait"
    EXPIRE = "expire"


@dataclass(frozen=True, slots=True)
class Decision:
    """``reason`` tells operators why a ticket waits or is given up."""

    action: Action
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundsNow:
    """The protocol's clock.

    Attributes:
        current_round: as of the newest block; moves on without a transaction.
        is_initialized: whether somebody has begun it; until then nothing is redeemed.
        num_blocks_left: L1 blocks until it ends.
        validity_rounds: a ticket is good in its own round and the next ones, so many in all.
        round_block_hash: of the ticket's round; zeros: none.
    """

    last_l1_block: int
    current_round: int
    is_initialized: bool
    num_blocks_left: int
    validity_rounds: int
    round_block_hash: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class FundsNow:
    """What redeeming would bring and cost, in wei.

    ``available_wei``: what the contract would find for us, less what our transactions under way
    will take of it.
    """

    available_wei: int
    withdraw_round: int
    tx_cost_wei: int


def is_in_window(creation_round: int, current_round: int, validity_rounds: int) -> bool:
    """Whether the contract takes tickets of a round in the current one."""
    return current_round < creation_round + validity_rounds


def decide_by_time(winner: Winner, now: RoundsNow) -> Decision | None:
    """What can be said without looking at money; None when only that decides."""
    params = winner.signed.ticket.params
    if winner.expiration_block > now.last_l1_block:
        # Redeeming reveals the recipient rand, which must not be known while it is in use.
        return Decision(
            Action.WAIT, f"its parameters are in use until block {winner.expiration_block}"
        )
    if not is_in_window(params.creation_round, now.current_round, now.validity_rounds):
        return Decision(
            Action.EXPIRE,
            f"round {params.creation_round} can no longer be redeemed in {now.current_round}",
        )
    if not now.is_initialized:
        return Decision(Action.WAIT, f"round {now.current_round} is not initialised")
    if now.round_block_hash == _NO_HASH:
        return Decision(Action.WAIT, f"round {params.creation_round} has no block hash")
    if now.round_block_hash != params.creation_round_block_hash:
        # A reorganisation may bring it back until the ticket's time is over.
        return Decision(Action.WAIT, f"round {params.creation_round} has another block hash now")
    return None


def decide_by_funds(
    winner: Winner, now: RoundsNow, funds: FundsNow, *, last_blocks: int
) -> Decision:
    """Whether it is worth redeeming now.

    The contract pays what there is and counts the ticket as used, so one that would be paid short
    is held back until the last ``last_blocks`` L1 blocks in which it can be redeemed at all.
    """
    params = winner.signed.ticket.params
    if winner.face_value_wei <= funds.tx_cost_wei:
        return Decision(Action.WAIT, "insufficient ticket face value for redeem tx cost")
    if 0 < funds.withdraw_round <= now.current_round:
        return Decision(Action.WAIT, "the sender is unlocked")
    if funds.available_wei <= funds.tx_cost_wei:
        return Decision(Action.WAIT, "insufficient sender funds for redeem tx cost")
    is_last_round = not is_in_window(
        params.creation_round, now.current_round + 1, now.validity_rounds
    )
    is_last_chance = is_last_round and now.num_blocks_left <= last_blocks
    if funds.available_wei < winner.face_value_wei and not is_last_chance:
        return Decision(
            Action.WAIT,
            f"the sender could pay {funds.available_wei} of {winner.face_value_wei} wei",
        )
    return Decision(Action.REDEEM)
