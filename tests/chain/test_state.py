"""The state that payments see is the chain's, or is known to be in doubt."""

from collections.abc import AsyncIterator

import pytest
from chain.endpoint import Endpoint
from evm import ETHER, FIRST_ROUND, ROUND_BLOCKS, Evm

from lpnode.chain.controller import resolve
from lpnode.chain.eth import Eth
from lpnode.chain.events import Changes
from lpnode.chain.gas_price import GasPrice, GasPriceConfig
from lpnode.chain.rounds import NEW_ROUND
from lpnode.chain.rpc import JsonRpc, RpcConfig
from lpnode.chain.state import ChainState, ChainStateConfig, changed_senders
from lpnode.chain.ticket_broker import DEPOSIT_FUNDED, RESERVE_FUNDED
from lpnode.errors import ChainError
from lpnode.payment.chain_view import ChainView, SenderReader

NO_HASH = bytes(32)


class Watched:
    """A chain, the endpoint it is seen through, and the state."""

    def __init__(self, evm: Evm, endpoint: Endpoint, eth: Eth) -> None:
        self.evm = evm
        self.endpoint = endpoint
        self.eth = eth
        self.now_s = 0.0
        self.recipient = evm.accounts[1].address
        self.changes: list[Changes] = []

    async def start(self) -> ChainState:
        state = ChainState(
            self.eth,
            await resolve(self.eth, self.evm.controller),
            self.recipient,
            GasPrice(self.eth, GasPriceConfig()),
            ChainStateConfig(),
            clock=lambda: self.now_s,
        )
        await state.start()
        state.subscribe(self.changes.append)
        return state


async def watch(evm: Evm) -> AsyncIterator[Watched]:
    async with Endpoint(evm.url).serve() as endpoint:
        config = RpcConfig(urls=(endpoint.url,), first_rest_s=0.01, max_rest_s=0.02)
        async with JsonRpc(config) as rpc:
            yield Watched(evm, endpoint, Eth(rpc))


@pytest.fixture
async def watched(evm: Evm) -> AsyncIterator[Watched]:
    async for found in watch(evm):
        yield found


@pytest.fixture
async def watched_alone(own_evm: Evm) -> AsyncIterator[Watched]:
    async for found in watch(own_evm):
        yield found


async def test_the_state_is_what_payments_ask_for(watched: Watched) -> None:
    state = await watched.start()
    view: ChainView = state
    reader: SenderReader = state
    assert view.last_l1_block == watched.evm.block_number
    assert view.last_initialized_round == FIRST_ROUND
    assert view.gas_price_wei > 0
    assert view.pool_size == 0
    assert not view.is_recipient_active
    assert view.round_block_hash(FIRST_ROUND) != NO_HASH
    assert (await reader.sender_funds(watched.evm.accounts[0].address)).deposit_wei == 0


async def test_a_new_round_brings_its_hash_and_the_pools_size(watched: Watched) -> None:
    state = await watched.start()
    first_hash = state.round_block_hash(FIRST_ROUND)
    watched.evm.activate(watched.recipient)
    watched.evm.next_round()
    await state.poll()
    assert state.last_initialized_round == FIRST_ROUND + 1
    assert state.round_block_hash(FIRST_ROUND + 1) not in (NO_HASH, first_hash)
    assert state.round_block_hash(FIRST_ROUND) == first_hash
    assert state.round_block_hash(FIRST_ROUND - 1) == NO_HASH
    assert state.pool_size == 1
    assert state.is_recipient_active


async def test_a_recipient_stays_active_until_the_round_of_its_end(watched: Watched) -> None:
    evm = watched.evm
    evm.activate(watched.recipient)
    evm.next_round()
    state = await watched.start()
    assert state.is_recipient_active
    evm.send(evm.owner.address, evm.bonding_manager, "deactivate(address)", watched.recipient)
    await state.poll()
    assert state.is_recipient_active
    evm.next_round()
    await state.poll()
    assert not state.is_recipient_active


async def test_on_an_l2_the_l1_number_counts_and_never_decreases(watched: Watched) -> None:
    started_at = watched.evm.block_number
    l1_number = started_at

    def on_l2(method: str, result: object) -> object:
        if method == "eth_getBlockByNumber" and isinstance(result, dict):
            return result | {"l1BlockNumber": hex(l1_number)}
        return result

    watched.endpoint.edit = on_l2
    watched.evm.mine(30)
    state = await watched.start()
    assert state.last_l1_block == started_at
    watched.evm.mine()
    l1_number -= 3
    await state.poll()
    assert state.last_l1_block == started_at
    l1_number += 5
    watched.evm.mine()
    await state.poll()
    assert state.last_l1_block == started_at + 2


async def test_an_l1_number_that_the_contracts_contradict_is_not_believed(
    watched: Watched,
) -> None:
    """An endpoint of an L2 that leaves ``l1BlockNumber`` out seems to be 300 million blocks on."""
    started_at = l1_number = watched.evm.block_number

    def on_l2(method: str, result: object) -> object:
        if method == "eth_getBlockByNumber" and isinstance(result, dict):
            return result | {"l1BlockNumber": hex(l1_number)}
        return result

    watched.endpoint.edit = on_l2
    state = await watched.start()
    for l1_number in (300_000_000, started_at + 3 * ROUND_BLOCKS):
        watched.evm.mine()
        with pytest.raises(ChainError, match=f"L1 is at block {l1_number}, but round 11 began"):
            await state.poll()
        assert state.last_l1_block == started_at
        assert state.current_round == FIRST_ROUND
    # What is far on but true, as after an outage, is believed.
    watched.evm.mine(ROUND_BLOCKS)
    l1_number = watched.evm.block_number
    await state.poll()
    assert state.last_l1_block == l1_number
    assert state.current_round == FIRST_ROUND + 1


