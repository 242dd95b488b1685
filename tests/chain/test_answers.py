"""Whatever an endpoint answers, it is a value of the right kind or a ``ChainError``."""

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from chain.endpoint import Endpoint
from evm import Evm
from hypothesis import given
from hypothesis import strategies as st

from lpnode.chain.eth import Eth
from lpnode.chain.hex_values import data, quantity, to_data, to_quantity
from lpnode.chain.revert import revert_reason
from lpnode.chain.rpc import JsonRpc, RpcConfig
from lpnode.errors import ChainError
from lpnode.protocol.ethereum import ZERO_ADDRESS

HASH = bytes(32)
ASKED: dict[str, Callable[[Eth], Awaitable[object]]] = {
    "header": lambda eth: eth.head(),
    "header by hash": lambda eth: eth.header(HASH),
    "call": lambda eth: eth.call(ZERO_ADDRESS, b""),
    "logs": lambda eth: eth.logs([ZERO_ADDRESS], [HASH], 0, 1),
    "gas price": lambda eth: eth.gas_price(),
    "priority fee": lambda eth: eth.priority_fee(),
    "estimate": lambda eth: eth.estimate_gas(ZERO_ADDRESS, ZERO_ADDRESS, b""),
    "receipt": lambda eth: eth.receipt(HASH),
    "count": lambda eth: eth.transaction_count(ZERO_ADDRESS),
    "balance": lambda eth: eth.balance(ZERO_ADDRESS),
}
NONSENSE: list[Any] = [
    5,
    "text",
    "0x",
    "0xg",
    "0x-1",
    "0x1_0",
    "0x" + "f" * 65,
    [[]],
    [{"topics": 5}],
    {"number": "0x1", "hash": "0x00"},
    {"status": "0x1", "logs": [{}]},
]


@pytest.fixture
async def endpoint(evm: Evm) -> AsyncIterator[Endpoint]:
    async with Endpoint(evm.url).serve() as served:
        yield served


@pytest.mark.parametrize("asked", ASKED)
async def test_nonsense_is_an_error_of_the_chain(endpoint: Endpoint, asked: str) -> None:
    async with JsonRpc(RpcConfig(urls=(endpoint.url,), is_chain_checked=False)) as rpc:
        for nonsense in NONSENSE:
            endpoint.edit = lambda method, result, answer=nonsense: answer
            if asked == "call" and nonsense == "0x":
                continue  # what a call to no contract returns
            with pytest.raises(ChainError):
                await ASKED[asked](Eth(rpc))


async def test_a_log_that_was_not_asked_for_is_refused(endpoint: Endpoint, evm: Evm) -> None:
    log = {
        "address": to_data(evm.rounds_manager),
        "topics": [to_data(HASH)],
        "data": "0x",
        "blockNumber": "0x1",
        "blockHash": to_data(HASH),
        "transactionHash": to_data(HASH),
        "logIndex": "0x0",
    }
    async with JsonRpc(RpcConfig(urls=(endpoint.url,))) as rpc:
        endpoint.edit = lambda method, result: [log] if method == "eth_getLogs" else result
        assert await Eth(rpc).logs([evm.rounds_manager], [HASH], 0, 1)
        for address, topic in ((evm.ticket_broker, HASH), (evm.rounds_manager, b"\x01" * 32)):
            with pytest.raises(ChainError, match="not asked for"):
                await Eth(rpc).logs([address], [topic], 0, 1)


@given(st.integers(min_value=0, max_value=2**256 - 1), st.binary(max_size=100))
def test_numbers_and_bytes_come_back_as_they_were(number: int, raw: bytes) -> None:
    assert quantity(to_quantity(number), "a number") == number
    assert data(to_data(raw), "bytes", len(raw)) == raw


@pytest.mark.parametrize(
    ("details", "message", "reason"),
    [
        ("0x08c379a0" + "20".rjust(64, "0") + "03".rjust(64, "0") + b"why".hex(), "", "why"),
        ({"data": "0x4e487b71" + "11".rjust(64, "0")}, "", "panic 0x11"),
        (None, "execution reverted: not yet", "not yet"),
        (None, "VM Exception: Execution reverted", ""),
        ("0x1234", "execution reverted", ""),
        (None, "nonce too low", None),
        ("0x", "out of gas", None),
    ],
)
def test_reasons_of_reverts(details: object, message: str, reason: str | None) -> None:
    assert revert_reason(details, message) == reason


@given(st.binary(max_size=200), st.text(max_size=50))
def test_any_details_give_a_reason_or_none(details: bytes, message: str) -> None:
    for raw in (details, bytes.fromhex("08c379a0") + details, bytes.fromhex("4e487b71") + details):
        reason = revert_reason(to_data(raw), message)
        assert reason is None or isinstance(reason, str)
