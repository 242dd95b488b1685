"""What is offered for gas, within the operator's limits."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
from chain.endpoint import Endpoint
from evm import Evm
from payment_vectors import VECTORS

from lpnode.chain.eth import Eth
from lpnode.chain.gas_price import Fees, GasPrice, GasPriceConfig, bump, effective_price
from lpnode.chain.rpc import JsonRpc, RpcConfig
from lpnode.errors import ConfigError, GasPriceTooHigh

GWEI = 10**9


@pytest.mark.parametrize("vector", VECTORS["tx_manager"]["price_bump"], ids=str)
def test_a_bump_rounds_up(vector: dict[str, Any]) -> None:
    assert bump(vector["value"], vector["percent"]) == vector["result"]


@pytest.mark.parametrize("vector", VECTORS["tx_manager"]["effective_gas_price"], ids=str)
def test_the_effective_price(vector: dict[str, Any]) -> None:
    assert effective_price(vector["fee_cap"], vector["tip"]) == vector["effective"]
    assert Fees(vector["fee_cap"], vector["tip"]).effective_wei == vector["effective"]


@pytest.fixture
async def endpoint(evm: Evm) -> AsyncIterator[Endpoint]:
    async with Endpoint(evm.url).serve() as served:
        yield served


@pytest.fixture
async def eth(endpoint: Endpoint) -> AsyncIterator[Eth]:
    async with JsonRpc(RpcConfig(urls=(endpoint.url,), first_rest_s=0.01)) as rpc:
        yield Eth(rpc)


def answers(price_wei: int, base_fee_wei: int | None, tip_wei: int | None) -> Any:
    def edit(method: str, result: Any) -> Any:
        if method == "eth_gasPrice":
            return hex(price_wei)
        if method == "eth_maxPriorityFeePerGas" and tip_wei is not None:
            return hex(tip_wei)
        if method == "eth_getBlockByNumber":
            del result["baseFeePerGas"]
            if base_fee_wei is not None:
                result["baseFeePerGas"] = hex(base_fee_wei)
        return result

    return edit


async def test_the_cap_leaves_room_for_twice_the_base_fee(endpoint: Endpoint, eth: Eth) -> None:
    endpoint.edit = answers(12 * GWEI, 10 * GWEI, 3 * GWEI)
    gas_price = GasPrice(eth, GasPriceConfig())
    assert gas_price.price_wei == 0
    assert await gas_price.fees() == Fees(23 * GWEI, 3 * GWEI)
    assert gas_price.price_wei == 12 * GWEI


async def test_a_maximum_caps_the_offer(endpoint: Endpoint, eth: Eth) -> None:
    endpoint.edit = answers(12 * GWEI, 10 * GWEI, 3 * GWEI)
    assert await GasPrice(eth, GasPriceConfig(max_wei=15 * GWEI)).fees() == Fees(
        15 * GWEI, 3 * GWEI
    )
    assert await GasPrice(eth, GasPriceConfig(max_wei=50 * GWEI)).fees() == Fees(
        20 * GWEI, 3 * GWEI
    )
    with pytest.raises(GasPriceTooHigh, match="the maximum is 11999999999 wei"):
        await GasPrice(eth, GasPriceConfig(max_wei=12 * GWEI - 1)).fees()


async def test_a_tip_never_exceeds_the_cap(endpoint: Endpoint, eth: Eth) -> None:
    endpoint.edit = answers(2, 1, 3 * GWEI)
    assert await GasPrice(eth, GasPriceConfig(max_wei=GWEI)).fees() == Fees(2, 2)


async def test_without_a_suggested_tip_the_gas_price_tells_it(endpoint: Endpoint, eth: Eth) -> None:
    endpoint.edit = answers(12 * GWEI, 10 * GWEI, None)
    endpoint.fault = {"code": -32601, "message": "the method does not exist"}
    endpoint.only_method = "eth_maxPriorityFeePerGas"
    assert await GasPrice(eth, GasPriceConfig()).fees() == Fees(22 * GWEI, 2 * GWEI)


async def test_a_chain_without_a_base_fee_gets_legacy_transactions(
    endpoint: Endpoint, eth: Eth
) -> None:
    endpoint.edit = answers(12 * GWEI, None, None)
    fees = await GasPrice(eth, GasPriceConfig()).fees()
    assert fees == Fees(12 * GWEI, None)
    assert fees.bumped(11) == Fees(13_320_000_000, None)


async def test_the_minimum_is_the_floor_of_what_is_reported(endpoint: Endpoint, eth: Eth) -> None:
    gas_price = GasPrice(eth, GasPriceConfig(min_wei=GWEI))
    endpoint.edit = answers(5, 1, 1)
    await gas_price.poll()
    assert gas_price.price_wei == GWEI


def test_limits_that_contradict_each_other_are_refused() -> None:
    with pytest.raises(ConfigError, match="-minGasPrice"):
        GasPriceConfig(min_wei=2, max_wei=1)