async def test_a_round_without_a_hash_has_none(watched: Watched) -> None:
    evm = watched.evm
    evm.send(
        evm.owner.address,
        evm.rounds_manager,
        "setBlockHashForRound(uint256,bytes32)",
        FIRST_ROUND,
        NO_HASH,
    )
    state = await watched.start()
    assert state.is_current
    assert state.round_block_hash(FIRST_ROUND) == NO_HASH


async def test_the_hash_of_a_young_round_is_looked_at_again(watched: Watched) -> None:
    state = await watched.start()
    watched.evm.next_round()
    await state.poll()
    evm = watched.evm
    evm.send(
        evm.owner.address,
        evm.rounds_manager,
        "setBlockHashForRound(uint256,bytes32)",
        FIRST_ROUND + 1,
        b"\x07" * 32,
    )
    await state.poll()
    assert state.round_block_hash(FIRST_ROUND + 1) == b"\x07" * 32


async def test_a_round_that_was_reorganised_away_gives_no_hash_until_it_is_read_again(
    watched_alone: Watched,
) -> None:
    watched = watched_alone
    state = await watched.start()
    watched.evm.mine(ROUND_BLOCKS)
    watched.evm.initialize_round()
    await state.poll()
    before = state.round_block_hash(FIRST_ROUND + 1)
    watched.evm.rpc("anvil_reorg", 3, [])
    watched.endpoint.only_method, watched.endpoint.fault = "eth_call", 500
    with pytest.raises(ChainError):
        await state.poll()
    assert state.round_block_hash(FIRST_ROUND) == NO_HASH
    watched.endpoint.fault = None
    await state.poll()
    assert state.last_initialized_round == FIRST_ROUND
    assert state.round_block_hash(FIRST_ROUND) != NO_HASH
    watched.evm.mine()
    watched.evm.initialize_round()
    await state.poll()
    assert state.round_block_hash(FIRST_ROUND + 1) not in (NO_HASH, before)


async def test_a_chain_that_cannot_be_read_for_long_is_not_quoted_from(watched: Watched) -> None:
    state = await watched.start()
    watched.endpoint.fault = "drop"
    with pytest.raises(ChainError):
        await state.poll()
    watched.now_s = 300.0
    assert state.round_block_hash(FIRST_ROUND) != NO_HASH
    watched.now_s = 301.0
    assert state.round_block_hash(FIRST_ROUND) == NO_HASH
    assert state.last_initialized_round == FIRST_ROUND
    watched.endpoint.fault = None
    await state.poll()
    assert state.round_block_hash(FIRST_ROUND) != NO_HASH


async def test_a_senders_funds_are_those_of_the_block_its_events_were_read_to(
    watched: Watched,
) -> None:
    state = await watched.start()
    sender = watched.evm.accounts[0].address
    watched.evm.fund(sender, deposit_wei=ETHER, reserve_wei=ETHER)
    assert (await state.sender_funds(sender)).deposit_wei == 0
    await state.poll()
    assert changed_senders(watched.changes[-1]) == frozenset([sender])
    assert (await state.sender_funds(sender)).deposit_wei == ETHER
    await state.poll()
    assert changed_senders(watched.changes[-1]) == frozenset()


async def test_the_current_round_moves_on_before_it_is_initialised(watched: Watched) -> None:
    evm = watched.evm
    state = await watched.start()
    into = evm.block_number % ROUND_BLOCKS
    assert (state.current_round, state.is_round_initialized) == (FIRST_ROUND, True)
    assert state.num_round_blocks_left == ROUND_BLOCKS - into
    evm.mine(ROUND_BLOCKS - into - 1)
    await state.poll()
    assert (state.current_round, state.num_round_blocks_left) == (FIRST_ROUND, 1)
    evm.mine()
    await state.poll()
    assert (state.current_round, state.is_round_initialized) == (FIRST_ROUND + 1, False)
    assert state.num_round_blocks_left == ROUND_BLOCKS
    evm.initialize_round()
    await state.poll()
    assert state.is_round_initialized
    assert state.last_initialized_round == FIRST_ROUND + 1
    assert state.num_round_blocks_left == ROUND_BLOCKS - 1
    assert state.ticket_validity_rounds == 2


async def test_what_happened_while_the_contracts_could_not_be_read_is_told_later(
    watched: Watched,
) -> None:
    state = await watched.start()
    sender = watched.evm.accounts[0].address
    watched.evm.fund(sender, deposit_wei=ETHER)
    watched.evm.next_round()
    watched.endpoint.only_method, watched.endpoint.fault = "eth_call", 500
    with pytest.raises(ChainError):
        await state.poll()
    assert watched.changes == []
    watched.endpoint.fault = None
    await state.poll()
    added = [log for changes in watched.changes for log in changes.added]
    assert [log.topics[0] for log in added] == [
        DEPOSIT_FUNDED.topic,
        RESERVE_FUNDED.topic,
        NEW_ROUND.topic,
    ]


async def test_a_new_round_changes_the_funds_of_every_sender(watched: Watched) -> None:
    state = await watched.start()
    watched.evm.next_round()
    await state.poll()
    assert changed_senders(watched.changes[-1]) is None
