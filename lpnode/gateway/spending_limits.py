"""What a gateway agrees to pay, and what it must own to be believed.

Source: payments.md section 7.2.
"""

from dataclasses import dataclass
from fractions import Fraction

from lpnode.errors import ConfigError, SpendingLimitExceeded
from lpnode.gateway.amounts import amount_text, price_text
from lpnode.gateway.ticket_terms import TicketTerms
from lpnode.payment.chain_view import SenderFunds
from lpnode.payment.nonces import MAX_NONCES

_MAX_PRICE_RISE = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class SpendingLimits:
    """Each check raises ``SpendingLimitExceeded`` and says which limit and what was asked.

    Attributes:
        max_price: wei per unit; None: any.
        max_ticket_ev_wei: what one ticket may be worth on average.
        max_total_ev_wei: what all tickets of one payment may be worth on average.
        deposit_multiplier: how many times a face value the deposit must hold.
    """

    max_price: Fraction | None = None
    max_ticket_ev_wei: int = 3 * 10**12
    max_total_ev_wei: int = 2 * 10**13
    deposit_multiplier: int = 1

    def __post_init__(self) -> None:
        if self.max_price is not None and self.max_price < 0:
            raise ConfigError(f"the highest price must not be negative, got {self.max_price} wei")
        for name in ("max_ticket_ev_wei", "max_total_ev_wei", "deposit_multiplier"):
            if getattr(self, name) <= 0:
                raise ConfigError(f"{name} must be positive, got {getattr(self, name)}")

    def check_terms(self, terms: TicketTerms, start_price: Fraction | None = None) -> None:
        """``start_price``: of the session, in wei per unit; later ones may be twice as high."""
        if self.max_price is not None and terms.price > self.max_price:
            raise SpendingLimitExceeded(
                f"the node asks {price_text(terms.price)}; "
                f"the highest price to be paid is {price_text(self.max_price)}"
            )
        if start_price is not None and terms.price > _MAX_PRICE_RISE * start_price:
            raise SpendingLimitExceeded(
                f"the node asks {price_text(terms.price)}, more than twice the price at the "
                f"start of the session, {price_text(start_price)}"
            )
        ev_wei = terms.params.expected_value
        if ev_wei >= terms.params.face_value_wei:
            raise SpendingLimitExceeded(
                f"each of the node's tickets would win {amount_text(terms.params.face_value_wei)}: "
                "that is payment in full, with every ticket to be redeemed"
            )
        if ev_wei > self.max_ticket_ev_wei:
            raise SpendingLimitExceeded(
                f"the node's tickets are worth {amount_text(ev_wei)} each on average; "
                f"the most for one is {amount_text(self.max_ticket_ev_wei)}"
            )

    def check_total(self, terms: TicketTerms, num_tickets: int) -> None:
        """What one payment of ``num_tickets`` comes to."""
        total_wei = num_tickets * terms.params.expected_value
        if total_wei > self.max_total_ev_wei:
            raise SpendingLimitExceeded(
                f"a payment of {num_tickets} tickets would be worth {amount_text(total_wei)}; "
                f"the most for one is {amount_text(self.max_total_ev_wei)}"
            )
        if num_tickets > MAX_NONCES:
            raise SpendingLimitExceeded(
                f"a payment would take {num_tickets} tickets of "
                f"{amount_text(terms.params.expected_value)}, and nodes take {MAX_NONCES} for one "
                "quote: this node's -ticketEV is too low for its price"
            )

    def check_funds(self, terms: TicketTerms, funds: SenderFunds) -> None:
        """What the account has on the chain."""
        if not funds.deposit_wei or not funds.reserve_wei:
            raise SpendingLimitExceeded(
                f"the paying account needs a deposit and a reserve in TicketBroker; it has "
                f"{amount_text(funds.deposit_wei)} and {amount_text(funds.reserve_wei)}"
            )
        if funds.withdraw_round:
            raise SpendingLimitExceeded(
                f"the paying account is unlocking its funds (round {funds.withdraw_round}); "
                "nodes refuse its tickets until that is cancelled"
            )
        if terms.params.face_value_wei * self.deposit_multiplier > funds.deposit_wei:
            raise SpendingLimitExceeded(
                f"a winning ticket of the node costs {amount_text(terms.params.face_value_wei)}; "
                f"the deposit of {amount_text(funds.deposit_wei)} does not hold it "
                f"{self.deposit_multiplier} times"
            )
