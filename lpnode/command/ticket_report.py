"""Won tickets, and what they were paid for, as tables for people and as JSON for programs."""

from collections.abc import Sequence

from rich.table import Table
from rich.text import Text

from lpnode.command.amounts import eth_text, hash_text, iso_text, time_text, wei_text
from lpnode.command.foreign_text import shown
from lpnode.command.money_table import money_table, print_whole
from lpnode.payment.ticket import MAX_WIN_PROB
from lpnode.payment.ticket_history import JobRecord, PaymentRecord, TicketRecord
from lpnode.payment.winner_state import WinnerState
from lpnode.protocol.capability import pipeline_of
from lpnode.protocol.ethereum import checksum_text

_SHORT_DIGITS = 10
_COLOURS = {
    WinnerState.CONFIRMED: "green",
    WinnerState.REDEEMED: "green",
    WinnerState.EXPIRED: "red",
    WinnerState.VOID: "red",
}

Fields = dict[str, object]


def ticket_fields(ticket: TicketRecord) -> Fields:
    """A ticket for JSON: amounts in wei and the win probability (out of 2^256-1) as text."""
    return {
        "hash": hash_text(ticket.hash),
        "state": ticket.state,
        "reason": ticket.reason,
        "face_value_wei": str(ticket.face_value_wei),
        "payout_wei": None if ticket.payout_wei is None else str(ticket.payout_wei),
        "win_prob": str(ticket.win_prob),
        "sender": checksum_text(ticket.sender),
        "recipient": checksum_text(ticket.recipient),
        "sender_nonce": ticket.nonce,
        "manifest_id": ticket.manifest_id,
        "payment_id": ticket.payment_id,
        "creation_round": ticket.creation_round,
        "expiration_block": ticket.expiration_block,
        "won_at": iso_text(ticket.won_at_s),
        "changed_at": iso_text(ticket.changed_at_s),
        "tx_hash": None if ticket.tx_hash is None else hash_text(ticket.tx_hash),
        "history": [
            {
                "at": iso_text(step.at_s),
                "state": step.state,
                "reason": step.reason,
                "tx_hash": None if step.tx_hash is None else hash_text(step.tx_hash),
            }
            for step in ticket.steps
        ],
    }


def payment_fields(payment: PaymentRecord) -> Fields:
    """A payment for JSON; the credit is text, whole wei or ``numerator/denominator``."""
    return {
        "id": payment.id,
        "at": iso_text(payment.at_s),
        "sender": checksum_text(payment.sender),
        "manifest_id": payment.manifest_id,
        "num_tickets": payment.num_tickets,
        "num_credited": payment.num_credited,
        "credit_wei": str(payment.credit_wei),
    }


def job_fields(job: JobRecord) -> Fields:
    """A job for JSON; price (wei per unit) and fee are text, as the credit of a payment."""
    return {
        "sender": checksum_text(job.sender),
        "pipeline": pipeline_of(job.capability),
        "model_id": job.model_id,
        "price_wei_per_unit": str(job.price),
        "opened_at": iso_text(job.opened_at_s),
        "closed_at": None if job.closed_at_s is None else iso_text(job.closed_at_s),
        "close_reason": job.close_reason,
        "units": job.units,
        "fee_wei": str(job.fee_wei),
    }


def tickets_table(tickets: Sequence[TicketRecord]) -> Table:
    """One line each; the beginning of a hash is enough for ``show`` and ``retry``."""
    table = money_table("Tickets that won (times in UTC)")
    table.add_column("ticket", no_wrap=True)
    table.add_column("won at", no_wrap=True)
    table.add_column("ETH", justify="right", no_wrap=True)
    table.add_column("state", no_wrap=True)
    table.add_column("reason", overflow="fold")
    for ticket in tickets:
        table.add_row(
            hash_text(ticket.hash)[: 2 + _SHORT_DIGITS],
            time_text(ticket.won_at_s),
            eth_text(ticket.face_value_wei),
            Text(ticket.state, _COLOURS.get(ticket.state, "")),
            shown(ticket.reason),
        )
    return table


def show_ticket(
    ticket: TicketRecord,
    payment: PaymentRecord | None,
    jobs: Sequence[JobRecord],
) -> None:
    """Prints a ticket with its history, the payment it came with, and the work that paid for."""
    payout = "nothing yet"
    if ticket.payout_wei is not None:
        payout = _amount(ticket.payout_wei)
    elif ticket.state.is_paid:
        payout = "unknown: somebody else's transaction redeemed it"
    rows = {
        "state": ": ".join(filter(None, (ticket.state.value, ticket.reason))),
        "face value": _amount(ticket.face_value_wei),
        "paid by the chain": payout,
        "odds": f"1 in {MAX_WIN_PROB / ticket.win_prob:.4g}" if ticket.win_prob else "never wins",
        "sender": checksum_text(ticket.sender),
        "recipient": checksum_text(ticket.recipient),
        "manifest": ticket.manifest_id,
        "round": f"{ticket.creation_round}, redeemable from L1 block {ticket.expiration_block} on",
        "transaction": "none yet" if ticket.tx_hash is None else hash_text(ticket.tx_hash),
    }
    table = money_table(f"Ticket {hash_text(ticket.hash)}", has_head=False)
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    for name, text in rows.items():
        table.add_row(name, shown(text))
    print_whole(table, _history_table(ticket))
    if payment is not None:
        print_whole(payments_table([payment]))
    print_whole(jobs_table(jobs))


def payments_table(payments: Sequence[PaymentRecord]) -> Table:
    """One line each."""
    table = money_table("Payments (times in UTC)")
    table.add_column("payment", justify="right")
    table.add_column("at", no_wrap=True)
    table.add_column("tickets credited", justify="right")
    table.add_column("credit, ETH", justify="right", no_wrap=True)
    table.add_column("credit, wei", justify="right", no_wrap=True)
    for payment in payments:
        table.add_row(
            str(payment.id),
            time_text(payment.at_s),
            f"{payment.num_credited} of {payment.num_tickets}",
            eth_text(payment.credit_wei),
            wei_text(payment.credit_wei),
        )
    return table


def jobs_table(jobs: Sequence[JobRecord]) -> Table:
    """One line each."""
    table = money_table("Work for the manifest (times in UTC)")
    table.add_column("model", overflow="fold")
    table.add_column("opened at", no_wrap=True)
    table.add_column("closed at", overflow="fold")
    table.add_column("units", justify="right")
    table.add_column("fee, wei", justify="right", no_wrap=True)
    for job in jobs:
        closed = "goes on"
        if job.closed_at_s is not None:
            closed = f"{time_text(job.closed_at_s)}: {job.close_reason}"
        table.add_row(
            shown(job.model_id),
            time_text(job.opened_at_s),
            shown(closed),
            f"{job.units:,}",
            wei_text(job.fee_wei),
        )
    return table


def _history_table(ticket: TicketRecord) -> Table:
    table = money_table("History (times in UTC)")
    table.add_column("at", no_wrap=True)
    table.add_column("state", no_wrap=True)
    table.add_column("reason or transaction", overflow="fold")
    table.add_row(time_text(ticket.won_at_s), "won", "")
    for step in ticket.steps:
        text = step.reason or ("" if step.tx_hash is None else hash_text(step.tx_hash))
        table.add_row(time_text(step.at_s), step.state, shown(text))
    return table


def _amount(amount_wei: int) -> str:
    return f"{eth_text(amount_wei)} ETH = {wei_text(amount_wei)} wei"
