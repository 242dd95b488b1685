"""Prices: exact rationals in wei per unit, by sender, capability and model.

Source: discovery.md sections 6.1 to 6.4.
"""

import logging
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from fractions import Fraction

from lpnode.admission.ai_models import DEFAULT_GATEWAY, ModelEntry
from lpnode.errors import ConfigError
from lpnode.protocol import lp_rpc_pb2 as pb
from lpnode.protocol.ethereum import Address, parse_address
from lpnode.schedule.capacity import ModelKey

WEI_PER_ETH = 10**18
_MAX_INT64 = 2**63 - 1
_FIXED = 1000
# The class A-z is the reference's: it also holds the six characters between Z and a.
_PRICE = re.compile(r"([0-9]+(?:\.[0-9]+)?)([A-z][A-z0-9]*)?")

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Amount:
    """A number and its currency; empty means wei."""

    value: Fraction
    currency: str = ""


@dataclass(frozen=True, slots=True)
class PriceFeed:
    """The rate ``price`` of ``base``/``quote``, one of which is ETH."""

    base: str
    quote: str
    price: Fraction


def parse_price_per_unit(text: str) -> Amount:
    """Reads ``100``, ``0.13USD``: a plain decimal directly followed by an optional currency.

    Raises: ConfigError: a sign, an exponent, a space, or no number at all.
    """
    match = _PRICE.fullmatch(text)
    if match is None:
        raise ConfigError(
            f"a price per unit is a number with an optional currency right behind it, "
            f"such as 100 or 0.5USD, got {text!r}"
        )
    return Amount(Fraction(match[1]), match[2] or "")


def needs_feed(currency: str) -> bool:
    """Whether amounts in ``currency`` are converted at a rate that changes."""
    return currency.upper() not in ("", "WEI", "ETH")


def to_wei(amount: Amount, feed: PriceFeed | None = None) -> Fraction:
    """Converts to wei, exactly.

    Raises: ConfigError: a currency that needs a feed, and the feed is absent or has another one.
    """
    currency = amount.currency.upper()
    if currency in ("", "WEI"):
        return amount.value
    if currency == "ETH":
        return amount.value * WEI_PER_ETH
    if feed is None:
        raise ConfigError(
            f"PriceFeedWatcher is not initialized: the currency {amount.currency} needs a price "
            "feed; give the price in wei or eth"
        )
    base, quote = feed.base.upper(), feed.quote.upper()
    for wanted in (currency, "ETH"):
        if wanted not in (base, quote):
            raise ConfigError(f"price feed does not have {wanted} as a currency ({base}/{quote})")
    if base == "ETH":
        return amount.value * WEI_PER_ETH / feed.price
    return amount.value * WEI_PER_ETH * feed.price


def to_fixed(price: Fraction) -> Fraction:
    """Cuts a price to thousandths of a wei, towards zero: below 0.001 wei it becomes 0."""
    return Fraction(int(price * _FIXED), _FIXED)


def is_cut_to_nothing(price: Fraction) -> bool:
    """Whether a price that is not 0 becomes 0 where it is cut to thousandths."""
    return price > 0 and not to_fixed(price)


def with_overhead(price: Fraction, tx_cost_multiplier: Fraction) -> Fraction:
    """Adds the share of a ticket that redeeming costs, and cuts to thousandths.

    ``tx_cost_multiplier``: face value / cost of redeeming; 0 adds nothing.
    """
    overhead = 1 + 1 / tx_cost_multiplier if price and tx_cost_multiplier else Fraction(1)
    return to_fixed(price * overhead)


