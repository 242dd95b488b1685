"""Old rows of the ledger → daily totals, in small steps, without changing a sum by a wei.

A step reads the sums of some rows just as ``earnings`` does, adds them to the totals of their day,
sender and model, and deletes the rows. What may still change stays as it is: tickets that the
chain has not settled, jobs that go on, and the job that names the model of rows that are kept.
"""

import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import takewhile

from lpnode.payment.ledger_sums import DEBITS, FORFEITS, PAYMENTS, WINNERS, Source, sum_rows
from lpnode.payment.reason_classes import loss_reason
from lpnode.payment.winner_state import WinnerState

MAX_ROWS = 64
"""Of each table in one step, so that nobody waits long for the store."""

_SETTLED = tuple(state for state in WinnerState if not state.is_open)

# A job has to be kept while it goes on, while it has debits, and while it is the first one of its
# manifest and so names the model of other rows.
_IS_OVER = """closed_at < ?
    AND NOT EXISTS (SELECT 1 FROM debits WHERE job_id = jobs.id)
    AND (EXISTS (SELECT 1 FROM jobs AS other WHERE other.manifest_id = jobs.manifest_id
            AND other.sender = jobs.sender AND other.id < jobs.id)
        OR NOT (EXISTS (SELECT 1 FROM payments AS other
                WHERE other.manifest_id = jobs.manifest_id AND other.sender = jobs.sender)
            OR EXISTS (SELECT 1 FROM winners AS other
                WHERE other.manifest_id = jobs.manifest_id AND other.sender = jobs.sender)
            OR EXISTS (SELECT 1 FROM forfeits AS other
                WHERE other.manifest_id = jobs.manifest_id AND other.sender = jobs.sender)))"""


@dataclass(frozen=True, slots=True, kw_only=True)
class PruneStep:
    """How far a step came; the next one goes on there.

    ``payment_id``, ``job_id``: the last ones looked at, 0 to begin anew. ``num_rows``: deleted.
    """

    payment_id: int = 0
    job_id: int = 0
    num_rows: int = 0


def prune(connection: sqlite3.Connection, before_s: float, last: PruneStep) -> PruneStep:
    """Rolls up at most ``MAX_ROWS`` of each table that are older than ``before_s``.

    A change for ``PaymentStore.write``. ``before_s``: seconds since the epoch.
    """
    num_winners = _prune_winners(connection, before_s)
    payment_id, num_payments = _prune_payments(connection, before_s, last.payment_id)
    num_forfeits = _prune_forfeits(connection, before_s)
    job_id, num_jobs = _prune_jobs(connection, before_s, last.job_id)
    return PruneStep(
        payment_id=payment_id,
        job_id=job_id,
        num_rows=num_winners + num_payments + num_forfeits + num_jobs,
    )


def _prune_winners(connection: sqlite3.Connection, before_s: float) -> int:
    rows = connection.execute(
        f"""SELECT ticket_hash, state, reason, face_value, payout FROM winners
        WHERE changed_at < ? AND state IN ({_marks(_SETTLED)}) ORDER BY changed_at LIMIT ?""",
        (before_s, *_SETTLED, MAX_ROWS),
    ).fetchall()
    if not rows:
        return 0
    hashes = [row[0] for row in rows]
    _roll_up(connection, WINNERS, f"t.ticket_hash IN ({_marks(hashes)})", hashes)
    for _, state, reason, face_value, payout in rows:
        loss = loss_reason(reason).value if WinnerState(state).is_lost else ""
        amounts = str(int.from_bytes(face_value)), str(int.from_bytes(payout or b""))
        connection.execute(
            """INSERT INTO settled_totals VALUES (?, ?, 1, ?, ?) ON CONFLICT (state, loss)
            DO UPDATE SET num = num + 1, face_value = wei_add(face_value, excluded.face_value),
            payout = wei_add(payout, excluded.payout)""",
            (state, loss, *amounts),
        )
    one_by_one = [(ticket_hash,) for ticket_hash in hashes]
    connection.executemany("INSERT OR IGNORE INTO settled_tickets VALUES (?)", one_by_one)
    connection.executemany("DELETE FROM redemptions WHERE ticket_hash = ?", one_by_one)
    connection.executemany("DELETE FROM winners WHERE ticket_hash = ?", one_by_one)
    return len(rows)


