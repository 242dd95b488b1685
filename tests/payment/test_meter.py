"""Source: payments.md section 2.11."""

from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import pytest
from payment_vectors import VECTORS

from lpnode.errors import ConfigError, InsufficientBalance
from lpnode.payment.meter import Meter, MeterConfig, UnitClock

S = 1_000_000_000


@dataclass
class PurseOf:
    credit_wei: Fraction | None
    manifest_id: str = "8badf00d"
    fees: list[Fraction] = field(default_factory=list)
    closed: list[str] = field(default_factory=list)

    @property
    def balance_wei(self) -> Fraction:
        return self.credit_wei or Fraction(0)

    def debit(self, units: int, fee_wei: Fraction) -> bool:
        if self.credit_wei is None or self.credit_wei < fee_wei:
            return False
        self.credit_wei -= fee_wei
        self.fees.append(fee_wei)
        return True

    def close(self, reason: str) -> None:
        self.closed.append(reason)


@dataclass
class Ticks:
    now_ns: int = 1

    def __call__(self) -> int:
        return self.now_ns


def meter_on(purse: Any, ticks: Ticks, price: Fraction, units_per_s: int = 1) -> Meter:
    return Meter(MeterConfig(units_per_s=units_per_s), purse, price=price, now_ns=ticks)


@pytest.mark.parametrize("case", VECTORS["live_accounting"]["account_payment"])
def test_a_balance_pays_a_fee_up_to_itself(case: dict[str, Any]) -> None:
    """A1, A2."""
    purse = PurseOf(None if case["balance"] is None else Fraction(case["balance"]))
    ticks = Ticks()
    meter = meter_on(purse, ticks, Fraction(case["price"]), units_per_s=case["units"])
    meter._clock._interval_ns = S
    ticks.now_ns += S
    if case["accepted"]:
        meter.work_arrived()
        assert purse.balance_wei == case["balance"] - case["units"]
    else:
        with pytest.raises(InsufficientBalance, match="insufficient balance, mid=8badf00d, fee="):
            meter.work_arrived()
        assert purse.fees == []


def test_nothing_is_billed_before_a_whole_interval() -> None:
    purse, ticks = PurseOf(Fraction(100)), Ticks()
    meter = meter_on(purse, ticks, Fraction(1))
    ticks.now_ns += 5 * S - 1
    meter.work_arrived()
    assert purse.fees == []
    ticks.now_ns += 1
    meter.work_arrived()
    assert purse.fees == [5]


def test_fractions_of_units_and_seconds_carry_over() -> None:
    """A1: an hour of uneven intervals bills an hour."""
    clock = UnitClock(0, units_per_s=27_648_000, interval_ns=5 * S)
    now_ns = billed = 0
    while now_ns < 3600 * S:
        now_ns += 5_037_123_457
        units = clock.units_due(now_ns)
        clock.bill(units)
        billed += units
    assert billed == 27_648_000 * now_ns // S


def test_a_stream_without_input_costs_nothing_until_it_sends() -> None:
    purse, ticks = PurseOf(Fraction(100)), Ticks()
    meter = meter_on(purse, ticks, Fraction(1))
    ticks.now_ns += 60 * S
    assert purse.fees == []
    meter.work_arrived()
    assert purse.fees == [60]


def test_a_closed_meter_debits_nothing() -> None:
    purse, ticks = PurseOf(Fraction(100)), Ticks()
    meter = meter_on(purse, ticks, Fraction(1))
    ticks.now_ns += 60 * S
    meter.close("the input channel was closed")
    meter.close("again")
    meter.work_arrived()
    assert (purse.fees, purse.closed) == ([], ["the input channel was closed"])


def test_a_free_session_is_never_debited() -> None:
    purse, ticks = PurseOf(None), Ticks()
    meter = meter_on(purse, ticks, Fraction(0))
    ticks.now_ns += 60 * S
    meter.work_arrived()
    assert purse.fees == []


def test_an_interval_must_be_positive() -> None:
    with pytest.raises(ConfigError, match="-livePaymentInterval"):
        MeterConfig(interval_s=0)
