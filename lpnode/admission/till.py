"""Where work and payment meet: what a request has to pay, and whether it has.

Source: payments.md sections 2.9 and 2.11.
"""

from dataclasses import dataclass

from lpnode.admission.admit import Credentials
from lpnode.admission.paid_quote import PaidQuote, Prices
from lpnode.errors import InsufficientBalance, TicketRejected
from lpnode.payment.balance import BalanceKey
from lpnode.payment.ledger import Job
from lpnode.payment.meter import Meter
from lpnode.payment.payments import Payments
from lpnode.payment.recipient import Receipt
from lpnode.protocol.capability import LIVE_VIDEO_TO_VIDEO
from lpnode.schedule.capacity import ModelKey

_MAX_MANIFEST_CHARS = 256


@dataclass(frozen=True, slots=True)
class Till:
    """Takes payments for work. Used from the event loop only."""

    payments: Payments
    prices: Prices
    quote: PaidQuote

    async def begin_live(self, credentials: Credentials, model_id: str) -> Meter:
        """Takes the first payment of a stream; the meter debits it from now on.

        The price is that which came with the tickets, and ours where none came: what a payment
        without tickets states is bound to nothing.
        Raises:
            TicketRejected: the payment.
            InsufficientBalance: it is not worth a ticket.
            InsufficientReserve, ChainError: no price can be given. StorageFailed.
        """
        admission = credentials.admission
        key = ModelKey(LIVE_VIDEO_TO_VIDEO, model_id)
        lowest_price = self.prices.lowest(admission.sender, key)
        receipt = await self.payments.recipient.receive(
            credentials.payment, admission.manifest_id, lowest_price=lowest_price
        )
        price = receipt.price
        balance_key = BalanceKey(admission.sender, admission.manifest_id)
        if price is None:
            has_credit = self.payments.balances.get(balance_key) is not None
            if not has_credit and self.prices.is_never_free(admission.sender, key):
                # Before the chain is asked: the request holds a slot meanwhile, and anybody can
                # send one like it.
                raise InsufficientBalance
            price = await self.quote.price_of(admission.sender, key)
        # Tickets of before a restart may come with a price that is ours no more.
        price = max(price, lowest_price)
        ev_wei = receipt.ev_wei or self.payments.config.recipient.pricing.ev_wei
        if price and not self.payments.balances.covers(balance_key, ev_wei):
            raise InsufficientBalance
        return await self.payments.open_meter(
            Job(key=balance_key, capability=key.capability, model_id=model_id, price=price)
        )

    async def credit(self, credentials: Credentials) -> Receipt:
        """Takes a payment for work that runs already, or has run.

        Raises: TicketRejected, StorageFailed.
        """
        manifest_id = credentials.admission.manifest_id
        if len(manifest_id) > _MAX_MANIFEST_CHARS:
            raise TicketRejected(f"a manifest id has at most {_MAX_MANIFEST_CHARS} characters")
        return await self.payments.recipient.receive(credentials.payment, manifest_id)
