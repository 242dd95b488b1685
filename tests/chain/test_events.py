"""Each log is given out once, and taken back when its block is."""

from collections.abc import AsyncIterator

import pytest
from chain.endpoint import Endpoint
from evm import Evm

from lpnode.chain.eth import Eth, Log
from lpnode.chain.events import Changes, Cursor, FollowerConfig, LogFollower
from lpnode.chain.rpc import JsonRpc, RpcConfig
from lpnode.chain.service_registry import SERVICE_URI_UPDATE
from lpnode.errors import ChainError


class Follower:
    """Follows the service registry; its events have a text of our choice."""

    def __init__(self, evm: Evm, eth: Eth) -> None:
        self.evm = evm
        self.eth = eth
        self.follower = self.open()

    def open(
        self, start: Cursor | None = None, config: FollowerConfig | None = None
    ) -> LogFollower:
        return LogFollower(
            self.eth,
            [self.evm.service_registry],
            [SERVICE_URI_UPDATE.topic],
            config,
            start=start,
        )

    def emit(self, text: str) -> None:
        owner = self.evm.owner.address
        self.evm.send(owner, self.evm.service_registry, "setServiceURI(string)", text)

    async def advance(self) -> Changes:
        return await self.follower.advance()


def texts(logs: tuple[Log, ...]) -> list[str]:
    return [SERVICE_URI_UPDATE.decode(log)["serviceURI"] for log in logs]


@pytest.fixture
async def endpoint(own_evm: Evm) -> AsyncIterator[Endpoint]:
    async with Endpoint(own_evm.url).serve() as served:
        yield served


@pytest.fixture
async def chain(own_evm: Evm, endpoint: Endpoint) -> AsyncIterator[Follower]:
    async with JsonRpc(RpcConfig(urls=(endpoint.url,), first_rest_s=0.01)) as rpc:
        yield Follower(own_evm, Eth(rpc))


async def test_logs_come_once_in_order_from_the_start_on(chain: Follower) -> None:
    chain.emit("before")
    first = await chain.advance()
    assert first.added == ()
    chain.emit("one")
    chain.emit("two")
    assert texts((await chain.advance()).added) == ["one", "two"]
    again = await chain.advance()
    assert (again.added, again.removed) == ((), ())
    chain.evm.mine(3)
    chain.emit("three")
    later = await chain.advance()
    assert texts(later.added) == ["three"]
    assert later.head.number == chain.evm.block_number


async def test_other_contracts_and_events_are_left_out(chain: Follower) -> None:
    await chain.advance()
    chain.evm.fund(chain.evm.accounts[0].address, deposit_wei=5)
    assert (await chain.advance()).added == ()


async def test_logs_of_orphaned_blocks_are_taken_back_newest_first(chain: Follower) -> None:
    await chain.advance()
    chain.emit("stays")
    await chain.advance()
    chain.emit("lost 1")
    await chain.advance()
    chain.emit("lost 2")
    await chain.advance()
    chain.evm.rpc("anvil_reorg", 2, [])
    chain.emit("new")
    changes = await chain.advance()
    assert texts(changes.removed) == ["lost 2", "lost 1"]
    assert texts(changes.added) == ["new"]
    assert not changes.is_gap
    assert texts((await chain.advance()).removed) == []


async def test_a_reorganisation_of_the_same_length_is_noticed(chain: Follower) -> None:
    await chain.advance()
    chain.emit("lost")
    before = await chain.advance()
    chain.evm.rpc("anvil_reorg", 1, [])
    assert chain.evm.block_number == before.head.number
    after = await chain.advance()
    assert texts(after.removed) == ["lost"]
    assert after.head.hash != before.head.hash


