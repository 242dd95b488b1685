"""One configuration opens everything a node has of the chain."""

import asyncio
import json
from dataclasses import replace
from pathlib import Path

import pytest
from chain.submissions import Submissions
from chain.won_tickets import FACE_VALUE, redemptions
from evm import ETH_USD, ETHER, Evm

from lpnode.chain.connection import ChainConfig, ChainConnection, RemoteSignerConfig
from lpnode.chain.eth_account import Account
from lpnode.chain.gas_price import GasPriceConfig
from lpnode.chain.keystore import KeystoreConfig
from lpnode.chain.rpc import RpcConfig
from lpnode.chain.state import ChainStateConfig
from lpnode.chain.transactions import TransactionsConfig
from lpnode.errors import ChainError, ConfigError
from lpnode.protocol.ethereum import ZERO_ADDRESS


def config_of(evm: Evm, account: KeystoreConfig | RemoteSignerConfig) -> ChainConfig:
    return ChainConfig(
        rpc=RpcConfig(urls=(evm.url,)),
        account=account,
        recipient=evm.accounts[1].address,
        controller=evm.controller,
        price_feed=evm.price_feed,
        gas_price=GasPriceConfig(poll_s=0.05),
        state=ChainStateConfig(poll_s=0.02),
        transactions=TransactionsConfig(poll_s=0.02),
    )


@pytest.fixture(params=["keystore", "remote signer"])
def config(request: pytest.FixtureRequest, evm: Evm, tmp_path: Path) -> ChainConfig:
    payer = evm.accounts[2]
    if request.param == "remote signer":
        return config_of(evm, RemoteSignerConfig(url=evm.url, address=payer.address))
    path = tmp_path / "key.json"
    keyfile = Account.encrypt(payer.private_key, "secret", kdf="pbkdf2", iterations=1000)
    path.write_text(json.dumps(keyfile))
    path.chmod(0o600)
    return config_of(evm, KeystoreConfig(path=path, password="secret"))


async def test_an_open_connection_redeems(evm: Evm, config: ChainConfig) -> None:
    async with redemptions(evm) as table:
        evm.fund(table.gateway.address, deposit_wei=ETHER)
        async with ChainConnection.opened(config) as connection:
            assert connection.state.is_recipient_active
            assert connection.rate is not None
            assert connection.rate.rate.price == ETH_USD
            redeemer = await connection.attach(Submissions())
            async with asyncio.TaskGroup() as tasks:
                running = tasks.create_task(connection.run())
                redeeming = await redeemer.redeem(table.ticket())
                async with asyncio.timeout(30):
                    assert await redeeming.payout_wei() == FACE_VALUE
                running.cancel()
        assert evm.pending_fees(table.recipient) == FACE_VALUE


async def test_the_recipient_is_the_account_unless_it_is_named(evm: Evm) -> None:
    account = RemoteSignerConfig(url=evm.url, address=evm.accounts[4].address)
    config = replace(config_of(evm, account), recipient=None, price_feed=None)
    async with ChainConnection.opened(config) as connection:
        assert connection.recipient == evm.accounts[4].address
        assert connection.rate is None


async def test_an_orchestrator_that_is_not_active_is_warned_of(
    evm: Evm, caplog: pytest.LogCaptureFixture
) -> None:
    account = RemoteSignerConfig(url=evm.url, address=evm.accounts[4].address)
    async with ChainConnection.opened(config_of(evm, account)):
        assert "no active orchestrator" in caplog.text


async def test_an_unknown_network_needs_its_controller(evm: Evm) -> None:
    account = RemoteSignerConfig(url=evm.url, address=evm.accounts[4].address)
    with pytest.raises(ConfigError, match="-ethController must be given for chain 31337"):
        async with ChainConnection.opened(replace(config_of(evm, account), controller=None)):
            pass


async def test_a_chain_that_is_down_is_an_error_not_off_chain_mode(evm: Evm) -> None:
    account = RemoteSignerConfig(url=evm.url, address=evm.accounts[4].address)
    nowhere = RpcConfig(urls=("http://127.0.0.1:9",), max_attempts=2, first_rest_s=0.01)
    with pytest.raises(ChainError, match="no RPC endpoint answered"):
        async with ChainConnection.opened(replace(config_of(evm, account), rpc=nowhere)):
            pass


def test_the_zero_address_is_no_recipient(evm: Evm) -> None:
    account = RemoteSignerConfig(url=evm.url, address=evm.accounts[4].address)
    with pytest.raises(ConfigError, match="-ethOrchAddr"):
        replace(config_of(evm, account), recipient=ZERO_ADDRESS)


def test_no_secret_is_shown(evm: Evm) -> None:
    account = RemoteSignerConfig(url="http://signer/SECRET", address=evm.accounts[4].address)
    config = replace(config_of(evm, account), rpc=RpcConfig(urls=("http://node/SECRET",)))
    assert "SECRET" not in repr(config)
