"""A gateway reads its own account and the L1 block from a real chain."""

import pytest
from evm import ETHER, Evm
from paying_gateway import GATEWAY, RECIPIENT

from lpnode.errors import ChainError, ConfigError
from lpnode.gateway.sender_account import SenderAccount


async def test_deposit_reserve_and_block_are_those_of_the_chain(evm: Evm) -> None:
    gateway = evm.accounts[5].address
    evm.fund(gateway, deposit_wei=2 * ETHER, reserve_wei=ETHER)
    async with SenderAccount.opened(evm.url, gateway, evm.controller) as account:
        funds = await account.funds(RECIPIENT)
        assert (funds.deposit_wei, funds.reserve_wei, funds.withdraw_round) == (2 * ETHER, ETHER, 0)
        block = await account.l1_block()
        evm.mine(3)
        assert await account.l1_block() == block + 3


async def test_a_chain_that_is_not_known_needs_its_controller(evm: Evm) -> None:
    with pytest.raises(
        ConfigError, match="--eth-controller: the Controller must be given for chain 31337"
    ):
        async with SenderAccount.opened(evm.url, GATEWAY.address):
            pass


async def test_an_endpoint_that_does_not_answer_is_said(evm: Evm) -> None:
    with pytest.raises(ChainError):
        async with SenderAccount.opened("http://127.0.0.1:1", GATEWAY.address, evm.controller):
            pass
