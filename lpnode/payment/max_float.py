"""How much of a sender's funds the node may count on, and from when on it may not.

Source: payments.md section 3.
"""

from lpnode.payment.chain_view import SenderFunds

_MIN_DEPOSIT_PENDING_RATIO = 3
_ROUNDS_TO_REDEEM = 1


def reserve_alloc_wei(funds: SenderFunds, pool_size: int) -> int:
    """Our share of the sender's reserve that is still to be claimed in this round."""
    if pool_size == 0:
        return 0
    share_wei = (funds.reserve_wei + funds.reserve_claimed_wei) // pool_size
    return share_wei - funds.claimed_by_us_wei


def available_wei(funds: SenderFunds, pool_size: int, pending_wei: int) -> int:
    """What the sender can still pay us, at most. ``pending_wei``: face values won, not redeemed."""
    return reserve_alloc_wei(funds, pool_size) + funds.deposit_wei - pending_wei


def max_float_wei(funds: SenderFunds, pool_size: int, pending_wei: int) -> int:
    """The largest face value to ask of the sender; may be negative.

    A deposit of three times what is pending pays for that, so the reserve stays whole.
    """
    alloc_wei = reserve_alloc_wei(funds, pool_size)
    if pending_wei > 0 and funds.deposit_wei >= _MIN_DEPOSIT_PENDING_RATIO * pending_wei:
        return alloc_wei
    return alloc_wei - pending_wei


def is_unlocking_soon(funds: SenderFunds, last_initialized_round: int) -> bool:
    """Whether a ticket of now could find the sender's funds gone when it is redeemed."""
    withdraw_round = funds.withdraw_round
    return 0 < withdraw_round <= last_initialized_round + _ROUNDS_TO_REDEEM
