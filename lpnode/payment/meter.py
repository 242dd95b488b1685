"""Live work → debits, on a clock that loses no fraction of a second.

Source: payments.md section 2.11; discovery.md section 6.5.
"""

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import Protocol

from lpnode.errors import ConfigError, InsufficientBalance
from lpnode.payment.work_units import LIVE_UNITS_PER_S

_NS_PER_S = 1_000_000_000


class UnitClock:
    """Turns passing time into whole units, each billed once.

    What is billed is always the floor of everything since the start, so the part of a unit that
    an interval ends in is billed with the next. Times in nanoseconds of a monotonic clock.
    """

    __slots__ = ("_interval_ns", "_num_billed", "_started_ns", "_units_per_s")

    def __init__(self, now_ns: int, *, units_per_s: int, interval_ns: int) -> None:
        self._started_ns = now_ns
        self._units_per_s = units_per_s
        self._interval_ns = interval_ns
        self._num_billed = 0

    def units_due(self, now_ns: int) -> int:
        """Units since the last billing; 0 before a whole interval has passed. Bills nothing."""
        # In units of 1/1e9, so that nothing is rounded.
        unbilled = self._units_per_s * (now_ns - self._started_ns) - self._num_billed * _NS_PER_S
        if unbilled < self._units_per_s * self._interval_ns:
            return 0
        return unbilled // _NS_PER_S

    def bill(self, units: int) -> None:
        """Moves the clock on by exactly the time that ``units`` stand for."""
        self._num_billed += units


class Purse(Protocol):
    """The balance that a stream is paid from."""

    @property
    def manifest_id(self) -> str:
        """Under which the sender's payments are credited."""

    @property
    def balance_wei(self) -> Fraction:
        """What is left."""

    def debit(self, units: int, fee_wei: Fraction) -> bool:
        """Takes ``fee_wei`` if there is as much; else takes nothing and returns False."""

    def close(self, reason: str) -> None:
        """Nothing will be taken any more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MeterConfig:
    """How live work is billed. ``interval_s`` is ``-livePaymentInterval``."""

    interval_s: float = 5.0
    units_per_s: int = LIVE_UNITS_PER_S

    def __post_init__(self) -> None:
        if self.interval_s <= 0:
            raise ConfigError(f"-livePaymentInterval must be positive, got {self.interval_s} s")
        if self.units_per_s <= 0:
            raise ConfigError(f"units_per_s must be positive, got {self.units_per_s}")


class Meter:
    """Debits one live session. Used from the event loop only.

    Input drives it, as in the reference: a stream that sends nothing costs nothing, and nothing is
    owed at its end. The price stays that of the session's start.
    """

    def __init__(
        self,
        config: MeterConfig,
        purse: Purse,
        *,
        price: Fraction,
        now_ns: Callable[[], int],
    ) -> None:
        """``price``: wei per unit; 0 makes the session free. ``now_ns``: a monotonic clock."""
        self._purse = purse
        self._price = price
        self._now_ns = now_ns
        self._clock = UnitClock(
            now_ns(),
            units_per_s=config.units_per_s,
            interval_ns=round(config.interval_s * _NS_PER_S),
        )
        self._is_closed = False

    def work_arrived(self) -> None:
        """Bills what is due; called for each piece of input, which costs well under 1 us.

        The reference looks at each new segment, so one that never ends would cost nothing there.

        Raises: InsufficientBalance: the session has to end now; nothing was debited.
        """
        if self._is_closed or not self._price:
            return
        units = self._clock.units_due(self._now_ns())
        if not units:
            return
        fee_wei = units * self._price
        if not self._purse.debit(units, fee_wei):
            raise InsufficientBalance(
                f"insufficient balance, mid={self._purse.manifest_id}, "
                f"fee={_decimal(fee_wei)}, balance={_decimal(self._purse.balance_wei)}"
            )
        self._clock.bill(units)

    def close(self, reason: str) -> None:
        """Ends the billing; later work is not debited. Harmless when repeated."""
        if not self._is_closed:
            self._is_closed = True
            self._purse.close(reason)


def _decimal(amount_wei: Fraction) -> str:
    """Whole wei; what is below is of no use to a reader."""
    return str(amount_wei.numerator // amount_wei.denominator)
