"""Credit per sender and manifest, in wei, exactly.

Note [Balance in memory and on disk]
The copy in memory decides; the one on disk follows by differences, which may be written in any
order. Credit reaches memory only after it is on disk, so what a gateway may spend was never lost.
A debit is taken in memory at once and written soon after: a crash in between leaves the sender a
little more, and never less.

Source: payments.md section 2.8.
"""

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import NamedTuple, Self

from lpnode.errors import ConfigError, InsufficientBalance
from lpnode.payment.ticket import MAX_WIN_PROB
from lpnode.protocol.ethereum import Address

_MAX_DENOMINATOR_BITS = 1024


class BalanceKey(NamedTuple):
    """Whose credit, for what work."""

    sender: Address
    manifest_id: str


class SavedBalance(NamedTuple):
    """A balance as it is on disk. ``used_at_s``: seconds since the epoch."""

    key: BalanceKey
    amount_wei: Fraction
    used_at_s: float


RecordChange = Callable[[BalanceKey, Fraction, float], None]
"""Writes a difference in wei and the time of use, soon."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BalancesConfig:
    """When balances are forgotten.

    Gateways clear their own copy after ten idle minutes; ours lives longer, so that no credit a
    gateway still counts on is gone.

    Attributes:
        idle_s: after as long without payment or work.
        max_debt_wei: how far work whose cost shows only at its end may take a balance below 0.
    """

    idle_s: float = 3600.0
    max_debt_wei: int = 10**14

    def __post_init__(self) -> None:
        if self.idle_s < 600:
            raise ConfigError(
                f"balances must live at least 600 s without use, as those of gateways do, "
                f"got {self.idle_s:g}"
            )
        if self.max_debt_wei < 0:
            raise ConfigError(f"the largest debt must not be negative, got {self.max_debt_wei}")


@dataclass(slots=True)
class _Entry:
    amount_wei: Fraction
    used_at_s: float
    num_reserved: int = 0


class Balances:
    """Every sender's credit. Used from the event loop only, where each method is one step."""

    def __init__(
        self,
        config: BalancesConfig,
        *,
        saved: list[SavedBalance],
        record: RecordChange,
        now_s: Callable[[], float],
    ) -> None:
        """``now_s``: seconds since the epoch, which lasts over a restart."""
        self._config = config
        self._record = record
        self._now_s = now_s
        self._entries = {
            balance.key: _Entry(balance.amount_wei, balance.used_at_s) for balance in saved
        }

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def num_senders(self) -> int:
        """Of how many senders there is a balance."""
        return len({key.sender for key in self._entries})

    @property
    def whole_wei(self) -> int:
        """All balances together, each cut to whole wei, which is quick."""
        return sum(entry.amount_wei.__floor__() for entry in self._entries.values())

    def get(self, key: BalanceKey) -> Fraction | None:
        """The balance in wei, or None when there is none."""
        entry = self._entries.get(key)
        return None if entry is None else entry.amount_wei

    def credit_recorded(self, key: BalanceKey, amount_wei: Fraction) -> None:
        """Adds what is already on disk."""
        self._change(key, amount_wei)

    def covers(self, key: BalanceKey, amount_wei: Fraction | int) -> bool:
        """Whether there is a balance of at least ``amount_wei``."""
        balance_wei = self.get(key)
        return balance_wei is not None and balance_wei >= amount_wei

    def try_debit(self, key: BalanceKey, fee_wei: Fraction) -> bool:
        """Takes ``fee_wei`` if the balance covers it; else changes nothing and returns False."""
        if not self.covers(key, fee_wei):
            return False
        self._take(key, fee_wei)
        return True

    def reserve(
        self,
        key: BalanceKey,
        fee_wei: Fraction,
        *,
        at_least_wei: Fraction | int = 0,
        may_owe: bool = False,
    ) -> "BalanceHold":
        """Sets ``fee_wei`` aside before the work, so that no other work can spend it.

        ``at_least_wei``: what the balance must hold in any case. ``may_owe``: the balance may fall
        below 0 by this, down to the largest debt.
        Raises: InsufficientBalance.
        """
        floor_wei = fee_wei - self._config.max_debt_wei if may_owe else fee_wei
        if not self.covers(key, max(floor_wei, Fraction(at_least_wei))):
            raise InsufficientBalance
        self._entries[key].num_reserved += 1
        self._change(key, -fee_wei)
        return BalanceHold(self, key, fee_wei)

    def sweep(self) -> list[SavedBalance]:
        """Forgets what has been idle too long; the caller writes down what is returned."""
        before_s = self._now_s() - self._config.idle_s
        idle = [
            SavedBalance(key, entry.amount_wei, entry.used_at_s)
            for key, entry in self._entries.items()
            if entry.used_at_s < before_s and not entry.num_reserved
        ]
        for balance in idle:
            del self._entries[balance.key]
        return idle

    def settle(self, key: BalanceKey, held_wei: Fraction, fee_wei: Fraction) -> None:
        """Ends a reservation: gives ``held_wei`` back and takes ``fee_wei``."""
        self._entries[key].num_reserved -= 1
        self._change(key, held_wei - fee_wei)
        if fee_wei:
            self._record(key, -fee_wei, self._now_s())

    def _take(self, key: BalanceKey, fee_wei: Fraction) -> None:
        self._change(key, -fee_wei)
        self._record(key, -fee_wei, self._now_s())

    def _change(self, key: BalanceKey, amount_wei: Fraction) -> None:
        now_s = self._now_s()
        entry = self._entries.get(key)
        if entry is None:
            self._entries[key] = _Entry(bounded(amount_wei), now_s)
        else:
            entry.amount_wei = bounded(entry.amount_wei + amount_wei)
            entry.used_at_s = now_s


class BalanceHold:
    """A fee set aside. Leaving its ``with`` block without ``settle`` gives all of it back."""

    __slots__ = ("_balances", "_held_wei", "_is_open", "_key")

    def __init__(self, balances: Balances, key: BalanceKey, held_wei: Fraction) -> None:
        self._balances = balances
        self._key = key
        self._held_wei = held_wei
        self._is_open = True

    def settle(self, fee_wei: Fraction | None = None) -> None:
        """The work is done and costs ``fee_wei``; None: what was set aside."""
        self._end(self._held_wei if fee_wei is None else fee_wei)

    def refund(self) -> None:
        """The work failed and costs nothing."""
        self._end(Fraction(0))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.refund()

    def _end(self, fee_wei: Fraction) -> None:
        if self._is_open:
            self._is_open = False
            self._balances.settle(self._key, self._held_wei, fee_wei)


def bounded(amount_wei: Fraction) -> Fraction:
    """``amount_wei``, or up to 1/(2^256-1) wei less where its terms would grow without end.

    Credit comes in parts of 2^256-1 and a price has a denominator of 64 bits, so a balance with
    one price stays exact; only one that saw many unrelated prices is ever cut.
    """
    if amount_wei.denominator.bit_length() <= _MAX_DENOMINATOR_BITS:
        return amount_wei
    return Fraction(amount_wei * MAX_WIN_PROB // 1, MAX_WIN_PROB)