def _prune_payments(
    connection: sqlite3.Connection, before_s: float, last_id: int
) -> tuple[int, int]:
    old = _old(connection, "SELECT id, at FROM payments WHERE id > ?", last_id, before_s)
    if not old:
        return 0, 0
    won = f"SELECT payment_id FROM winners WHERE payment_id IN ({_marks(old)})"
    kept = {payment_id for (payment_id,) in connection.execute(won, old)}
    pruned = [payment_id for payment_id in old if payment_id not in kept]
    _roll_up(connection, PAYMENTS, f"t.id IN ({_marks(pruned)})", pruned)
    connection.execute(f"DELETE FROM payments WHERE id IN ({_marks(pruned)})", pruned)
    return _last(old), len(pruned)


def _prune_forfeits(connection: sqlite3.Connection, before_s: float) -> int:
    old = _old(connection, "SELECT rowid AS id, at FROM forfeits WHERE rowid > ?", 0, before_s)
    if not old:
        return 0
    _roll_up(connection, FORFEITS, f"t.rowid IN ({_marks(old)})", old)
    connection.execute(f"DELETE FROM forfeits WHERE rowid IN ({_marks(old)})", old)
    return len(old)


def _prune_jobs(connection: sqlite3.Connection, before_s: float, last_id: int) -> tuple[int, int]:
    old = _old(connection, "SELECT id, opened_at FROM jobs WHERE id > ?", last_id, before_s)
    if not old:
        return 0, 0
    day = datetime.fromtimestamp(before_s, UTC).date().isoformat()
    _roll_up(connection, DEBITS, f"debits.day < ? AND t.id IN ({_marks(old)})", (day, *old))
    num_debits = connection.execute(
        f"DELETE FROM debits WHERE day < ? AND job_id IN ({_marks(old)})", (day, *old)
    ).rowcount
    num_jobs = connection.execute(
        f"DELETE FROM jobs WHERE {_IS_OVER} AND id IN ({_marks(old)})", (before_s, *old)
    ).rowcount
    return _last(old), num_debits + num_jobs


def _old(connection: sqlite3.Connection, select: str, last_id: int, before_s: float) -> list[int]:
    """Ids in their order up to the first row that is not old, which costs one row when none is."""
    rows = connection.execute(f"{select} ORDER BY id LIMIT ?", (last_id, MAX_ROWS))
    old = [row[0] for row in takewhile(lambda row: row[1] < before_s, rows)]
    rows.close()
    return old


def _last(old: Sequence[int]) -> int:
    return old[-1] if len(old) == MAX_ROWS else 0


def _roll_up(
    connection: sqlite3.Connection, source: Source, where: str, parameters: Sequence[object]
) -> None:
    keys = (source.day, source.sender, source.model)
    for key, sums in list(sum_rows(connection, source, keys, where, parameters)):
        connection.execute(
            """INSERT INTO daily_totals VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
            ON CONFLICT (day, sender, model_id) DO UPDATE SET
            num_payments = num_payments + excluded.num_payments,
            num_tickets = num_tickets + excluded.num_tickets,
            num_credited = num_credited + excluded.num_credited,
            credit = wei_add(credit, excluded.credit),
            units = units + excluded.units,
            fee = wei_add(fee, excluded.fee),
            forfeited = wei_add(forfeited, excluded.forfeited),
            num_redeemed = num_redeemed + excluded.num_redeemed,
            redeemed_face_value = wei_add(redeemed_face_value, excluded.redeemed_face_value),
            payout = wei_add(payout, excluded.payout),
            num_lost = num_lost + excluded.num_lost,
            lost_face_value = wei_add(lost_face_value, excluded.lost_face_value)""",
            (
                *key,
                *(sums.num_payments, sums.num_tickets, sums.num_credited, str(sums.credit_wei)),
                *(sums.units, str(sums.fee_wei), str(sums.forfeited_wei)),
                *(sums.num_redeemed, str(sums.redeemed_face_value_wei), str(sums.payout_wei)),
                *(sums.num_lost, str(sums.lost_face_value_wei)),
            ),
        )


def _marks(values: Iterable[object]) -> str:
    return ", ".join("?" for _ in values)
