"""What payments look like to an operator: a snapshot for ``/status`` and the metrics.

Payments and tickets are counted from the start of the process, as the reference counts them; won
tickets since the store began.
"""

from collections import Counter, OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fractions import Fraction

from lpnode.payment.reason_classes import LossReason, RefusalReason, refusal_reason
from lpnode.payment.winner_state import WinnerState
from lpnode.payment.winner_totals import TicketSum
from lpnode.protocol.ethereum import Address, checksum_text

_MAX_OFFERS = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """What a sender was last offered: limits of one ticket, in wei."""

    max_float_wei: int
    face_value_wei: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PaymentSummary:
    """Payments at one moment. Amounts in wei.

    Attributes:
        num_payments: with at least one ticket that was credited or won.
        num_tickets: of all payments, those that were refused as a whole included.
        num_credited: tickets that were credited.
        credit_wei: what they were credited, exactly.
        num_won: tickets that won since the start of the process.
        refused_payments: answered with an error, by the reason in it.
        refused_tickets: the tickets that were the reason.
        winners: by state, since the store began.
        losses: expired and void ones, by what had kept them from being redeemed.
        payout_wei: what the chain has paid for the redeemed ones.
        num_redemption_errors: transactions that did not redeem their ticket.
        pending_wei: face values that senders have still to pay.
        num_senders: with a balance.
        balance_wei: all balances, each cut to whole wei.
        gas_price_wei: per unit of gas; 0 when it is not known.
        offers: for the senders that last asked for ticket parameters.
    """

    num_payments: int
    num_tickets: int
    num_credited: int
    credit_wei: Fraction
    num_won: int
    refused_payments: Mapping[RefusalReason, int]
    refused_tickets: Mapping[RefusalReason, int]
    winners: Mapping[WinnerState, TicketSum]
    losses: Mapping[LossReason, TicketSum]
    payout_wei: int
    num_redemption_errors: int
    pending_wei: int
    num_senders: int
    balance_wei: int
    gas_price_wei: int
    offers: Mapping[Address, Offer]

    def as_fields(self) -> dict[str, object]:
        """The form of ``/status``: amounts are text, whole wei or ``numerator/denominator``."""
        return {
            "payments": self.num_payments,
            "tickets_received": self.num_tickets,
            "tickets_credited": self.num_credited,
            "credited_wei": str(self.credit_wei),
            "tickets_won": self.num_won,
            "payments_refused": _counts(self.refused_payments),
            "tickets_refused": _counts(self.refused_tickets),
            "winners": {state.value: _sum(total) for state, total in self.winners.items()},
            "expired": {reason.value: _sum(total) for reason, total in self.losses.items()},
            "pending_wei": str(self.pending_wei),
            "redeemed_wei": str(self.payout_wei),
            "redemption_errors": self.num_redemption_errors,
            "senders": self.num_senders,
            "balance_wei": str(self.balance_wei),
            "gas_price_wei": str(self.gas_price_wei),
            "offers": {
                checksum_text(sender): {
                    "max_float_wei": str(offer.max_float_wei),
                    "face_value_wei": str(offer.face_value_wei),
                }
                for sender, offer in self.offers.items()
            },
        }


class PaymentTally:
    """Counts payments as they come. Used from the event loop only; costs a few dictionary steps."""

    def __init__(self) -> None:
        self.num_payments = 0
        self.num_tickets = 0
        self.num_credited = 0
        self.num_won = 0
        self.num_redemption_errors = 0
        # By denominator, because fractions take several times as long to add.
        self._credits: Counter[int] = Counter()
        self._refused_payments: Counter[RefusalReason] = Counter()
        self._refused_tickets: Counter[RefusalReason] = Counter()
        self._offers: OrderedDict[Address, Offer] = OrderedDict()

    @property
    def credit_wei(self) -> Fraction:
        """What was credited, exactly."""
        return sum((Fraction(n, d) for d, n in self._credits.items()), Fraction(0))

    @property
    def refused_payments(self) -> dict[RefusalReason, int]:
        """A copy, with every reason."""
        return {reason: self._refused_payments[reason] for reason in RefusalReason}

    @property
    def refused_tickets(self) -> dict[RefusalReason, int]:
        """A copy, with every reason."""
        return {reason: self._refused_tickets[reason] for reason in RefusalReason}

    @property
    def offers(self) -> dict[Address, Offer]:
        """A copy, with the senders that asked last."""
        return dict(self._offers)

    def took(self, *, num_credited: int, credit_wei: Fraction, num_won: int) -> None:
        """Counts a payment that is on the disk."""
        self.num_payments += 1
        self.num_credited += num_credited
        self._credits[credit_wei.denominator] += credit_wei.numerator
        self.num_won += num_won

    def refused(self, text: str, tickets: Iterable[str]) -> None:
        """Counts a payment that was answered with ``text``, and the texts of its ``tickets``."""
        self._refused_payments[refusal_reason(text)] += 1
        for ticket_text, num in Counter(tickets).items():
            self._refused_tickets[refusal_reason(ticket_text)] += num

    def offered(self, sender: Address, offer: Offer) -> None:
        """Remembers what a sender was offered, and forgets who has not asked for longest."""
        self._offers[sender] = offer
        self._offers.move_to_end(sender)
        if len(self._offers) > _MAX_OFFERS:
            self._offers.popitem(last=False)


def _counts(counts: Mapping[RefusalReason, int]) -> dict[str, int]:
    return {reason.value: num for reason, num in counts.items() if num}


def _sum(total: TicketSum) -> dict[str, object]:
    return {"tickets": total.num, "face_value_wei": str(total.face_value_wei)}
