"""Discovery checklist 32: the operator's port."""

import asyncio
from collections.abc import AsyncIterator

import httpx
import pytest

from lpnode.edge.http.operator import Operator, OperatorConfig, OperatorState
from lpnode.errors import ConfigError


class Settings:
    """What the operator has set."""

    def __init__(self) -> None:
        self.log_level = 3
        self.prices = {"default": "1200/7"}

    def set_log_level(self, level: int) -> None:
        self.log_level = level

    def set_base_price(self, sender: str, price: str, pixels: str, currency: str) -> None:
        if not price.isdecimal():
            raise ConfigError(f"pricePerUnit must be a number, got {price!r}")
        self.prices[sender] = f"{price}/{pixels}{currency}"


@pytest.fixture
def settings() -> Settings:
    return Settings()


@pytest.fixture
async def client(settings: Settings) -> AsyncIterator[httpx.AsyncClient]:
    state = OperatorState(
        version="0.9.1",
        sessions=lambda: [{"manifest_id": "1a2b"}],
        metrics=lambda: b"livepeer_versions 1\n",
        base_prices=lambda: settings.prices,
        log_level=lambda: settings.log_level,
        set_log_level=settings.set_log_level,
        set_base_price=settings.set_base_price,
        payments=lambda: {"pending_wei": "7"},
        models=lambda: [{"model_id": "noop", "state": "ready"}],
    )
    operator = Operator(OperatorConfig(port=0, is_monitored=True), state)
    await operator.bind()
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(operator.run(), name="operator port")
        base = f"http://127.0.0.1:{operator.port}"
        async with httpx.AsyncClient(base_url=base) as client:
            yield client
        await operator.drain()


def test_the_operator_port_is_on_loopback_unless_told_otherwise() -> None:
    assert OperatorConfig().host == "127.0.0.1"


@pytest.mark.parametrize(
    ("path", "status", "text"),
    [
        ("/healthz", 200, ""),
        ("/IsOrchestrator", 200, "true"),
        ("/IsRedeemer", 200, "false"),
        ("/EthChainID", 200, "0"),
        ("/getLogLevel", 200, "3"),
        ("/getAISessionPoolsInfo", 200, "{}"),
        ("/orchestratorInfo", 500, "missing ETH client\n"),
        ("/ethAddr", 500, "missing ETH client\n"),
        ("/setMaxFaceValue?maxfacevalue=1", 500, "missing ETH client\n"),
        ("/registerLiveRunners", 404, "live runners are not supported\n"),
        ("/setLogLevel", 400, "missing form param: loglevel\n"),
        ("/setLogLevel?loglevel=7", 400, "loglevel must be 0 to 6, got '7'\n"),
        ("/setPriceForBroadcaster", 400, "missing form param: pricePerUnit\n"),
        ("/nowhere", 404, "404 page not found\n"),
        ("/metrics", 200, "livepeer_versions 1\n"),
    ],
)
async def test_each_path_answers_with_its_text(
    client: httpx.AsyncClient, path: str, status: int, text: str
) -> None:
    answer = await client.get(path)
    assert (answer.status_code, answer.text) == (status, text)


async def test_network_capabilities_are_a_gateways_business(client: httpx.AsyncClient) -> None:
    answer = await client.get("/getNetworkCapabilities")
    assert answer.status_code == 400
    assert answer.text == "Node must be gateway node to get network capabilities\n"


async def test_status_has_the_references_fields(client: httpx.AsyncClient) -> None:
    status = (await client.get("/status")).json()
    assert status["Version"] == "0.9.1"
    assert status["BroadcasterPrices"] == {"default": "1200/7"}
    assert status["LiveSessions"] == [{"manifest_id": "1a2b"}]
    assert status["Models"] == [{"model_id": "noop", "state": "ready"}]
    assert status["Payments"] == {"pending_wei": "7"}
    assert {"GOOS", "GOArch", "RegisteredTranscoders", "Manifests"} <= status.keys()


async def test_settings_come_by_query_or_by_form(
    client: httpx.AsyncClient, settings: Settings
) -> None:
    assert (await client.post("/setLogLevel", data={"loglevel": "5"})).status_code == 200
    assert settings.log_level == 5
    form = {"pricePerUnit": "3", "pixelsPerUnit": "2", "broadcasterEthAddr": "default"}
    assert (await client.post("/setPriceForBroadcaster", data=form)).status_code == 200
    assert settings.prices["default"] == "3/2"
    answer = await client.get("/setPriceForBroadcaster", params={**form, "pricePerUnit": "x"})
    assert (answer.status_code, answer.text) == (400, "pricePerUnit must be a number, got 'x'\n")


async def test_tickets_are_tried_again_by_post_and_on_chain_only(client: httpx.AsyncClient) -> None:
    assert (await client.get("/tickets/retry", params={"hash": "all"})).status_code == 405
    answer = await client.post("/tickets/retry", data={"hash": "all"})
    assert (answer.status_code, answer.text) == (500, "missing ETH client\n")
    answer = await client.post("/tickets/retry")
    assert (answer.status_code, answer.text) == (400, "missing form param: hash\n")
