"""Rounds begin and rewards are claimed, once each."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from chain.won_tickets import Redemptions, redemptions
from evm import ROUND_BLOCKS, Evm
from node_bench import until

from lpnode.chain.bonding import BondingManager
from lpnode.chain.controller import resolve
from lpnode.chain.gas_price import GasPrice, GasPriceConfig
from lpnode.chain.housekeeping import Housekeeping, HousekeepingConfig
from lpnode.chain.signer import LocalSigner
from lpnode.chain.state import ChainState, ChainStateConfig
from lpnode.chain.transactions import Transactions, TransactionsConfig
from lpnode.errors import ConfigError
from lpnode.protocol.ethereum import Address


class House:
    """An orchestrator that uses its own account."""

    def __init__(self, table: Redemptions) -> None:
        self.evm = table.evm
        self.eth = table.eth
        self.recipient = table.recipient
        self.store = table.store
        gas_price = GasPrice(table.eth, GasPriceConfig())
        self.transactions = Transactions(
            table.eth,
            LocalSigner(self.evm.accounts[1].private_key),
            gas_price,
            table.store,
            TransactionsConfig(),
            chain_id=self.evm.chain_id,
        )
        self.gas_price = gas_price
        self.bonding = BondingManager(self.eth, self.evm.bonding_manager)
        self.delays_s: list[float] = []

    async def open(self, config: HousekeepingConfig) -> Housekeeping:
        self.state = ChainState(
            self.eth,
            await resolve(self.eth, self.evm.controller),
            self.recipient,
            self.gas_price,
            ChainStateConfig(),
        )
        await self.state.start()
        return Housekeeping(
            self.state,
            self.transactions,
            config,
            rounds_manager=self.evm.rounds_manager,
            bonding_manager=self.evm.bonding_manager,
            sleep=self._sleep,
        )

    async def _sleep(self, duration_s: float) -> None:
        self.delays_s.append(duration_s)
        await asyncio.sleep(0)

    async def step(self, housekeeping: Housekeeping) -> int:
        """Lets it do what is due; returns how many transactions it sent."""
        before = await self._num_sent()
        async with asyncio.TaskGroup() as tasks:
            working = tasks.create_task(housekeeping.step())
            while not working.done():
                await self.transactions.poll()
                await asyncio.sleep(0.005)
        await self.state.poll()
        return await self._num_sent() - before

    async def _num_sent(self) -> int:
        return await self.eth.transaction_count(Address(self.transactions.address))


@pytest.fixture
async def house(evm: Evm) -> AsyncIterator[House]:
    async with redemptions(evm) as table:
        yield House(table)


async def test_the_reward_of_a_round_is_claimed_once(house: House) -> None:
    housekeeping = await house.open(HousekeepingConfig(is_rewarding=True))
    assert await house.step(housekeeping) == 1
    record = await house.bonding.transcoder(house.recipient)
    assert record.last_reward_round == house.state.last_initialized_round
    assert await house.step(housekeeping) == 0
    after_restart = await house.open(HousekeepingConfig(is_rewarding=True))
    assert await house.step(after_restart) == 0
    house.evm.next_round()
    await house.state.poll()
    assert await house.step(after_restart) == 1


async def test_a_round_is_begun_after_a_random_delay(house: House) -> None:
    config = HousekeepingConfig(is_initializing_rounds=True, max_delay_s=30)
    housekeeping = await house.open(config)
    assert await house.step(housekeeping) == 0
    house.evm.mine(ROUND_BLOCKS)
    await house.state.poll()
    assert await house.step(housekeeping) == 1
    assert house.state.is_round_initialized
    (delay_s,) = house.delays_s
    assert 0 <= delay_s <= 30


async def test_nothing_is_sent_unless_it_was_asked_for(house: House) -> None:
    housekeeping = await house.open(HousekeepingConfig())
    assert await house.step(housekeeping) == 0
    house.evm.mine(ROUND_BLOCKS)
    await house.state.poll()
    assert await house.step(housekeeping) == 0


async def test_a_full_disk_puts_upkeep_off_and_ends_nothing(house: House) -> None:
    """Its task is one of the node's, which all end when one fails."""
    housekeeping = await house.open(HousekeepingConfig(is_rewarding=True))
    house.store.is_failing = True
    running = asyncio.create_task(housekeeping.run())
    try:
        await until(lambda: len(house.delays_s) > 1 or running.done())
        assert not running.done()
    finally:
        running.cancel()
        await asyncio.wait([running])
    house.store.is_failing = False
    assert await house.step(housekeeping) == 1


def test_a_negative_delay_is_refused() -> None:
    with pytest.raises(ConfigError, match="-initializeRoundMaxDelay"):
        HousekeepingConfig(max_delay_s=-1)
