"""What a gateway does not pay. Source: payments.md section 7.2."""

from dataclasses import replace
from fractions import Fraction

import pytest
from paying_gateway import ETH, RECIPIENT, Funds

from lpnode.errors import ConfigError, SpendingLimitExceeded
from lpnode.gateway.spending_limits import SpendingLimits
from lpnode.gateway.ticket_terms import TicketTerms
from lpnode.payment.params import win_prob
from lpnode.payment.ticket import MAX_WIN_PROB, TicketParams
from lpnode.protocol import lp_rpc_pb2 as pb

FACE_VALUE = 10**15
LIMITS = SpendingLimits(max_price=Fraction(1200))


def terms(ev_wei: int = 10**12, price: int = 1200, pixels: int = 1) -> TicketTerms:
    params = TicketParams(
        recipient=RECIPIENT,
        face_value_wei=FACE_VALUE,
        win_prob=win_prob(FACE_VALUE, ev_wei),
        recipient_rand_hash=bytes(32),
        seed=1,
        expiration_block=140,
        creation_round=1,
        creation_round_block_hash=b"\x01" * 32,
    )
    return TicketTerms(params, pb.PriceInfo(pricePerUnit=price, pixelsPerUnit=pixels))


def test_terms_up_to_the_limits_are_agreed_to() -> None:
    LIMITS.check_terms(terms())
    LIMITS.check_terms(terms(price=1200), Fraction(600))
    LIMITS.check_total(terms(), 19)
    LIMITS.check_funds(terms(), Funds(deposit_wei=FACE_VALUE, reserve_wei=1))


def test_a_higher_price_is_named_in_wei_and_by_the_hour() -> None:
    asked = r"asks 1200\.5 wei per unit, 119489126400000 wei \(0\.0001195 ETH\) an hour"
    with pytest.raises(SpendingLimitExceeded, match=asked):
        LIMITS.check_terms(terms(price=2401, pixels=2))


def test_a_price_may_double_within_a_session_and_no_more() -> None:
    SpendingLimits().check_terms(terms(price=2), Fraction(1))
    with pytest.raises(SpendingLimitExceeded, match="more than twice the price at the start"):
        SpendingLimits().check_terms(terms(price=2001, pixels=1000), Fraction(1))


def test_a_ticket_that_always_wins_is_not_sent() -> None:
    sure = replace(terms().params, win_prob=MAX_WIN_PROB)
    with pytest.raises(SpendingLimitExceeded, match="payment in full"):
        LIMITS.check_terms(TicketTerms(sure, terms().price_info))


def test_tickets_are_worth_no_more_than_allowed_alone_and_together() -> None:
    with pytest.raises(SpendingLimitExceeded, match="worth 4000000000000 wei"):
        LIMITS.check_terms(terms(ev_wei=4 * 10**12))
    with pytest.raises(SpendingLimitExceeded, match="payment of 21 tickets"):
        LIMITS.check_total(terms(), 21)


def test_more_tickets_than_nodes_take_are_not_sent() -> None:
    small = terms(ev_wei=10**9)
    LIMITS.check_total(small, 600)
    with pytest.raises(SpendingLimitExceeded, match="-ticketEV is too low for its price"):
        LIMITS.check_total(small, 601)


@pytest.mark.parametrize(
    ("funds", "complaint"),
    [
        (Funds(deposit_wei=0), "needs a deposit and a reserve"),
        (Funds(reserve_wei=0), "needs a deposit and a reserve"),
        (Funds(withdraw_round=3600), "unlocking its funds"),
        (Funds(deposit_wei=FACE_VALUE - 1), "does not hold it"),
    ],
)
def test_an_account_that_cannot_pay_does_not_begin(funds: Funds, complaint: str) -> None:
    with pytest.raises(SpendingLimitExceeded, match=complaint):
        LIMITS.check_funds(terms(), funds)


def test_the_deposit_may_have_to_hold_several_winning_tickets() -> None:
    limits = SpendingLimits(deposit_multiplier=3)
    limits.check_funds(terms(), Funds(deposit_wei=3 * FACE_VALUE))
    with pytest.raises(SpendingLimitExceeded, match="3 times"):
        limits.check_funds(terms(), Funds(deposit_wei=3 * FACE_VALUE - 1, reserve_wei=ETH))


def test_limits_that_are_none_are_settings_to_correct() -> None:
    with pytest.raises(ConfigError, match="highest price"):
        SpendingLimits(max_price=Fraction(-1))
    with pytest.raises(ConfigError, match="max_total_ev_wei must be positive"):
        SpendingLimits(max_total_ev_wei=0)
