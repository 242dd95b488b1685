"""What the operator charges, as configured, and the price book that it makes at today's rate.

Source: discovery.md sections 5, 6.2 and 7.3.
"""

import json
import logging
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from fractions import Fraction
from pathlib import Path
from typing import Any

from lpnode.admission.ai_models import DEFAULT_GATEWAY, ModelEntry
from lpnode.admission.paid_quote import Prices
from lpnode.admission.price import (
    Amount,
    PriceBook,
    PriceFeed,
    is_cut_to_nothing,
    needs_feed,
    parse_price_per_unit,
    price_models,
    to_wei,
)
from lpnode.errors import ConfigError, InvalidArgument
from lpnode.protocol.ethereum import Address, checksum_text, parse_address

_PIXELS = re.compile(r"[0-9]+(?:\.[0-9]+)?(?:[eE]\+?[0-9]{1,2})?")

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class BasePrice:
    """An amount for a number of pixels. Raises: ConfigError: that number is not positive."""

    amount: Amount
    pixels_per_unit: int = 1

    def __post_init__(self) -> None:
        if self.pixels_per_unit <= 0:
            raise ConfigError(f"-pixelsPerUnit must be positive, got {self.pixels_per_unit}")

    def wei(self, feed: PriceFeed | None) -> Fraction:
        """Wei per pixel. Raises: ConfigError: no feed has the currency."""
        return to_wei(self.amount, feed) / self.pixels_per_unit


@dataclass(frozen=True, slots=True, kw_only=True)
class TariffConfig:
    """Prices apart from those of ``-aiModels``.

    Attributes:
        base: by sender, None for everybody else: of models without a price of their own.
        is_adjusted: ``-autoAdjustPrice``.
    """

    base: Mapping[Address | None, BasePrice] = field(default_factory=dict)
    is_adjusted: bool = True

    def needs_rate(self, models: Sequence[ModelEntry]) -> bool:
        """Whether any price is in a currency that an oracle has to convert."""
        currencies = [price.amount.currency for price in self.base.values()]
        currencies += [entry.currency for entry in models if entry.price_per_unit is not None]
        return any(map(needs_feed, currencies))


class Tariff:
    """The prices in force. They change with the rate, and when the operator says so."""

    def __init__(
        self,
        config: TariffConfig,
        models: Sequence[ModelEntry],
        *,
        last_l1_block: Callable[[], int],
        feed: PriceFeed | None = None,
    ) -> None:
        """``last_l1_block``: the newest block known. ``feed``: None when no price needs one.

        Raises: ConfigError: a model without a price, or a currency that no feed has.
        """
        self._is_adjusted = config.is_adjusted
        self._models = tuple(models)
        self._feed = feed
        self._base = dict(config.base)
        self.prices = Prices(self._book(), last_l1_block=last_l1_block)

    def set_feed(self, feed: PriceFeed) -> None:
        """Takes over a new rate. One that makes no prices leaves those in force."""
        before, self._feed = self._feed, feed
        try:
            self.prices.replace(self._book())
        except ConfigError as error:
            self._feed = before
            _log.error("prices stay as they are: %s", error)

    def set_base_price(self, sender: str, price: str, pixels: str, currency: str) -> None:
        """Changes a base price; all texts are as the operator's port takes them.

        ``sender``: an address or ``default``. ``currency``: empty, or it stands behind the price.
        Raises: ConfigError: says which text, and nothing is changed.
        """
        key = _sender(sender)
        amount = parse_price_per_unit(price + currency)
        before = dict(self._base)
        self._base[key] = BasePrice(amount, parse_pixels(pixels))
        try:
            book = self._book()
        except ConfigError:
            self._base = before
            raise
        self.prices.replace(book)

    def base_prices(self) -> dict[str, str]:
        """Wei per pixel as ``n`` or ``n/d``, by address or ``default``; for the operator."""
        return {
            DEFAULT_GATEWAY if sender is None else checksum_text(sender): str(price)
            for sender, price in self.prices.book.base.items()
        }

    def _book(self) -> PriceBook:
        base = {sender: price.wei(self._feed) for sender, price in self._base.items()}
        for sender, price in base.items():
            if self._is_adjusted and is_cut_to_nothing(price):
                name = DEFAULT_GATEWAY if sender is None else checksum_text(sender)
                _log.warning(
                    "the base price for %s is %s wei per pixel; below 0.001 it is advertised as 0 "
                    "unless -autoAdjustPrice=false",
                    name,
                    price,
                )
        own = self._base.get(None)
        return PriceBook(
            base=base,
            models=price_models(
                self._models,
                None if own is None else own.amount,
                1 if own is None else own.pixels_per_unit,
                self._feed,
            ),
            is_adjusted=self._is_adjusted,
        )


def parse_pixels(text: str) -> int:
    """Reads ``-pixelsPerUnit``: a positive whole number, also as ``1e12``.

    Raises: ConfigError.
    """
    try:
        number = Decimal(text) if _PIXELS.fullmatch(text) else Decimal(0)
    except InvalidOperation:
        number = Decimal(0)
    if number <= 0 or number != number.to_integral_value():
        raise ConfigError(f"-pixelsPerUnit must be a positive whole number, got {text!r}")
    return int(number)


def parse_gateway_prices(value: str) -> dict[Address | None, BasePrice]:
    """Reads ``-pricePerGateway``: a JSON object, or the name of a file that has one.

    Raises: ConfigError: names the entry and the field.
    """
    if not value:
        return {}
    text = value
    if os.path.isfile(value):
        try:
            text = Path(value).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"-pricePerGateway: {value} cannot be read: {error}") from error
    try:
        document = json.loads(text, parse_float=Decimal)
    except (ValueError, RecursionError, InvalidOperation) as error:
        raise ConfigError(
            f"-pricePerGateway: neither a file nor JSON: {error}; expected "
            '{"gateways": [{"ethaddress": "0x…", "priceperunit": 1200, "pixelsperunit": 1}]}'
        ) from error
    entries = (
        document.get("gateways", document.get("broadcasters")) if _is_object(document) else None
    )
    if not isinstance(entries, list):
        raise ConfigError('-pricePerGateway: expected an object with a list under "gateways"')
    return dict(_gateway_price(entry, number) for number, entry in enumerate(entries, 1))


def _gateway_price(entry: Any, number: int) -> tuple[Address, BasePrice]:
    where = f"-pricePerGateway: entry {number}"
    if not _is_object(entry):
        raise ConfigError(f"{where}: must be an object")
    # The reference compares keys without case.
    fields = {key.lower(): value for key, value in entry.items()}
    try:
        sender = parse_address(str(fields.get("ethaddress", "")))
        price = fields.get("priceperunit", "")
        amount = parse_price_per_unit(_plain(price) + str(fields.get("currency", "")))
        pixels = parse_pixels(_plain(fields.get("pixelsperunit", 1)))
    except (InvalidArgument, ConfigError) as error:
        raise ConfigError(f"{where}: {error}") from error
    return sender, BasePrice(amount, pixels)


def _plain(number: Any) -> str:
    """A JSON number without an exponent; a text as it is."""
    if isinstance(number, Decimal) and abs(number.adjusted()) < 40:
        return f"{number:f}"
    return str(number)


def _is_object(document: Any) -> bool:
    return isinstance(document, dict)


def _sender(text: str) -> Address | None:
    if text == DEFAULT_GATEWAY:
        return None
    try:
        return parse_address(text)
    except InvalidArgument as error:
        raise ConfigError(f"broadcasterEthAddr: {error}, or {DEFAULT_GATEWAY}") from error
