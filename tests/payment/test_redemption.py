"""Source: payments.md sections 4.3 and 4.5."""

from dataclasses import replace
from typing import Any

import pytest
from paying_gateway import GATEWAY, RECIPIENT
from payment_vectors import VECTORS, named

from lpnode.payment.redemption import (
    Action,
    Decision,
    FundsNow,
    RoundsNow,
    decide_by_funds,
    decide_by_time,
    is_in_window,
)
from lpnode.payment.ticket import SignedTicket, Ticket, TicketParams
from lpnode.payment.winning import Winner
from lpnode.protocol.ethereum import Signature

HASH = b"\x35" * 32
NOW = RoundsNow(
    last_l1_block=140,
    current_round=10,
    is_initialized=True,
    num_blocks_left=5000,
    validity_rounds=2,
    round_block_hash=HASH,
)


def winner(face_value_wei: int = 100, creation_round: int = 10) -> Winner:
    params = TicketParams(
        recipient=RECIPIENT,
        face_value_wei=face_value_wei,
        win_prob=1,
        recipient_rand_hash=bytes(32),
        seed=1,
        expiration_block=140,
        creation_round=creation_round,
        creation_round_block_hash=HASH,
    )
    ticket = Ticket(params, GATEWAY.address, 1)
    return Winner(
        signed=SignedTicket(ticket, Signature(bytes(65)), bytes(32)),
        hash=ticket.hash,
        manifest_id="m",
        won_at_s=0.0,
    )


def by_funds(now: RoundsNow, **funds: int) -> Decision:
    values = {"available_wei": 1000, "withdraw_round": 0, "tx_cost_wei": 1} | funds
    return decide_by_funds(winner(), now, FundsNow(**values), last_blocks=576)


@pytest.mark.parametrize("case", named("redemption_window"))
def test_a_ticket_is_redeemed_in_its_round_and_the_next(case: dict[str, Any]) -> None:
    """D2."""
    now = replace(NOW, current_round=case["current_round"])
    assert (
        is_in_window(case["creation_round"], case["current_round"], 2) is case["contract_accepts"]
    )
    decision = decide_by_time(winner(creation_round=case["creation_round"]), now)
    if case["contract_accepts"]:
        assert decision is None
    else:
        assert decision is not None
        assert decision.action is Action.EXPIRE


@pytest.mark.parametrize("case", VECTORS["params_expiry"])
def test_nothing_is_redeemed_while_its_recipient_rand_is_in_use(case: dict[str, Any]) -> None:
    """D2."""
    decision = decide_by_time(winner(), replace(NOW, last_l1_block=case["last_l1_block"]))
    assert (decision is None) is case["redeemable_now"]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"is_initialized": False}, "not initialised"),
        ({"round_block_hash": bytes(32)}, "no block hash"),
        ({"round_block_hash": b"\x36" * 32}, "another block hash"),
    ],
)
def test_what_the_contract_would_refuse_now_waits(change: dict[str, Any], reason: str) -> None:
    """D9."""
    decision = decide_by_time(winner(), replace(NOW, **change))
    assert decision is not None
    assert decision.action is Action.WAIT
    assert reason in decision.reason


@pytest.mark.parametrize("case", VECTORS["tx_manager"]["redemption_preconditions"])
def test_a_redemption_must_be_worth_its_gas(case: dict[str, Any]) -> None:
    """D8. At the last moment, where we take what there is as the reference always does."""
    decision = decide_by_funds(
        winner(int(case["face_value"])),
        replace(NOW, current_round=11, num_blocks_left=10),
        FundsNow(
            available_wei=int(case["available_funds"]),
            withdraw_round=0,
            tx_cost_wei=int(case["tx_cost"]),
        ),
        last_blocks=576,
    )
    assert (decision.action is Action.REDEEM) is case["submit"]


def test_a_short_payout_is_held_until_the_last_moment() -> None:
    """D6."""
    assert by_funds(NOW).action is Action.REDEEM
    for now in (NOW, replace(NOW, num_blocks_left=10), replace(NOW, current_round=11)):
        assert by_funds(now, available_wei=99) == Decision(
            Action.WAIT, "the sender could pay 99 of 100 wei"
        )
    last = replace(NOW, current_round=11, num_blocks_left=576)
    assert by_funds(last, available_wei=99).action is Action.REDEEM
    assert by_funds(last, available_wei=1).action is Action.WAIT


def test_an_unlocked_sender_pays_nobody() -> None:
    assert by_funds(NOW, withdraw_round=11).action is Action.REDEEM
    assert by_funds(NOW, withdraw_round=10).reason == "the sender is unlocked"
