"""Source: payments.md section 2.8."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lpnode.errors import ConfigError, InsufficientBalance
from lpnode.payment.balance import BalanceKey, Balances, BalancesConfig, bounded
from lpnode.payment.params import win_prob
from lpnode.payment.ticket import MAX_WIN_PROB, expected_value
from lpnode.protocol.ethereum import Address

KEY = BalanceKey(Address(b"\x01" * 20), "manifest")
OTHER = BalanceKey(Address(b"\x02" * 20), "manifest")


class Ledger:
    """What would be on disk."""

    def __init__(self, balance_wei: Fraction | int | None = None, debt: int = 50) -> None:
        self.now_s = 1_000_000.0
        self.disk: dict[BalanceKey, Fraction] = {}
        self.balances = Balances(
            BalancesConfig(max_debt_wei=debt),
            saved=[],
            record=self.record,
            now_s=lambda: self.now_s,
        )
        if balance_wei is not None:
            self.credit(KEY, Fraction(balance_wei))

    def credit(self, key: BalanceKey, amount_wei: Fraction) -> None:
        self.record(key, amount_wei, self.now_s)
        self.balances.credit_recorded(key, amount_wei)

    def record(self, key: BalanceKey, amount_wei: Fraction, used_at_s: float) -> None:
        self.disk[key] = self.disk.get(key, Fraction(0)) + amount_wei


def test_a_debit_takes_up_to_the_whole_balance_and_no_more() -> None:
    ledger = Ledger(10)
    assert not ledger.balances.try_debit(KEY, Fraction(21, 2))
    assert ledger.balances.get(KEY) == 10
    assert ledger.balances.try_debit(KEY, Fraction(10))
    assert ledger.balances.get(KEY) == ledger.disk[KEY] == 0
    assert not ledger.balances.try_debit(OTHER, Fraction(0))


def test_work_in_progress_cannot_be_paid_from_the_same_credit_twice() -> None:
    """A3."""
    ledger = Ledger(10)
    first = ledger.balances.reserve(KEY, Fraction(6))
    with pytest.raises(InsufficientBalance, match="Insufficient balance"):
        ledger.balances.reserve(KEY, Fraction(6))
    first.settle()
    assert ledger.balances.get(KEY) == ledger.disk[KEY] == 4


def test_failed_work_is_not_charged() -> None:
    """A4."""
    ledger = Ledger(10)
    with pytest.raises(RuntimeError), ledger.balances.reserve(KEY, Fraction(6)):
        raise RuntimeError
    assert ledger.balances.get(KEY) == ledger.disk[KEY] == 10
    assert len(ledger.disk) == 1


def test_a_hold_ends_once() -> None:
    ledger = Ledger(10)
    with ledger.balances.reserve(KEY, Fraction(6)) as hold:
        hold.settle(Fraction(5))
        hold.settle()
    assert ledger.balances.get(KEY) == ledger.disk[KEY] == 5


def test_a_reservation_needs_the_value_of_a_ticket_even_for_small_work() -> None:
    ledger = Ledger(10)
    with pytest.raises(InsufficientBalance):
        ledger.balances.reserve(KEY, Fraction(1), at_least_wei=11)


def test_work_of_unknown_cost_may_owe_a_bounded_debt() -> None:
    ledger = Ledger(10, debt=50)
    ledger.balances.reserve(KEY, Fraction(60), may_owe=True).settle()
    assert ledger.balances.get(KEY) == -50
    with pytest.raises(InsufficientBalance):
        ledger.balances.reserve(KEY, Fraction(1), may_owe=True)


def test_a_million_credits_and_one_debit_of_their_sum_leave_nothing() -> None:
    """A7, with each credit added as received."""
    value = 1_200_000_000_000_000
    ev = expected_value(value, win_prob(value, 8_000_000_000))
    ledger = Ledger()
    for _ in range(10_000):
        ledger.balances.credit_recorded(KEY, 100 * ev)
    assert ledger.balances.try_debit(KEY, 1_000_000 * ev)
    assert ledger.balances.get(KEY) == 0


def test_idle_balances_are_forgotten_once() -> None:
    ledger = Ledger(10)
    ledger.now_s += 3599
    assert ledger.balances.sweep() == []
    ledger.now_s += 2
    (balance,) = ledger.balances.sweep()
    assert (balance.key, balance.amount_wei) == (KEY, 10)
    assert ledger.balances.sweep() == []
    assert ledger.balances.get(KEY) is None


def test_a_balance_with_work_in_progress_is_not_forgotten() -> None:
    ledger = Ledger(10)
    hold = ledger.balances.reserve(KEY, Fraction(6))
    ledger.now_s += 10_000
    assert ledger.balances.sweep() == []
    hold.refund()
    assert ledger.balances.get(KEY) == 10


def test_balances_live_as_long_as_those_of_gateways() -> None:
    with pytest.raises(ConfigError, match="600"):
        BalancesConfig(idle_s=599)


@given(st.lists(st.fractions(max_denominator=2**63), max_size=40))
def test_unrelated_prices_never_make_a_balance_grow_without_end(amounts: list[Fraction]) -> None:
    balance = exact = Fraction(0)
    for amount in amounts:
        balance = bounded(balance + amount)
        exact += amount
    assert balance.denominator.bit_length() <= 1024
    assert 0 <= exact - balance <= Fraction(len(amounts), MAX_WIN_PROB)
