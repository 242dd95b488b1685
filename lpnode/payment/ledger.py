"""Rows of the ledger: balances, jobs, what they cost, and the payments for them.

Each function is a change, or part of one, for ``PaymentStore.write``.
"""

import sqlite3
from dataclasses import dataclass
from datetime import UTC, datetime
from fractions import Fraction

from lpnode.payment.balance import BalanceKey, SavedBalance, bounded
from lpnode.protocol.ethereum import Address


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """Work that a sender pays for. ``price``: wei per unit."""

    key: BalanceKey
    capability: int
    model_id: str
    price: Fraction


@dataclass(frozen=True, slots=True, kw_only=True)
class PaymentRow:
    """A payment with tickets, as it was taken. ``credit_wei`` is for ``num_credited`` of them."""

    key: BalanceKey
    rand_hash: bytes
    num_tickets: int
    num_credited: int
    credit_wei: Fraction


def load_balances(connection: sqlite3.Connection) -> list[SavedBalance]:
    """Every balance."""
    return [
        SavedBalance(
            BalanceKey(Address(bytes(sender)), manifest_id), Fraction(amount), float(used_at)
        )
        for sender, manifest_id, amount, used_at in connection.execute(
            "SELECT sender, manifest_id, amount, used_at FROM balances"
        )
    ]


def change_balance(
    connection: sqlite3.Connection, key: BalanceKey, amount_wei: Fraction, used_at_s: float
) -> None:
    """Adds ``amount_wei``, which may be negative. A balance of nothing has no row."""
    row = connection.execute(
        "SELECT amount FROM balances WHERE sender = ? AND manifest_id = ?", key
    ).fetchone()
    balance_wei = bounded((Fraction(row[0]) if row else Fraction(0)) + amount_wei)
    connection.execute(
        """INSERT INTO balances VALUES (?, ?, ?, ?) ON CONFLICT (sender, manifest_id)
        DO UPDATE SET amount = excluded.amount, used_at = max(used_at, excluded.used_at)""",
        (*key, str(balance_wei), used_at_s),
    )


def forfeit_balance(connection: sqlite3.Connection, balance: SavedBalance, now_s: float) -> None:
    """Forgets a balance that was idle too long, and keeps a note of what it was."""
    change_balance(connection, balance.key, -balance.amount_wei, balance.used_at_s)
    connection.execute(
        "DELETE FROM balances WHERE sender = ? AND manifest_id = ? AND amount = '0'", balance.key
    )
    if balance.amount_wei:
        connection.execute(
            "INSERT INTO forfeits VALUES (?, ?, ?, ?)",
            (now_s, *balance.key, str(balance.amount_wei)),
        )


def add_payment(connection: sqlite3.Connection, payment: PaymentRow, now_s: float) -> int:
    """Notes a payment and credits it; returns its number."""
    cursor = connection.execute(
        """INSERT INTO payments
        (at, sender, manifest_id, rand_hash, num_tickets, num_credited, credit)
        VALUES (?, ?, ?, ?, ?, ?, ?)""",
        (
            now_s,
            *payment.key,
            payment.rand_hash,
            payment.num_tickets,
            payment.num_credited,
            str(payment.credit_wei),
        ),
    )
    if payment.num_credited:
        change_balance(connection, payment.key, payment.credit_wei, now_s)
    assert cursor.lastrowid is not None  # sqlite3: set after an INSERT
    return cursor.lastrowid


def open_job(connection: sqlite3.Connection, job: Job, now_s: float) -> int:
    """Notes the beginning of paid work; returns its number."""
    cursor = connection.execute(
        """INSERT INTO jobs (sender, manifest_id, capability, model_id, price, opened_at)
        VALUES (?, ?, ?, ?, ?, ?)""",
        (*job.key, job.capability, job.model_id, str(job.price), now_s),
    )
    assert cursor.lastrowid is not None  # sqlite3: set after an INSERT
    return cursor.lastrowid


def add_debit(
    connection: sqlite3.Connection, job_id: int, units: int, fee_wei: Fraction, now_s: float
) -> None:
    """Adds work of a job to what it did on the same day (UTC)."""
    day = datetime.fromtimestamp(now_s, UTC).date().isoformat()
    row = connection.execute(
        "SELECT units, fee FROM debits WHERE job_id = ? AND day = ?", (job_id, day)
    ).fetchone()
    if row is not None:
        units, fee_wei = units + row[0], fee_wei + Fraction(row[1])
    connection.execute(
        "INSERT OR REPLACE INTO debits VALUES (?, ?, ?, ?)", (job_id, day, units, str(fee_wei))
    )


def close_job(connection: sqlite3.Connection, job_id: int, reason: str, now_s: float) -> None:
    """Notes the end of paid work."""
    connection.execute(
        "UPDATE jobs SET closed_at = ?, close_reason = ? WHERE id = ? AND closed_at IS NULL",
        (now_s, reason, job_id),
    )


def close_lost_jobs(connection: sqlite3.Connection, now_s: float) -> None:
    """Ends the jobs that were running when the process died."""
    connection.execute(
        "UPDATE jobs SET closed_at = ?, close_reason = 'the node was restarted' "
        "WHERE closed_at IS NULL",
        (now_s,),
    )
