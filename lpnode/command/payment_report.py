"""What ``lpnode stream`` and ``lpnode demo`` say about the payments for a stream."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

from lpnode.gateway.amounts import amount_text, price_text
from lpnode.gateway.live_payment import LivePayment, Paid
from lpnode.gateway.ticket_terms import TicketTerms

_RARE = 10


@dataclass(frozen=True, slots=True)
class PaymentReport:
    """Amounts in wei, exact; ``credit_wei`` is what was paid and not used, as a gateway counts."""

    paid: Paid
    credit_wei: Fraction
    start_price: Fraction
    terms: TicketTerms
    has_stopped: bool

    @classmethod
    def of(cls, payment: LivePayment) -> "PaymentReport":
        """What ``payment`` has come to."""
        return cls(
            replace(payment.paid),
            payment.credit_wei,
            payment.start_price,
            payment.terms,
            payment.has_stopped,
        )

    def as_fields(self) -> dict[str, Any]:
        """The form of ``--json``: amounts as whole wei in text, cut; the price as a fraction."""
        paid, params = self.paid, self.terms.params
        return {
            "price": str(self.start_price),
            "payments": paid.num_payments,
            "refused": paid.num_refused,
            "lost": paid.num_lost,
            "refreshes": paid.num_refreshes,
            "tickets": paid.num_tickets,
            "ticket_ev_wei": _whole(params.expected_value),
            "face_value_wei": str(params.face_value_wei),
            "ev_wei": _whole(paid.ev_wei),
            "fee_wei": _whole(paid.fee_wei),
            "credit_wei": _whole(self.credit_wei),
            "has_stopped": self.has_stopped,
        }

    def facts(self) -> Iterator[tuple[str, str]]:
        """The form for people: names and values."""
        paid = self.paid
        yield "price", price_text(self.start_price)
        yield "paid", f"{amount_text(paid.ev_wei)} with {paid.num_tickets} tickets"
        text = f"{paid.num_payments} sent"
        if paid.num_refused or paid.num_lost:
            text += f", {paid.num_refused} refused, {paid.num_lost} without an answer"
        if self.has_stopped:
            text += "; then stopped, as asked"
        yield "payments", text
        yield "each ticket", ticket_text(self.terms)
        yield "for work of", amount_text(paid.fee_wei)
        yield "credit left", amount_text(self.credit_wei)


def ticket_text(terms: TicketTerms) -> str:
    """What one ticket is worth, and how often it wins how much."""
    params = terms.params
    return (
        f"worth {amount_text(params.expected_value)}: {odds_text(terms.odds)} "
        f"{amount_text(params.face_value_wei)}"
    )


def odds_text(odds: Fraction) -> str:
    """How often a ticket wins. ``odds``: tickets to one that wins."""
    if odds < _RARE:
        return f"{round(100 / odds)} in 100 win"
    return f"one in {round(odds)} wins"


def _whole(amount_wei: Fraction) -> str:
    return str(amount_wei.numerator // amount_wei.denominator)
