"""Prices as configured become a price book, at the rate of today. Source: discovery.md 6.2, 7.3."""

import logging
from collections.abc import Mapping
from fractions import Fraction

import pytest

from lpnode.admission.ai_models import ModelEntry
from lpnode.admission.price import Amount, PriceFeed
from lpnode.admission.tariff import BasePrice, Tariff, TariffConfig
from lpnode.errors import ConfigError
from lpnode.protocol.ethereum import Address, checksum_text

GATEWAY = Address(b"\x07" * 20)
MODEL = ModelEntry(pipeline="live-video-to-video", model_id="noop")
DOLLARS = Amount(Fraction(3, 1000), "USD")


def feed(dollars: int) -> PriceFeed:
    return PriceFeed(base="ETH", quote="USD", price=Fraction(dollars))


def tariff(base: Mapping[Address | None, BasePrice], dollars: int | None = None) -> Tariff:
    return Tariff(
        TariffConfig(base=base),
        [MODEL],
        last_l1_block=lambda: 100,
        feed=None if dollars is None else feed(dollars),
    )


def test_a_price_in_dollars_follows_the_rate_and_old_quotes_are_still_good() -> None:
    prices = {None: BasePrice(DOLLARS, 10**12)}
    dear = tariff(prices, 1500)
    assert dear.prices.book.base_price(GATEWAY) == 2
    dear.set_feed(feed(3000))
    assert dear.prices.book.base_price(GATEWAY) == 1
    assert dear.prices.book.model_prices(GATEWAY) == {MODEL.key: 1}
    dear.set_feed(feed(750))
    assert dear.prices.book.base_price(GATEWAY) == 4
    assert dear.prices.lowest(GATEWAY, MODEL.key) == 1


def test_a_rate_that_makes_no_prices_changes_none(caplog: pytest.LogCaptureFixture) -> None:
    one = tariff({None: BasePrice(DOLLARS, 10**12)}, 3000)
    one.set_feed(PriceFeed(base="BTC", quote="USD", price=Fraction(1)))
    assert one.prices.book.base_price(GATEWAY) == 1
    assert "prices stay as they are" in caplog.text


def test_a_price_in_dollars_without_a_feed_is_refused() -> None:
    with pytest.raises(ConfigError, match="PriceFeedWatcher is not initialized"):
        tariff({None: BasePrice(DOLLARS, 10**12)})


def test_a_model_without_any_price_is_refused() -> None:
    with pytest.raises(ConfigError, match="'pricePerUnit' must be set for model 'noop'"):
        tariff({})


def test_the_operator_changes_a_base_price_while_the_node_runs() -> None:
    one = tariff({None: BasePrice(Amount(Fraction(1200)))})
    one.set_base_price(checksum_text(GATEWAY), "0.5", "10", "")
    one.set_base_price("default", "2eth", "1e18", "")
    assert one.base_prices() == {"default": "2", checksum_text(GATEWAY): "1/20"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("default", "5", "1", "USD"), "PriceFeedWatcher is not initialized"),
        (("default", "5", "0", ""), "-pixelsPerUnit must be a positive"),
        (("default", "cheap", "1", ""), "a price per unit is a number"),
        (("everybody", "5", "1", ""), "broadcasterEthAddr: an address is 0x"),
    ],
)
def test_a_change_that_cannot_be_made_changes_nothing(
    change: tuple[str, str, str, str], message: str
) -> None:
    one = tariff({None: BasePrice(Amount(Fraction(1200)))})
    with pytest.raises(ConfigError, match=message):
        one.set_base_price(*change)
    assert one.base_prices() == {"default": "1200"}


def test_a_price_that_is_advertised_as_nothing_is_told(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        tariff({None: BasePrice(Amount(Fraction(1)), 10**6)})
    assert "base price for default is 1/1000000 wei per pixel" in caplog.text
