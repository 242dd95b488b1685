"""What a node may say about itself, and the prices in its replies."""

from fractions import Fraction

import pytest

from lpnode.admission.ai_models import ModelEntry, slots_of
from lpnode.admission.auth_token import AuthTokens
from lpnode.admission.price import PriceBook
from lpnode.admission.quote import Quote, QuoteConfig
from lpnode.errors import ConfigError
from lpnode.protocol import lp_rpc_pb2 as pb
from lpnode.protocol.ethereum import Address
from lpnode.schedule.capacity import Capacity, ModelKey
from lpnode.schedule.hardware import Gpu, find_gpus

SENDER = Address(b"\1" * 20)
OTHER = Address(b"\2" * 20)
MODEL = ModelEntry(pipeline="text-to-image", model_id="a")


def make_quote(prices: PriceBook | None = None) -> Quote:
    return Quote(
        QuoteConfig(service_uri="https://host:8935", address=OTHER),
        models=[MODEL],
        capacity=Capacity(slots_of([MODEL])),
        tokens=AuthTokens(bytes(32), clock=lambda: 0),
        prices=prices,
    )


@pytest.mark.parametrize(
    "uri",
    ["https://a.example:8935", "http://127.0.0.1:1", "https://[::1]:8935", ""],
)
def test_a_uri_that_every_gateway_can_dial_is_accepted(uri: str) -> None:
    assert QuoteConfig(service_uri=uri).service_uri == uri


@pytest.mark.parametrize(
    ("uri", "fix"),
    [
        ("https://host", "explicit port"),
        ("https://host/", "write https://host:8935"),
        ("https://host:0", "explicit port"),
        ("https://host:8935/", "trailing slash"),
        ("https://host:8935/x", "path"),
        ("https://host:8935?x=1", "query"),
        ("https://me@host:8935", "user"),
        ("host:8935", "https://host:port"),
        ("ftp://host:8935", "https://host:port"),
        ("https://:8935", "https://host:port"),
        ("https://host:99999", "cannot be read"),
    ],
)
def test_a_uri_that_some_gateway_cannot_dial_is_refused(uri: str, fix: str) -> None:
    for config in ({"service_uri": uri}, {"service_uri": "", "nodes": (uri,)}):
        with pytest.raises(ConfigError, match=fix):
            QuoteConfig(**config)


@pytest.mark.parametrize("version", ["lpnode-0.9.1", "", "0.9.0-01"])
def test_a_version_that_gateways_cannot_read_is_refused(version: str) -> None:
    with pytest.raises(ConfigError, match="version"):
        QuoteConfig(service_uri="", version=version)


def test_a_sender_with_its_own_prices_sees_them_and_others_the_default() -> None:
    key = ModelKey(27, "a")
    book = PriceBook(
        base={None: Fraction(1), SENDER: Fraction(7)},
        models={None: {key: Fraction(5)}, SENDER: {key: Fraction(1, 2)}},
        is_adjusted=False,
    )
    quote = make_quote(book)
    seen = {}
    for sender in (SENDER, OTHER):
        info = pb.OrchestratorInfo.FromString(quote.info(sender, None))
        (model,) = info.capabilities_prices
        assert (model.capability, model.constraint) == (27, "a")
        seen[sender] = (
            Fraction(info.price_info.pricePerUnit, info.price_info.pixelsPerUnit),
            Fraction(model.pricePerUnit, model.pixelsPerUnit),
        )
    assert seen == {SENDER: (7, Fraction(1, 2)), OTHER: (1, 5)}


def test_a_request_with_capabilities_sees_the_price_of_what_it_demands() -> None:
    book = PriceBook(base={None: Fraction(1)}, models={None: {ModelKey(27, "a"): Fraction(5)}})
    demand = pb.Capabilities(capacities={27: 1})
    demand.constraints.PerCapability[27].models["a"].SetInParent()
    quote = make_quote(book)
    info = pb.OrchestratorInfo.FromString(quote.info(SENDER, demand, Fraction(9)))
    assert info.price_info == pb.PriceInfo(pricePerUnit=5, pixelsPerUnit=1)
    assert not info.capabilities_prices


def test_a_webhooks_price_replaces_the_base_price_only() -> None:
    quote = make_quote(PriceBook(base={None: Fraction(1)}))
    info = pb.OrchestratorInfo.FromString(quote.info(SENDER, None, Fraction(9)))
    assert info.price_info == pb.PriceInfo(pricePerUnit=9, pixelsPerUnit=1)


def test_a_price_of_nothing_is_still_a_price() -> None:
    info = pb.OrchestratorInfo.FromString(make_quote(PriceBook(base={})).info(SENDER, None))
    assert info.HasField("price_info")
    assert (info.price_info.pricePerUnit, info.price_info.pixelsPerUnit) == (0, 1)


def test_new_hardware_is_in_the_next_full_reply() -> None:
    quote = make_quote()
    assert not pb.OrchestratorInfo.FromString(quote.info(SENDER, None)).hardware[0].gpu_info
    quote.set_gpus(
        (Gpu(index=1, uuid="GPU-1", name="n", major=8, minor=6, memory_free=3, memory_total=4),)
    )
    (hardware,) = pb.OrchestratorInfo.FromString(quote.info(SENDER, None)).hardware
    assert (hardware.pipeline, hardware.model_id) == ("text-to-image", "a")
    assert hardware.gpu_info["1"] == pb.GPUComputeInfo(
        id="GPU-1", name="n", major=8, minor=6, memory_free=3, memory_total=4
    )


def test_this_machines_gpus_can_be_listed() -> None:
    for gpu in find_gpus():
        assert gpu.uuid
        assert 0 < gpu.memory_free <= gpu.memory_total
