"""A node of its own process that is paid on a real chain, as its gateways and operator see it."""

import asyncio
import json
import sys
from fractions import Fraction
from pathlib import Path

import aiohttp
import pytest
from end_to_end.paid_node import MODEL, PRICE_WEI, gateway_of, paid_node
from evm import ETH_USD, ETHER, Evm

from lpnode.errors import DiscoveryRefused
from lpnode.gateway.discover import (
    CALL_S,
    Discovered,
    call,
    demand_for,
    discovery_request,
    get_orchestrator,
)
from lpnode.protocol import lp_rpc_pb2 as pb
from lpnode.protocol.capability import LIVE_VIDEO_TO_VIDEO
from lpnode.protocol.ethereum import (
    ZERO_ADDRESS,
    Account,
    Address,
    checksum_text,
    is_message_signed_by,
)

OVERHEAD = Fraction(101, 100)


async def discovered(uri: str, account: Account, *, timeout_s: float = CALL_S) -> Discovered:
    request = discovery_request(
        demand_for(LIVE_VIDEO_TO_VIDEO, MODEL),
        sender=account.address,
        signature=account.sign(checksum_text(account.address).encode()),
    )
    return await get_orchestrator(uri, request, timeout_s=timeout_s)


async def test_a_node_on_a_chain_quotes_its_price_with_parameters_that_can_be_redeemed(
    evm: Evm, tmp_path: Path
) -> None:
    gateway = Account(gateway_of(evm).private_key)
    async with paid_node(evm, tmp_path) as node:
        info = (await discovered(node.service_uri, gateway)).info
        price = Fraction(info.price_info.pricePerUnit, info.price_info.pixelsPerUnit)
        assert price == PRICE_WEI * OVERHEAD
        params = info.ticket_params
        assert params.recipient == info.address == evm.accounts[1].address
        assert params.expiration_params.creation_round == evm.last_initialized_round
        assert int.from_bytes(params.expiration_block) > evm.block_number
        with pytest.raises(DiscoveryRefused, match="insufficient sender reserve"):
            await discovered(node.service_uri, Account(evm.accounts[3].private_key))
        with pytest.raises(DiscoveryRefused, match="orchestrator req sig check failed"):
            await get_orchestrator(node.service_uri, discovery_request(sender=ZERO_ADDRESS))


async def test_the_key_may_be_elsewhere_and_tickets_pay_another_account(
    evm: Evm, tmp_path: Path
) -> None:
    """The node checks its own signed ping at the start, so the remote signer has signed."""
    gateway = Account(gateway_of(evm).private_key)
    account, orchestrator = evm.accounts[4].address, evm.accounts[1].address
    words = (
        *("-ethSigner", evm.url, "-ethAcctAddr", checksum_text(account)),
        *("-ethOrchAddr", checksum_text(orchestrator)),
    )
    async with paid_node(evm, tmp_path, *words) as node:
        info = (await discovered(node.service_uri, gateway)).info
        assert info.address == account
        assert info.ticket_params.recipient == orchestrator
        ping = pb.PingPong(value=b"\7" * 32)
        pong = await call(node.service_uri, "Ping", ping, reply_type=pb.PingPong, timeout_s=5)
        assert is_message_signed_by(Address(account), ping.value, pong.value)


async def test_a_probe_shows_what_a_models_tickets_are_like(evm: Evm, tmp_path: Path) -> None:
    key = tmp_path / "gateway.key"
    key.touch(mode=0o600)
    key.write_text(gateway_of(evm).private_key.hex())
    async with paid_node(evm, tmp_path) as node:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-P", "-m", "lpnode", "probe", node.service_uri),
            *("--key", str(key), "--model", MODEL),
            stdout=asyncio.subprocess.PIPE,
        )
        out, _ = await process.communicate()
    shown = out.decode()
    assert process.returncode == 0, shown
    assert f"Tickets for {MODEL}" in shown
    assert "1212 wei per unit" in shown
    assert "face value" in shown


async def test_a_price_in_dollars_is_quoted_at_the_rate_of_the_oracle(
    evm: Evm, tmp_path: Path
) -> None:
    gateway = Account(gateway_of(evm).private_key)
    models = tmp_path / "dollars.json"
    entry = {"pipeline": "live-video-to-video", "model_id": MODEL, "warm": True}
    price = {"price_per_unit": 9, "pixels_per_unit": 10**12, "currency": "USD"}
    models.write_text(json.dumps([entry | price]))
    feed = ("-priceFeedAddr", checksum_text(evm.price_feed))
    async with paid_node(evm, tmp_path, *feed, "-aiModels", str(models)) as node:
        info = (await discovered(node.service_uri, gateway)).info
        wei = Fraction(info.price_info.pricePerUnit, info.price_info.pixelsPerUnit)
        assert wei == Fraction(9, 10**12) / ETH_USD * ETHER * OVERHEAD
        async with aiohttp.ClientSession() as http:
            change = {"pricePerUnit": "6USD", "pixelsPerUnit": "1e12"}
            url = f"{node.operator_uri}/setPriceForBroadcaster"
            async with http.post(url, data=change | {"broadcasterEthAddr": "default"}) as answer:
                assert answer.status == 200
            async with http.get(f"{node.operator_uri}/status") as answer:
                assert (await answer.json())["BroadcasterPrices"] == {"default": "2000"}


async def test_the_operators_port_tells_of_the_account_and_the_chain(
    evm: Evm, tmp_path: Path
) -> None:
    # A node that claims rewards pays for it from the account.
    async with paid_node(evm, tmp_path, "-reward=false") as node, aiohttp.ClientSession() as http:

        async def ask(path: str) -> str:
            async with http.get(f"{node.operator_uri}{path}") as answer:
                assert answer.status == 200
                return await answer.text()

        account = evm.accounts[1].address
        assert await ask("/EthChainID") == str(evm.chain_id)
        assert await ask("/ethAddr") == checksum_text(account)
        assert await ask("/ethBalance") == str(evm.balance(account))
        assert await ask("/currentRound") == str(evm.last_initialized_round)
        assert await ask("/roundInitialized") == "true"
        assert await ask("/maxGasPrice") == "0"
        broker = json.loads(await ask("/contractAddresses"))["TicketBroker"]
        assert broker == checksum_text(evm.ticket_broker)
        async with http.get(f"{node.operator_uri}/delegatorInfo") as answer:
            assert answer.status == 501


async def test_the_operator_changes_a_base_price_of_a_running_node(
    evm: Evm, tmp_path: Path
) -> None:
    async with paid_node(evm, tmp_path) as node, aiohttp.ClientSession() as http:
        change = {"pricePerUnit": "7", "pixelsPerUnit": "2", "broadcasterEthAddr": "default"}
        url = f"{node.operator_uri}/setPriceForBroadcaster"
        async with http.post(url, data=change) as answer:
            assert answer.status == 200
        async with http.get(f"{node.operator_uri}/status") as answer:
            assert (await answer.json())["BroadcasterPrices"] == {"default": "7/2"}
        async with http.post(url, data=change | {"currency": "USD"}) as answer:
            assert answer.status == 400
            assert "PriceFeedWatcher is not initialized" in await answer.text()
