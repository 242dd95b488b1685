"""The ledger added up: rows of any of its tables, in groups, to exact sums.

Note [Whose model]
A debit knows its model by its job. Payments, won tickets and forfeited credit know only the
manifest that they are for: they count for the model of the first job that the sender had under it,
which no later job changes. What no job stands behind counts for the model ``""``.

Note [Whose day]
Days are those of UTC. A payment counts on the day it came, work on the day it was done, and a
won ticket, with all that became of it, on the day it was won: so no day changes that was looked at
but for the state of its tickets.
"""

import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from fractions import Fraction
from typing import Any

from lpnode.payment.winner_state import WinnerState

_ZERO = Fraction(0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Earnings:
    """What was earned in some group. Amounts in wei.

    Attributes:
        num_tickets, num_credited: of those payments that were taken, in whole or in part.
        credit_wei: EV of the credited tickets.
        units, fee_wei: work done, and what was debited for it.
        forfeited_wei: credit that nobody used in time.
        num_pending, num_redeemed, num_lost: won tickets by what became of them so far.
        payout_wei: what the chain paid for the redeemed ones; less than their face value when the
            sender had less, and nothing for one that somebody else redeemed.
    """

    num_payments: int = 0
    num_tickets: int = 0
    num_credited: int = 0
    credit_wei: Fraction = _ZERO
    units: int = 0
    fee_wei: Fraction = _ZERO
    forfeited_wei: Fraction = _ZERO
    num_pending: int = 0
    pending_face_value_wei: Fraction = _ZERO
    num_redeemed: int = 0
    redeemed_face_value_wei: Fraction = _ZERO
    payout_wei: Fraction = _ZERO
    num_lost: int = 0
    lost_face_value_wei: Fraction = _ZERO

    def __add__(self, other: "Earnings") -> "Earnings":
        return Earnings(**{name: getattr(self, name) + getattr(other, name) for name in FIELDS})

    @property
    def num_won(self) -> int:
        """Tickets that won."""
        return self.num_pending + self.num_redeemed + self.num_lost

    @property
    def won_face_value_wei(self) -> Fraction:
        """What the tickets that won promise."""
        return self.pending_face_value_wei + self.redeemed_face_value_wei + self.lost_face_value_wei

    def as_fields(self) -> dict[str, int | str]:
        """Counts as they are; amounts as text, whole wei or ``numerator/denominator``."""
        values = {name: getattr(self, name) for name in FIELDS}
        return {n: str(v) if isinstance(v, Fraction) else v for n, v in values.items()}


FIELDS = tuple(each.name for each in fields(Earnings))


@dataclass(frozen=True, slots=True)
class Source:
    """Rows that say something about earnings. Its first table is named ``t``.

    ``sums``: aggregate by the field of ``Earnings`` that it gives.
    """

    tables: str
    day: str
    sums: Mapping[str, str]
    model: str = field(
        default="""coalesce((SELECT jobs.model_id FROM jobs WHERE jobs.sender = t.sender
        AND jobs.manifest_id = t.manifest_id ORDER BY jobs.id LIMIT 1), '')"""
    )
    sender: str = "t.sender"


def _day_of(column: str) -> str:
    return f"date(cast(t.{column} AS INTEGER), 'unixepoch')"


def _winners(name: str, states: Sequence[WinnerState]) -> dict[str, str]:
    marks = ", ".join(f"'{state}'" for state in states)
    chosen = f"FILTER (WHERE t.state IN ({marks}))"
    return {
        f"num_{name}": f"count(*) {chosen}",
        f"{name}_face_value_wei": f"wei_sum(t.face_value) {chosen}",
    }


PAYMENTS = Source(
    "payments t",
    _day_of("at"),
    {
        "num_payments": "count(*)",
        "num_tickets": "sum(t.num_tickets)",
        "num_credited": "sum(t.num_credited)",
        "credit_wei": "wei_sum(t.credit)",
    },
)
DEBITS = Source(
    "jobs t JOIN debits ON debits.job_id = t.id",
    "debits.day",
    {"units": "sum(debits.units)", "fee_wei": "wei_sum(debits.fee)"},
    model="t.model_id",
)
FORFEITS = Source("forfeits t", _day_of("at"), {"forfeited_wei": "wei_sum(t.amount)"})
WINNERS = Source(
    "winners t",
    _day_of("won_at"),
    {
        **_winners("pending", [state for state in WinnerState if state.is_pending]),
        **_winners("redeemed", [state for state in WinnerState if state.is_paid]),
        **_winners("lost", [state for state in WinnerState if state.is_lost]),
        "payout_wei": "wei_sum(t.payout)",
    },
)
DAILY_TOTALS = Source(
    "daily_totals t",
    "t.day",
    {
        **{
            name: f"sum(t.{name})"
            for name in (
                *("num_payments", "num_tickets", "num_credited", "units"),
                *("num_redeemed", "num_lost"),
            )
        },
        **{
            name: f"wei_sum(t.{name.removesuffix('_wei')})"
            for name in (
                *("credit_wei", "fee_wei", "forfeited_wei", "payout_wei"),
                *("redeemed_face_value_wei", "lost_face_value_wei"),
            )
        },
    },
    model="t.model_id",
)
SOURCES = (PAYMENTS, DEBITS, FORFEITS, WINNERS, DAILY_TOTALS)


def sum_rows(
    connection: sqlite3.Connection,
    source: Source,
    keys: Sequence[str],
    where: str = "TRUE",
    parameters: Sequence[object] = (),
) -> Iterator[tuple[tuple[object, ...], Earnings]]:
    """Sums the rows of ``source`` up, one result for each value of ``keys``.

    ``keys``: SQL over the tables of ``source``, as its ``day``. Nothing there gives no result.
    """
    columns = ", ".join([*keys, *source.sums.values()])
    # Of no rows at all there is one sum without GROUP BY; HAVING leaves it out.
    groups = f"GROUP BY {', '.join(keys)}" if keys else "HAVING count(*) > 0"
    rows = connection.execute(
        f"SELECT {columns} FROM {source.tables} WHERE {where} {groups}", parameters
    )
    for row in rows:
        values: dict[str, Any] = {
            # An aggregate of no rows is NULL, where a FILTER left none.
            name: Fraction(value or 0) if name.endswith("_wei") else value
            for name, value in zip(source.sums, row[len(keys) :], strict=True)
        }
        yield row[: len(keys)], Earnings(**values)