def to_price_info(price: Fraction, key: ModelKey | None = None) -> pb.PriceInfo:
    """Returns the message with the reduced fraction, or the whole wei where int64 is too small.

    The reference floors the prices per model; consumers divide the two fields either way. Below a
    wei, where flooring would make work free, the nearest fraction that fits is taken instead.
    """
    if price.numerator > _MAX_INT64 or price.denominator > _MAX_INT64:
        whole = min(price.numerator // price.denominator, _MAX_INT64)
        price = Fraction(whole) if whole else _nearest(price)
    info = pb.PriceInfo(pricePerUnit=price.numerator, pixelsPerUnit=price.denominator)
    if key is not None:
        info.capability, info.constraint = key
    return info


def _nearest(price: Fraction) -> Fraction:
    """The nearest fraction of int64 to a price below 1 that is not 0; never 0."""
    return price.limit_denominator(_MAX_INT64) or Fraction(1, _MAX_INT64)


def _no_overhead(_: Address) -> Fraction:
    return Fraction(0)


@dataclass(frozen=True, slots=True, kw_only=True)
class PriceBook:
    """What each sender pays per unit, in wei. The key None stands for everybody else.

    Attributes:
        base: prices of requests that name no model, or a model without a price.
        models: prices per model; a model priced 0 falls back to the base price.
        is_adjusted: whether the cost of redeeming tickets is added (``-autoAdjustPrice``).
        tx_cost_multiplier: per sender; may raise Refused when the sender's funds are too small.
    """

    base: Mapping[Address | None, Fraction]
    models: Mapping[Address | None, Mapping[ModelKey, Fraction]] = field(default_factory=dict)
    is_adjusted: bool = True
    tx_cost_multiplier: Callable[[Address], Fraction] = _no_overhead

    def base_price(self, sender: Address) -> Fraction:
        """The sender's own base price, else the default one, else 0."""
        price = self.base.get(sender)
        return price if price is not None else self.base.get(None, Fraction(0))

    def model_prices(self, sender: Address) -> dict[ModelKey, Fraction]:
        """Every model's price, the sender's own ones replacing the default ones."""
        return {**self.models.get(None, {}), **self.models.get(sender, {})}

    def session_price(
        self,
        sender: Address,
        capabilities: pb.Capabilities | None,
        base_price: Fraction | None = None,
    ) -> Fraction:
        """The price before overhead: summed over the requested models that have one.

        ``base_price`` replaces the sender's base price. Capabilities count only if the request
        lists them in both ``capacities`` and the constraints.
        """
        base = self.base_price(sender) if base_price is None else base_price
        if capabilities is None:
            return base
        prices = self.model_prices(sender)
        constraints = capabilities.constraints.PerCapability
        total = sum(
            (
                prices.get(ModelKey(capability, model_id), Fraction(0))
                for capability in capabilities.capacities
                if capability in constraints
                for model_id in constraints[capability].models
            ),
            Fraction(0),
        )
        return total or base

    def advertised_price(
        self,
        sender: Address,
        capabilities: pb.Capabilities | None,
        base_price: Fraction | None = None,
    ) -> Fraction:
        """The price that goes into ``price_info``. Raises: Refused: from the multiplier."""
        price = self.session_price(
            sender,
            capabilities,
            # An override of the base price is for requests that name no model.
            base_price if capabilities is None else None,
        )
        if not self.is_adjusted:
            return price
        multiplier = self.tx_cost_multiplier(sender) if price else Fraction(0)
        return with_overhead(price, multiplier)


def price_models(
    entries: Iterable[ModelEntry],
    base: Amount | None,
    base_pixels: int = 1,
    feed: PriceFeed | None = None,
) -> dict[Address | None, dict[ModelKey, Fraction]]:
    """Returns the prices of the configured models, for ``PriceBook.models``.

    ``base``: ``-pricePerUnit``, for entries without a price of their own.

    Raises: ConfigError: a model without any price, or a gateway that is no address.
    """
    prices: dict[Address | None, dict[ModelKey, Fraction]] = {}
    for entry in entries:
        amount = (
            Amount(entry.price_per_unit, entry.currency)
            if entry.price_per_unit is not None
            else base
        )
        if amount is None or (entry.price_per_unit is None and not amount.value):
            raise ConfigError(
                f"'pricePerUnit' must be set for model '{entry.model_id}' in pipeline "
                f"'{entry.pipeline}': give the entry a price_per_unit, or set -pricePerUnit"
            )
        price = to_wei(amount, feed) / (entry.pixels_per_unit or base_pixels)
        if is_cut_to_nothing(price):
            _log.warning(
                "the price of model %s in pipeline %s is %s wei per unit; "
                "below 0.001 it is advertised as 0 unless -autoAdjustPrice=false",
                entry.model_id,
                entry.pipeline,
                price,
            )
        prices.setdefault(_sender(entry), {})[entry.key] = price
    return prices


def _sender(entry: ModelEntry) -> Address | None:
    if entry.gateway == DEFAULT_GATEWAY:
        return None
    try:
        return parse_address(entry.gateway)
    except ValueError as error:
        raise ConfigError(
            f"gateway of model '{entry.model_id}' in pipeline '{entry.pipeline}': {error}"
        ) from error
