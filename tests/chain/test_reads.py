"""What the node reads from the contracts is what is there, at the block it names."""

from fractions import Fraction

import pytest
from evm import ETH_USD, ETHER, FIRST_ROUND, ROUND_BLOCKS, Evm

from lpnode.chain.bonding import BondingManager
from lpnode.chain.controller import Controller, resolve
from lpnode.chain.eth import Eth
from lpnode.chain.price_feed import PriceFeed
from lpnode.chain.rounds import RoundsManager
from lpnode.chain.service_registry import SET_SERVICE_URI, ServiceRegistry
from lpnode.chain.ticket_broker import SenderFunds, TicketBroker
from lpnode.errors import ChainError
from lpnode.protocol.ethereum import Address


async def test_the_controller_leads_to_every_contract(eth: Eth, evm: Evm) -> None:
    found = await resolve(eth, evm.controller)
    assert found.ticket_broker == evm.ticket_broker
    assert found.rounds_manager == evm.rounds_manager
    assert found.bonding_manager == evm.bonding_manager
    assert found.service_registry == evm.service_registry
    assert found.minter == evm.contracts["Minter"]
    own = Address(bytes(19) + b"\x01")
    assert (await resolve(eth, evm.controller, own)).service_registry == own


async def test_a_wrong_controller_is_an_error_that_says_what_to_set(eth: Eth, evm: Evm) -> None:
    with pytest.raises(ChainError, match="no such contract"):
        await resolve(eth, evm.accounts[0].address)
    with pytest.raises(ChainError, match=r"knows no Nothing.*-ethController"):
        await Controller(eth, evm.controller).contract("Nothing")


async def test_a_senders_funds_are_read_at_one_block(eth: Eth, evm: Evm) -> None:
    broker = TicketBroker(eth, evm.ticket_broker)
    sender, recipient = evm.accounts[0].address, evm.accounts[1].address
    evm.activate(recipient)
    evm.activate(evm.accounts[2].address)
    evm.next_round()
    evm.fund(sender, deposit_wei=3 * ETHER, reserve_wei=ETHER)
    before = await eth.head()
    evm.send(sender, evm.ticket_broker, "unlock()")
    funded = SenderFunds(
        deposit_wei=3 * ETHER,
        withdraw_round=0,
        reserve_wei=ETHER,
        reserve_claimed_wei=0,
        claimed_by_us_wei=0,
    )
    assert await broker.sender_funds(sender, recipient, before.hash) == funded
    assert await broker.sender_funds(sender, recipient, before.number) == funded
    unlocking = await broker.sender_funds(sender, recipient)
    assert unlocking.withdraw_round == FIRST_ROUND + 1 + await broker.unlock_period()
    assert await broker.claimable_reserve(sender, recipient) == ETHER // 2
    assert await broker.ticket_validity_period() == 2
    assert not await broker.is_used(bytes(32))


async def test_a_block_that_is_gone_is_an_error_not_another_blocks_state(
    eth: Eth, evm: Evm
) -> None:
    broker = TicketBroker(eth, evm.ticket_broker)
    with pytest.raises(ChainError):
        await broker.sender_funds(evm.accounts[0].address, evm.accounts[1].address, b"\x07" * 32)


async def test_rounds(eth: Eth, evm: Evm) -> None:
    rounds = RoundsManager(eth, evm.rounds_manager)
    first = await rounds.state((await eth.head()).hash)
    assert first.number == first.current_number == FIRST_ROUND
    assert first.previous_block_hash == bytes(32)
    assert first.block_hash != bytes(32)
    assert first.length_l1_blocks == ROUND_BLOCKS
    assert first.start_l1_block == FIRST_ROUND * ROUND_BLOCKS
    assert await rounds.is_initialized()
    evm.mine(ROUND_BLOCKS - 5)
    assert await rounds.is_locked()
    evm.mine(5)
    late = await rounds.state((await eth.head()).hash)
    assert (late.number, late.current_number) == (FIRST_ROUND, FIRST_ROUND + 1)
    assert not await rounds.is_initialized()
    evm.initialize_round()
    second = await rounds.state((await eth.head()).hash)
    assert second.number == FIRST_ROUND + 1
    assert second.previous_block_hash == first.block_hash


async def test_orchestrators(eth: Eth, evm: Evm) -> None:
    bonding = BondingManager(eth, evm.bonding_manager)
    recipient = evm.accounts[1].address
    assert not await bonding.is_registered(recipient)
    evm.activate(recipient, stake=5)
    assert await bonding.is_registered(recipient)
    assert not await bonding.is_active(recipient)
    record = await bonding.transcoder(recipient)
    assert record.activation_round == FIRST_ROUND + 1
    assert not record.is_active(FIRST_ROUND)
    evm.next_round()
    assert await bonding.is_active(recipient)
    assert record.is_active(FIRST_ROUND + 1)
    assert await bonding.pool_size() == 1
    assert await bonding.total_stake(recipient) == 5
    assert await bonding.pending_fees(recipient) == 0


async def test_a_service_uri(eth: Eth, evm: Evm) -> None:
    registry = ServiceRegistry(eth, evm.service_registry)
    owner = evm.accounts[1].address
    assert await registry.service_uri(owner) == ""
    evm.send(owner, evm.service_registry, SET_SERVICE_URI.signature, "https://orch.example:8935")
    assert await registry.service_uri(owner) == "https://orch.example:8935"


async def test_a_price_feed(eth: Eth, evm: Evm) -> None:
    feed = PriceFeed(eth, evm.price_feed)
    rate = await feed.rate()
    assert (rate.base, rate.quote, rate.price) == ("ETH", "USD", Fraction(ETH_USD))
    owner = evm.owner.address
    evm.send(owner, evm.price_feed, "setAnswer(int256)", 2_512_34567890)
    assert (await feed.rate()).price == Fraction("2512.34567890")
    evm.send(owner, evm.price_feed, "setAnswer(int256)", 0)
    with pytest.raises(ChainError, match="positive, got 0"):
        await feed.rate()