async def test_a_chain_that_became_shorter_is_noticed(chain: Follower) -> None:
    await chain.advance()
    with chain.evm.undone():
        chain.evm.mine(2)
        chain.emit("lost")
        await chain.advance()
    chain.emit("new")
    # As long as it is the shorter one, this may be an endpoint that is behind.
    assert (await chain.advance()).removed == ()
    chain.evm.mine(5)
    with_new = await chain.advance()
    assert texts(with_new.removed) == ["lost"]
    assert texts(with_new.added) == ["new"]


async def test_a_reorganisation_deeper_than_is_remembered_is_a_gap(chain: Follower) -> None:
    chain.follower = chain.open(config=FollowerConfig(num_checkpoints=2))
    await chain.advance()
    for number in range(3):
        chain.emit(f"lost {number}")
        await chain.advance()
    chain.evm.rpc("anvil_reorg", 4, [])
    changes = await chain.advance()
    assert changes.is_gap
    assert texts(changes.removed) == ["lost 2"]
    chain.emit("new")
    assert texts((await chain.advance()).added) == ["new"]


async def test_an_endpoint_that_is_behind_takes_nothing_back(
    chain: Follower, endpoint: Endpoint
) -> None:
    await chain.advance()
    old_head = chain.evm.rpc("eth_getBlockByNumber", "latest", False)
    chain.emit("one")
    newest = await chain.advance()
    endpoint.edit = lambda method, result: old_head if method == "eth_getBlockByNumber" else result
    behind = await chain.advance()
    assert (behind.removed, behind.added) == ((), ())
    assert behind.head == newest.head
    endpoint.edit = lambda method, result: result
    chain.emit("two")
    assert texts((await chain.advance()).added) == ["two"]


async def test_a_follower_that_has_just_begun_waits_for_an_endpoint_that_is_behind(
    chain: Follower, endpoint: Endpoint
) -> None:
    old_head = chain.evm.rpc("eth_getBlockByNumber", "latest", False)
    chain.evm.mine(3)
    newest = await chain.advance()
    endpoint.edit = lambda method, result: old_head if method == "eth_getBlockByNumber" else result
    behind = await chain.advance()
    assert (behind.head, behind.is_gap) == (newest.head, False)
    endpoint.edit = lambda method, result: result
    chain.emit("one")
    assert texts((await chain.advance()).added) == ["one"]


async def test_blocks_that_change_while_they_are_read_are_read_again(
    chain: Follower, endpoint: Endpoint
) -> None:
    await chain.advance()
    chain.emit("lost")

    def reorganise(method: str, result: object) -> object:
        if method == "eth_getLogs":
            endpoint.edit = lambda method, result: result
            chain.evm.rpc("anvil_reorg", 1, [])
        return result

    endpoint.edit = reorganise
    with pytest.raises(ChainError, match="changed while"):
        await chain.advance()
    chain.emit("kept")
    changes = await chain.advance()
    assert (texts(changes.removed), texts(changes.added)) == ([], ["kept"])


async def test_a_failure_half_way_loses_and_repeats_nothing(
    chain: Follower, endpoint: Endpoint
) -> None:
    await chain.advance()
    chain.emit("one")
    endpoint.only_method, endpoint.fault = "eth_getLogs", 500
    with pytest.raises(ChainError):
        await chain.advance()
    endpoint.fault = None
    assert texts((await chain.advance()).added) == ["one"]


async def test_a_range_an_endpoint_finds_too_long_is_halved(
    chain: Follower, endpoint: Endpoint
) -> None:
    chain.follower = chain.open(config=FollowerConfig(chunk_blocks=64))
    await chain.advance()
    chain.emit("first")
    chain.evm.mine(100)
    chain.emit("last")
    endpoint.most_blocks = 10
    assert texts((await chain.advance()).added) == ["first", "last"]


async def test_a_follower_goes_on_where_another_one_stopped(chain: Follower) -> None:
    await chain.advance()
    cursor = chain.follower.cursor
    chain.emit("while it was down")
    chain.follower = chain.open(start=cursor)
    assert texts((await chain.advance()).added) == ["while it was down"]
