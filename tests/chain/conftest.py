"""What chain tests share: requests to the test chain."""

from collections.abc import AsyncIterator

import pytest
from evm import CHAIN_ID, Evm

from lpnode.chain.eth import Eth
from lpnode.chain.rpc import JsonRpc, RpcConfig


@pytest.fixture
async def rpc(evm: Evm) -> AsyncIterator[JsonRpc]:
    async with JsonRpc(RpcConfig(urls=(evm.url,), chain_id=CHAIN_ID)) as opened:
        yield opened


@pytest.fixture
def eth(rpc: JsonRpc) -> Eth:
    return Eth(rpc)
