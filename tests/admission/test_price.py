"""Prices: exact arithmetic, and who sees which one."""

import json
import logging
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from lpnode.admission.ai_models import ModelEntry
from lpnode.admission.price import (
    Amount,
    PriceBook,
    PriceFeed,
    parse_price_per_unit,
    price_models,
    to_fixed,
    to_price_info,
    to_wei,
)
from lpnode.errors import ConfigError, InsufficientBalance, Refused
from lpnode.protocol import lp_rpc_pb2 as pb
from lpnode.protocol.ethereum import ZERO_ADDRESS, Address
from lpnode.schedule.capacity import ModelKey

VECTORS: dict[str, Any] = json.loads(
    (Path(__file__).parent.parent / "vectors" / "discovery.json").read_text()
)
SENDER = Address(b"\1" * 20)
OTHER = Address(b"\2" * 20)
A = ModelKey(27, "a")


@pytest.mark.parametrize("case", VECTORS["parse_price_per_unit"], ids=lambda case: case["in"])
def test_a_price_text_is_read_as_listed(case: dict[str, Any]) -> None:
    if case["error"]:
        with pytest.raises(ConfigError):
            parse_price_per_unit(case["in"])
    else:
        amount = parse_price_per_unit(case["in"])
        assert amount == Amount(Fraction(case["price"]), case["currency"])


@pytest.mark.parametrize("case", VECTORS["currency_to_wei"])
def test_an_amount_is_converted_as_listed(case: dict[str, Any]) -> None:
    rate = case["feed"]
    feed = rate and PriceFeed(rate["base"], rate["quote"], Fraction(rate["price"]))
    amount = Amount(Fraction(case["base"]), case["currency"])
    if case["wei"] is None:
        with pytest.raises(ConfigError) as refusal:
            to_wei(amount, feed)
        assert str(refusal.value) == case["error"]
    else:
        assert to_wei(amount, feed) == Fraction(case["wei"])


def test_a_currency_without_a_feed_is_refused() -> None:
    with pytest.raises(ConfigError, match="PriceFeedWatcher is not initialized"):
        to_wei(Amount(Fraction(1), "USD"))


@pytest.mark.parametrize("case", VECTORS["price_to_fixed"], ids=lambda case: case["price"])
def test_a_price_is_cut_to_thousandths(case: dict[str, Any]) -> None:
    fixed = to_fixed(Fraction(case["price"]))
    assert fixed == Fraction(case["price_out"])
    assert fixed * 1000 == int(case["fixed"])


def prices(listed: list[dict[str, Any]]) -> dict[ModelKey, Fraction]:
    return {ModelKey(item["capability"], item["model"]): Fraction(item["price"]) for item in listed}


def request(capacities: list[int], models: dict[str, list[str]]) -> pb.Capabilities:
    message = pb.Capabilities(capacities=dict.fromkeys(capacities, 1))
    for capability, model_ids in models.items():
        for model_id in model_ids:
            message.constraints.PerCapability[int(capability)].models[model_id].SetInParent()
    return message


@pytest.mark.parametrize(
    "case", VECTORS["session_price_for_capabilities"], ids=lambda case: case["name"]
)
def test_a_session_costs_what_is_listed(case: dict[str, Any]) -> None:
    book = PriceBook(
        base={} if case["base_price"] is None else {None: Fraction(case["base_price"])},
        models={None: prices(case["default_prices"]), SENDER: prices(case["sender_prices"])},
    )
    price = book.session_price(SENDER, request(**case["request"]))
    assert price == Fraction(case["price"])


@pytest.mark.parametrize("case", VECTORS["advertised_price"])
def test_a_price_is_advertised_as_listed(case: dict[str, Any]) -> None:
    book = PriceBook(
        base={None: Fraction(case["base"])},
        is_adjusted=case["auto_adjust"],
        tx_cost_multiplier=lambda _: Fraction(case["tx_cost_multiplier"]),
    )
    info = to_price_info(book.advertised_price(SENDER, None))
    assert (info.pricePerUnit, info.pixelsPerUnit) == (
        int(case["pricePerUnit"]),
        int(case["pixelsPerUnit"]),
    )


