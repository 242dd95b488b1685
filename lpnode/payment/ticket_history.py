"""From a job to the transaction that pays for it, and back: the ledger's rows, joined.

A manifest joins what a sender paid with what was done for it: jobs with their work, payments, the
tickets of those payments that won, and each transaction that tried to redeem one. Reads; each
function is a query of ``StoreReader``. What was rolled up into daily totals is not found any more.
"""

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

from lpnode.payment.ticket import TicketHash
from lpnode.payment.winner_state import WinnerState
from lpnode.protocol.ethereum import Address


@dataclass(frozen=True, slots=True, kw_only=True)
class JobRecord:
    """Work for a manifest. ``closed_at_s``: None while it goes on. Fees in wei."""

    sender: Address
    capability: int
    model_id: str
    price: Fraction
    opened_at_s: float
    closed_at_s: float | None
    close_reason: str
    units: int
    fee_wei: Fraction


@dataclass(frozen=True, slots=True, kw_only=True)
class PaymentRecord:
    """A payment that was taken, in whole or in part."""

    id: int
    at_s: float
    sender: Address
    manifest_id: str
    num_tickets: int
    num_credited: int
    credit_wei: Fraction


@dataclass(frozen=True, slots=True, kw_only=True)
class TicketStep:
    """A state that a won ticket came to. ``tx_hash``: of the newest transaction by then."""

    at_s: float
    state: WinnerState
    reason: str
    tx_hash: bytes | None


@dataclass(frozen=True, slots=True, kw_only=True)
class TicketRecord:
    """A ticket that won, as it stands. Nothing here is a secret.

    Attributes:
        payment_id: of the payment that it came with.
        expiration_block: L1 block from which on it may be redeemed.
        payout_wei: what the chain paid for it, None before that or when somebody else was paid.
        steps: what became of it after it was stored, oldest first.
    """

    hash: TicketHash
    payment_id: int
    sender: Address
    manifest_id: str
    recipient: Address
    face_value_wei: int
    win_prob: int
    nonce: int
    creation_round: int
    expiration_block: int
    won_at_s: float
    changed_at_s: float
    state: WinnerState
    reason: str
    tx_hash: bytes | None
    payout_wei: int | None
    steps: tuple[TicketStep, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ManifestRecord:
    """All that is known of a manifest, oldest first."""

    manifest_id: str
    jobs: list[JobRecord]
    payments: list[PaymentRecord]
    tickets: list[TicketRecord]


def manifest_record(connection: sqlite3.Connection, manifest_id: str) -> ManifestRecord:
    """Jobs, payments and winners of a manifest; empty lists where there are none."""
    return ManifestRecord(
        manifest_id=manifest_id,
        jobs=_jobs(connection, manifest_id),
        payments=_payments(connection, "manifest_id = ?", manifest_id),
        tickets=_tickets(connection, "manifest_id = ?", (manifest_id,)),
    )


def ticket_record(connection: sqlite3.Connection, ticket_hash: TicketHash) -> TicketRecord | None:
    """The winner of that hash; None when none is kept."""
    found = _tickets(connection, "ticket_hash = ?", (ticket_hash,))
    return found[0] if found else None


def payment_record(connection: sqlite3.Connection, payment_id: int) -> PaymentRecord | None:
    """The payment of that number; None when it is not kept."""
    found = _payments(connection, "id = ?", payment_id)
    return found[0] if found else None


def ticket_records(
    connection: sqlite3.Connection, states: Sequence[WinnerState]
) -> list[TicketRecord]:
    """The winners in any of ``states``, oldest first."""
    marks = ", ".join("?" * len(states))
    return _tickets(connection, f"state IN ({marks})", states)


def find_ticket_hashes(connection: sqlite3.Connection, digits: str) -> list[TicketHash]:
    """The winners whose hash begins with these hex digits, or two of them if there are more."""
    rows = connection.execute(
        "SELECT ticket_hash FROM winners WHERE substr(hex(ticket_hash), 1, ?) = ? LIMIT 2",
        (len(digits), digits.upper()),
    )
    return [TicketHash(ticket_hash) for (ticket_hash,) in rows]


def _jobs(connection: sqlite3.Connection, manifest_id: str) -> list[JobRecord]:
    rows = connection.execute(
        """SELECT sender, capability, model_id, price, opened_at, closed_at, close_reason,
        coalesce(sum(debits.units), 0), coalesce(wei_sum(debits.fee), '0')
        FROM jobs LEFT JOIN debits ON job_id = jobs.id
        WHERE manifest_id = ? GROUP BY jobs.id ORDER BY jobs.id""",
        (manifest_id,),
    )
    return [
        JobRecord(
            sender=Address(sender),
            capability=capability,
            model_id=model_id,
            price=Fraction(price),
            opened_at_s=opened_at,
            closed_at_s=closed_at,
            close_reason=close_reason or "",
            units=units,
            fee_wei=Fraction(fee),
        )
        for sender, capability, model_id, price, opened_at, closed_at, close_reason, units, fee in (
            rows
        )
    ]


def _payments(
    connection: sqlite3.Connection, where: str, parameter: int | str
) -> list[PaymentRecord]:
    rows = connection.execute(
        "SELECT id, at, sender, manifest_id, num_tickets, num_credited, credit FROM payments "
        f"WHERE {where} ORDER BY id",
        (parameter,),
    )
    return [
        PaymentRecord(
            id=payment_id,
            at_s=at,
            sender=Address(sender),
            manifest_id=manifest_id,
            num_tickets=num_tickets,
            num_credited=num_credited,
            credit_wei=Fraction(credit),
        )
        for payment_id, at, sender, manifest_id, num_tickets, num_credited, credit in rows
    ]


def _tickets(
    connection: sqlite3.Connection, where: str, parameters: Sequence[object]
) -> list[TicketRecord]:
    rows = connection.execute(
        f"""SELECT ticket_hash, payment_id, sender, manifest_id, recipient, face_value, win_prob,
        sender_nonce, creation_round, expiration_block, won_at, changed_at, state, reason,
        tx_hash, payout FROM winners WHERE {where} ORDER BY won_at, ticket_hash""",
        parameters,
    ).fetchall()
    return [
        TicketRecord(
            hash=TicketHash(ticket_hash),
            payment_id=payment_id,
            sender=Address(sender),
            manifest_id=manifest_id,
            recipient=Address(recipient),
            face_value_wei=int.from_bytes(face_value),
            win_prob=int.from_bytes(win_prob),
            nonce=nonce,
            creation_round=creation_round,
            expiration_block=expiration_block,
            won_at_s=won_at,
            changed_at_s=changed_at,
            state=WinnerState(state),
            reason=reason,
            tx_hash=tx_hash,
            payout_wei=None if payout is None else int.from_bytes(payout),
            steps=_steps(connection, ticket_hash),
        )
        for (
            ticket_hash,
            payment_id,
            sender,
            manifest_id,
            recipient,
            face_value,
            win_prob,
            nonce,
            creation_round,
            expiration_block,
            won_at,
            changed_at,
            state,
            reason,
            tx_hash,
            payout,
        ) in rows
    ]


def _steps(connection: sqlite3.Connection, ticket_hash: bytes) -> tuple[TicketStep, ...]:
    rows = connection.execute(
        "SELECT at, state, reason, tx_hash FROM redemptions WHERE ticket_hash = ? ORDER BY id",
        (ticket_hash,),
    )
    return tuple(
        TicketStep(at_s=at, state=WinnerState(state), reason=reason, tx_hash=tx_hash)
        for at, state, reason, tx_hash in rows
    )
