"""The rate of ether is read at each full hour, and outlives an oracle that is silent."""

import asyncio
from collections.abc import AsyncIterator
from fractions import Fraction

import pytest
from chain.endpoint import Endpoint
from evm import ETH_USD, Evm

from lpnode.chain.eth import Eth
from lpnode.chain.price_feed import CurrentRate, PriceFeed, Rate
from lpnode.chain.rpc import JsonRpc, RpcConfig


class Hours:
    """A wall clock at a quarter past; ``sleep`` moves it, and ends the test when it has enough."""

    def __init__(self) -> None:
        self.now_s = 3600.0 * 5 + 900.0
        self.slept_s: list[float] = []
        self.stop_after = 1

    def __call__(self) -> float:
        return self.now_s

    async def sleep(self, duration_s: float) -> None:
        if len(self.slept_s) == self.stop_after:
            raise asyncio.CancelledError
        self.slept_s.append(duration_s)
        self.now_s += duration_s


@pytest.fixture
async def endpoint(evm: Evm) -> AsyncIterator[Endpoint]:
    async with Endpoint(evm.url).serve() as served:
        yield served


@pytest.fixture
async def feed(evm: Evm, endpoint: Endpoint) -> AsyncIterator[PriceFeed]:
    config = RpcConfig(urls=(endpoint.url,), first_rest_s=0.001, max_rest_s=0.001)
    async with JsonRpc(config) as rpc:
        yield PriceFeed(Eth(rpc), evm.price_feed)


async def test_the_rate_is_read_at_the_full_hour(evm: Evm, feed: PriceFeed) -> None:
    hours = Hours()
    current = CurrentRate(feed, wall_s=hours, sleep=hours.sleep)
    await current.start()
    assert current.rate.price == ETH_USD
    heard: list[Rate] = []
    current.subscribe(heard.append)
    evm.send(evm.owner.address, evm.price_feed, "setAnswer(int256)", 4321 * 10**8)
    with pytest.raises(asyncio.CancelledError):
        await current.run()
    assert hours.slept_s == [2700.0]
    assert current.rate.price == Fraction(4321)
    assert heard == [current.rate]


async def test_a_silent_oracle_is_tried_five_times_and_leaves_the_last_rate(
    feed: PriceFeed, endpoint: Endpoint
) -> None:
    hours = Hours()
    current = CurrentRate(feed, wall_s=hours, sleep=hours.sleep)
    await current.start()
    endpoint.fault = 500
    hours.stop_after = 5
    with pytest.raises(asyncio.CancelledError):
        await current.run()
    assert hours.slept_s == [2700.0, 30.0, 60.0, 120.0, 240.0]
    assert current.rate.price == ETH_USD
