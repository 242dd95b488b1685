"""Exact amounts in SQL: the aggregate ``wei_sum(column)``, and ``wei_add(one, other)``."""

import sqlite3
from collections import defaultdict
from fractions import Fraction


class _WeiSum:
    """Amounts with one denominator are added as integers, which is most of them."""

    def __init__(self) -> None:
        self._numerators: defaultdict[str, int] = defaultdict(int)

    def step(self, amount: str | bytes | None) -> None:
        if isinstance(amount, bytes):
            self._numerators["1"] += int.from_bytes(amount)
        elif amount is not None:
            numerator, _, denominator = amount.partition("/")
            self._numerators[denominator or "1"] += int(numerator)

    def finalize(self) -> str:
        parts = (Fraction(n, int(d)) for d, n in self._numerators.items())
        return str(sum(parts, Fraction(0)))


def add_wei_functions(connection: sqlite3.Connection) -> None:
    """Makes both known, for text as ``Fraction`` reads and writes it.

    The sum also takes big-endian bytes, and NULL for 0.
    """
    # The declarations of the standard library know aggregates of integers only.
    connection.create_aggregate("wei_sum", 1, _WeiSum)  # type: ignore[arg-type]
    connection.create_function("wei_add", 2, _wei_add, deterministic=True)


def _wei_add(one: str, other: str) -> str:
    return str(Fraction(one) + Fraction(other))
