"""The operator's webhook: asked for every discovery, over real HTTP."""

import asyncio
from collections.abc import AsyncIterator
from fractions import Fraction

import aiohttp
import pytest
from aiohttp import web

from lpnode.admission.ai_models import DEFAULT_AI_MODELS, slots_of
from lpnode.admission.auth_token import AuthTokens
from lpnode.admission.auth_webhook import AuthWebhook, AuthWebhookConfig
from lpnode.admission.price import PriceBook
from lpnode.admission.quote import Quote, QuoteConfig
from lpnode.edge.grpc.orchestrator import Orchestrator
from lpnode.errors import ConfigError, DiscoveryRefused
from lpnode.protocol import lp_rpc_pb2 as pb
from lpnode.protocol.ethereum import Address
from lpnode.schedule.capacity import Capacity

SENDER = Address(bytes.fromhex("d022b731a61941de2be140e97940a23f3a3945df"))
PRICE = '{"priceInfo":{"pricePerUnit":3,"pixelsPerUnit":2}}'


class Operator:
    """A webhook that answers what the test sets."""

    def __init__(self) -> None:
        self.status = 200
        self.body = "{}"
        self.pieces: list[bytes] = []
        self.asked: list[object] = []
        self.now = 0.0

    async def answer(self, request: web.Request) -> web.StreamResponse:
        self.asked.append(await request.json())
        if not self.pieces:
            return web.Response(status=self.status, text=self.body)
        response = web.StreamResponse()
        await response.prepare(request)
        for piece in self.pieces:
            await response.write(piece)
            await asyncio.sleep(0.01)  # a packet of its own
        return response


@pytest.fixture
def operator() -> Operator:
    return Operator()


@pytest.fixture
async def webhook(operator: Operator) -> AsyncIterator[AuthWebhook]:
    app = web.Application()
    app.router.add_post("/auth", operator.answer)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    async with aiohttp.ClientSession() as http:
        config = AuthWebhookConfig(url=f"http://127.0.0.1:{port}/auth")
        yield AuthWebhook(config, http, clock=lambda: operator.now)
    await runner.cleanup()


async def test_the_webhook_is_told_the_checksummed_address(
    webhook: AuthWebhook, operator: Operator
) -> None:
    assert await webhook.authenticate(SENDER) is None
    assert operator.asked == [{"id": "0xd022b731a61941DE2bE140E97940a23f3a3945df"}]


async def test_a_refusal_carries_the_webhooks_words(
    webhook: AuthWebhook, operator: Operator
) -> None:
    operator.status, operator.body = 403, "not on the list"
    with pytest.raises(DiscoveryRefused) as refusal:
        await webhook.authenticate(SENDER)
    assert str(refusal.value) == "authentication failed: not on the list"


async def test_an_answer_in_several_packets_is_read_to_its_end(
    webhook: AuthWebhook, operator: Operator
) -> None:
    operator.pieces = [PRICE[:9].encode(), PRICE[9:20].encode(), PRICE[20:].encode()]
    assert await webhook.authenticate(SENDER) == Fraction(3, 2)


async def test_gateways_are_not_told_where_a_silent_webhook_lives(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with aiohttp.ClientSession() as http:
        webhook = AuthWebhook(AuthWebhookConfig(url="http://127.0.0.1:1/auth?key=hunter2"), http)
        with pytest.raises(DiscoveryRefused) as refusal:
            await webhook.authenticate(SENDER)
    assert str(refusal.value) == "authentication failed: no answer from the webhook"
    assert "127.0.0.1:1" in caplog.text
    assert "hunter2" not in caplog.text


@pytest.mark.parametrize("body", ["", "nonsense", '{"priceInfo":{"pricePerUnit":1}}'])
async def test_an_unreadable_answer_is_a_refusal(
    webhook: AuthWebhook, operator: Operator, body: str
) -> None:
    operator.body = body
    with pytest.raises(DiscoveryRefused, match="authentication failed: "):
        await webhook.authenticate(SENDER)


async def test_a_webhook_that_is_away_is_a_refusal() -> None:
    async with aiohttp.ClientSession() as http:
        webhook = AuthWebhook(AuthWebhookConfig(url="http://127.0.0.1:1/"), http)
        with pytest.raises(DiscoveryRefused, match="authentication failed: "):
            await webhook.authenticate(SENDER)


async def test_a_price_is_remembered_for_half_an_hour(
    webhook: AuthWebhook, operator: Operator
) -> None:
    operator.body = PRICE
    assert await webhook.authenticate(SENDER) == Fraction(3, 2)
    operator.body, operator.now = "{}", 1799.0
    assert await webhook.authenticate(SENDER) == Fraction(3, 2)
    operator.now = 1800.0
    assert await webhook.authenticate(SENDER) is None


async def test_the_price_changes_full_replies_only(
    webhook: AuthWebhook, operator: Operator
) -> None:
    operator.body = PRICE
    capacity = Capacity(slots_of(DEFAULT_AI_MODELS))
    tokens = AuthTokens(bytes(32))
    quote = Quote(
        QuoteConfig(service_uri="https://host:8935"),
        models=DEFAULT_AI_MODELS,
        capacity=capacity,
        tokens=tokens,
        prices=PriceBook(base={None: Fraction(1)}, is_adjusted=False),
    )
    orchestrator = Orchestrator(quote=quote, capacity=capacity, tokens=tokens, webhook=webhook)
    prices = []
    for request in (
        pb.OrchestratorRequest(address=SENDER),
        pb.OrchestratorRequest(address=SENDER, capabilities=pb.Capabilities()),
    ):
        reply = orchestrator.get_orchestrator(request.SerializeToString())
        assert not isinstance(reply, bytes)
        info = pb.OrchestratorInfo.FromString(await reply)
        prices.append(Fraction(info.price_info.pricePerUnit, info.price_info.pixelsPerUnit))
    assert prices == [Fraction(3, 2), 1]


@pytest.mark.parametrize("config", [{"url": "host"}, {"url": "http://h", "timeout_s": 0}])
def test_a_webhook_that_cannot_be_asked_is_refused_at_start(config: dict[str, object]) -> None:
    with pytest.raises(ConfigError):
        AuthWebhookConfig(**config)  # type: ignore[arg-type]
