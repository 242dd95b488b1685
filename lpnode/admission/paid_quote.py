"""GetOrchestrator replies with a price, and ticket parameters that are bound to it.

Source: payments.md sections 1.8, 1.9 and 2.9; discovery.md sections 3.4 and 6.3.
"""

from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction

from lpnode.admission.price import PriceBook, to_fixed, to_price_info
from lpnode.admission.quote import Quote, QuoteConfig, echoed
from lpnode.payment.issued import to_message
from lpnode.payment.params import PARAMS_LIFETIME_BLOCKS
from lpnode.payment.recipient import Recipient
from lpnode.protocol import lp_rpc_pb2 as pb
from lpnode.protocol.ethereum import Address
from lpnode.schedule.capacity import ModelKey


class Prices:
    """The price book in force, and those before it that payments may still stand on.

    A gateway pays the price that it was quoted with its ticket parameters, for as long as those
    live. So work may be paid with any price that was quoted for it in that time, and with no other:
    parameters for cheap work are no good for dear work.
    """

    def __init__(self, book: PriceBook, *, last_l1_block: Callable[[], int]) -> None:
        self._book = book
        self._last_l1_block = last_l1_block
        self._earlier: list[tuple[int, PriceBook]] = []

    @property
    def book(self) -> PriceBook:
        """What is quoted now."""
        return self._book

    def replace(self, book: PriceBook) -> None:
        """Quotes other prices from now on."""
        block = self._last_l1_block()
        self._earlier = [(last, kept) for last, kept in self._earlier if last > block]
        self._earlier.append((block + PARAMS_LIFETIME_BLOCKS, self._book))
        self._book = book

    def lowest(self, sender: Address, key: ModelKey) -> Fraction:
        """The least that was quoted to ``sender`` for work on a model, wei per unit.

        What redeeming costs is added to quotes, and it moves; the price without it is never more.
        """
        block = self._last_l1_block()
        books = [self._book, *(book for last, book in self._earlier if last > block)]
        demand = _demand(key)
        return min(_lowest(book, sender, demand) for book in books)

    def is_never_free(self, sender: Address, key: ModelKey) -> bool:
        """Whether work on a model costs ``sender`` something now, whatever redeeming costs."""
        return _lowest(self._book, sender, _demand(key)) > 0


class PaidQuote:
    """Builds replies as ``Quote`` does, for a node that is paid. From the event loop only."""

    def __init__(self, quote: Quote, prices: Prices, recipient: Recipient) -> None:
        self._quote = quote
        self._prices = prices
        self._recipient = recipient

    @property
    def config(self) -> QuoteConfig:
        """What the node says about itself."""
        return self._quote.config

    async def price(
        self,
        sender: Address,
        demand: pb.Capabilities | None,
        base_price: Fraction | None = None,
    ) -> pb.PriceInfo:
        """What ``sender`` pays for a unit of what it demands, as it goes on the wire.

        Raises: InsufficientReserve, ChainError.
        """
        book = self._prices.book
        if book.is_adjusted and book.session_price(sender, demand, base_price):
            multiplier = await self._recipient.tx_cost_multiplier(sender)
            book = replace(book, tx_cost_multiplier=lambda _: multiplier)
        return to_price_info(book.advertised_price(sender, demand, base_price))

    async def price_of(self, sender: Address, key: ModelKey) -> Fraction:
        """The same for work on one model, wei per unit."""
        return _ratio(await self.price(sender, _demand(key)))

    async def info(
        self,
        sender: Address,
        demand: pb.Capabilities | None,
        base_price: Fraction | None = None,
        token: pb.AuthToken | None = None,
    ) -> bytes:
        """Returns a serialised ``net.OrchestratorInfo``; as ``Quote.info``, with new parameters.

        ``token``: to be echoed; None: a new one.
        Raises: Refused: the sender cannot be given parameters. ChainError.
        """
        price = await self.price(sender, demand, base_price)
        params = await self._recipient.ticket_params(sender, _ratio(price))
        return self._quote.compose(
            is_full=demand is None,
            terms=pb.OrchestratorInfo(ticket_params=to_message(params), price_info=price),
            model_prices=self._prices.book.model_prices(sender) if demand is None else None,
            token=None if token is None else echoed(token),
        )


def _lowest(book: PriceBook, sender: Address, demand: pb.Capabilities) -> Fraction:
    price = book.session_price(sender, demand)
    return _ratio(to_price_info(to_fixed(price) if book.is_adjusted else price))


def _ratio(price: pb.PriceInfo) -> Fraction:
    return Fraction(price.pricePerUnit, price.pixelsPerUnit)


def _demand(key: ModelKey) -> pb.Capabilities:
    """Asks for one model."""
    demand = pb.Capabilities(capacities={key.capability: 1})
    demand.constraints.PerCapability[key.capability].models[key.model_id].SetInParent()
    return demand