@pytest.mark.parametrize("case", VECTORS["price_to_int64"], ids=lambda case: case["price"])
def test_a_model_price_keeps_the_fraction_that_the_reference_cuts_off(case: dict[str, Any]) -> None:
    info = to_price_info(Fraction(case["price"]), A)
    assert Fraction(info.pricePerUnit, info.pixelsPerUnit) == Fraction(case["price"])
    assert info.pricePerUnit // info.pixelsPerUnit == int(case["pricePerUnit"])
    assert (info.capability, info.constraint) == A


@pytest.mark.parametrize(
    ("price", "expected"),
    [
        (Fraction(2**63 - 1), (2**63 - 1, 1)),
        (Fraction(2**64, 3), (2**64 // 3, 1)),
        (Fraction(1, 2**64), (1, 2**63 - 1)),
        (Fraction(2**62 + 1, 3 * 2**62), (3074457345618258603, 2**63 - 1)),
        (Fraction(2**80), (2**63 - 1, 1)),
    ],
)
def test_a_price_beyond_int64_becomes_whole_wei_and_never_nothing(
    price: Fraction, expected: tuple[int, int]
) -> None:
    info = to_price_info(price)
    assert (info.pricePerUnit, info.pixelsPerUnit) == expected


def test_a_sender_without_funds_is_refused_only_when_the_price_is_positive() -> None:
    def broke(_: Address) -> Fraction:
        raise InsufficientBalance("insufficient sender reserve")

    book = PriceBook(base={None: Fraction(1)}, tx_cost_multiplier=broke)
    with pytest.raises(Refused, match="insufficient sender reserve"):
        book.advertised_price(SENDER, None)
    free = PriceBook(base={}, tx_cost_multiplier=broke)
    assert free.advertised_price(SENDER, None) == 0


def entry(**fields: Any) -> ModelEntry:
    return ModelEntry(**{"pipeline": "text-to-image", "model_id": "a", **fields})


def test_a_sender_sees_its_own_price_and_others_the_default() -> None:
    models = price_models(
        [
            entry(price_per_unit=Fraction(5)),
            entry(price_per_unit=Fraction(3), gateway="0x" + SENDER.hex()),
        ],
        base=None,
    )
    book = PriceBook(base={None: Fraction(1), SENDER: Fraction(2)}, models=models)
    assert book.model_prices(SENDER) == {A: Fraction(3)}
    assert book.model_prices(OTHER) == {A: Fraction(5)}
    assert (book.base_price(SENDER), book.base_price(ZERO_ADDRESS)) == (2, 1)


def test_a_model_without_a_price_takes_the_base_price_in_its_currency() -> None:
    models = price_models([entry(pixels_per_unit=4)], Amount(Fraction(1, 2), "eth"), base_pixels=9)
    assert models[None][A] == Fraction(10**18, 8)


def test_the_general_pixels_count_when_the_entry_has_none() -> None:
    assert price_models([entry()], Amount(Fraction(1)), base_pixels=9)[None][A] == Fraction(1, 9)


@pytest.mark.parametrize("base", [None, Amount(Fraction(0))])
def test_a_model_without_any_price_is_refused(base: Amount | None) -> None:
    with pytest.raises(ConfigError) as refusal:
        price_models([entry()], base)
    assert "'pricePerUnit' must be set for model 'a' in pipeline 'text-to-image'" in str(
        refusal.value
    )


def test_a_model_may_be_free() -> None:
    assert price_models([entry(price_per_unit=Fraction(0))], None)[None][A] == 0


def test_a_gateway_that_is_no_address_is_refused() -> None:
    with pytest.raises(ConfigError, match="gateway of model 'a'"):
        price_models([entry(price_per_unit=Fraction(1), gateway="0x12")], None)


def test_a_price_that_will_round_to_nothing_is_warned_about(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.WARNING):
        price_models([entry(price_per_unit=Fraction(1), pixels_per_unit=10**12)], None)
    assert "advertised as 0" in caplog.text
