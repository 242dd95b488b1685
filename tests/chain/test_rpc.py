"""Requests reach the chain as long as one endpoint does."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from chain.endpoint import Endpoint
from evm import CHAIN_ID, Evm

from lpnode.chain.controller import GET_CONTRACT
from lpnode.chain.eth import Eth
from lpnode.chain.rpc import JsonRpc, RpcConfig
from lpnode.chain.ticket_broker import REDEEM
from lpnode.errors import CallReverted, ConfigError, RpcRefused, RpcUnavailable


class Clock:
    """Stands still until somebody sleeps."""

    def __init__(self) -> None:
        self.now_s = 1000.0
        self.slept_s: list[float] = []

    def __call__(self) -> float:
        return self.now_s

    async def sleep(self, duration_s: float) -> None:
        self.slept_s.append(duration_s)
        self.now_s += duration_s


@pytest.fixture
async def first(evm: Evm) -> AsyncIterator[Endpoint]:
    async with Endpoint(evm.url).serve() as endpoint:
        yield endpoint


@pytest.fixture
async def second(evm: Evm) -> AsyncIterator[Endpoint]:
    async with Endpoint(evm.url).serve() as endpoint:
        yield endpoint


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def rpc(first: Endpoint, second: Endpoint, clock: Clock) -> AsyncIterator[JsonRpc]:
    config = RpcConfig(urls=(first.url, second.url), timeout_s=2.0)
    async with JsonRpc(config, clock=clock, sleep=clock.sleep) as opened:
        yield opened


async def test_only_the_preferred_endpoint_is_asked_while_it_answers(
    rpc: JsonRpc, first: Endpoint, second: Endpoint
) -> None:
    await rpc.request("eth_blockNumber")
    await rpc.request("eth_gasPrice")
    assert first.requests == ["eth_chainId", "eth_blockNumber", "eth_gasPrice"]
    assert second.requests == []
    assert rpc.chain_id == CHAIN_ID


@pytest.mark.parametrize(
    "fault",
    [
        "hang",
        "drop",
        "garbage",
        429,
        500,
        {"code": -32005, "message": "limit exceeded"},
        {"code": -32603, "message": "internal error"},
        {"code": -32000, "message": "header not found"},
        {"code": -32000, "message": "unsupported block number 12"},
    ],
    ids=str,
)
async def test_another_endpoint_stands_in_for_one_that_fails(
    rpc: JsonRpc, first: Endpoint, second: Endpoint, fault: str | int, clock: Clock
) -> None:
    first.fault = fault
    assert int(await rpc.request("eth_blockNumber"), 16) > 0
    assert len(first.requests) == 1
    assert len(second.requests) == 2
    assert clock.slept_s == []
    assert rpc.healthy_endpoints == (second.url.removeprefix("http://"),)


async def test_an_endpoint_that_failed_rests_and_is_preferred_again_afterwards(
    rpc: JsonRpc, first: Endpoint, second: Endpoint, clock: Clock
) -> None:
    first.fault = "drop"
    await rpc.request("eth_blockNumber")
    first.fault = None
    first.requests.clear()
    await rpc.request("eth_blockNumber")
    assert first.requests == []
    clock.now_s += 1.0
    await rpc.request("eth_blockNumber")
    assert first.requests == ["eth_chainId", "eth_blockNumber"]


async def test_rests_double_and_requests_end_when_no_endpoint_answers(
    rpc: JsonRpc, first: Endpoint, second: Endpoint, clock: Clock
) -> None:
    first.fault = second.fault = 503
    with pytest.raises(RpcUnavailable, match=r"6 attempts.*HTTP 503"):
        await rpc.request("eth_blockNumber")
    assert len(first.requests) + len(second.requests) == 6
    assert 0 < clock.slept_s[0] <= 0.5
    assert 1.0 < sum(clock.slept_s) <= 0.5 + 1.0


async def test_an_endpoint_of_another_chain_is_never_used(
    rpc: JsonRpc, first: Endpoint, second: Endpoint, clock: Clock
) -> None:
    await rpc.request("eth_blockNumber")
    first.fault = "drop"
    second.edit = lambda method, result: "0x1" if method == "eth_chainId" else result
    with pytest.raises(RpcUnavailable):
        await rpc.request("eth_blockNumber")
    assert second.requests == ["eth_chainId"]
    clock.now_s += 1000
    first.fault = None
    await rpc.request("eth_blockNumber")
    assert second.requests == ["eth_chainId"]


async def test_what_every_endpoint_would_refuse_is_passed_on_at_once(
    rpc: JsonRpc, first: Endpoint, second: Endpoint
) -> None:
    with pytest.raises(RpcRefused) as refused:
        await rpc.request("eth_noSuchThing")
    assert refused.value.code == -32601
    assert second.requests == []


async def test_a_revert_carries_the_contracts_own_reason(rpc: JsonRpc, evm: Evm) -> None:
    ticket = (bytes(20), bytes(20), 1, 1, 1, bytes(32), b"")
    with pytest.raises(CallReverted) as reverted:
        await Eth(rpc).call(evm.ticket_broker, REDEEM.encode(ticket, b"", 1))
    assert reverted.value.reason == "ticket recipient is null address"


async def test_a_call_to_no_contract_returns_nothing(rpc: JsonRpc, evm: Evm) -> None:
    nobody = evm.accounts[0].address
    assert await Eth(rpc).call(nobody, GET_CONTRACT.encode(bytes(32))) == b""


async def test_many_tasks_share_the_endpoints(rpc: JsonRpc) -> None:
    answers = await asyncio.gather(*(rpc.request("eth_blockNumber") for _ in range(50)))
    assert len(set(answers)) == 1


async def test_an_access_key_in_the_url_reaches_no_error_text(evm: Evm) -> None:
    config = RpcConfig(urls=("http://127.0.0.1:9/v2/SECRET",), max_attempts=1, timeout_s=0.5)
    async with JsonRpc(config) as rpc:
        with pytest.raises(RpcUnavailable) as unavailable:
            await rpc.request("eth_blockNumber")
    assert "SECRET" not in str(unavailable.value)
    assert "SECRET" not in repr(unavailable.value.__context__)


@pytest.mark.parametrize("urls", [(), ("localhost:8545",), ("ftp://host",), ("http://",)])
def test_urls_that_cannot_be_used_are_refused_at_start(urls: tuple[str, ...]) -> None:
    with pytest.raises(ConfigError, match="-ethUrl"):
        RpcConfig(urls=urls)
