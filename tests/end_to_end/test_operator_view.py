"""What an operator sees of a node that is paid: the port, and the commands beside it."""

import asyncio
import json
from pathlib import Path

import aiohttp
import pytest
from eth_account import Account
from evm import Evm

from lpnode.cli import main
from lpnode.command.node_process import NodeProcess
from lpnode.protocol.ethereum import checksum_text

PASSWORD = "of the test"


def settings(evm: Evm, folder: Path) -> list[str]:
    """Of a node that is paid on the local chain, with a key of its own in ``folder``."""
    account = evm.accounts[2]
    keystore = folder / "keystore"
    keystore.mkdir()
    # Cheap to open, as the key is worth nothing.
    encrypted = Account.encrypt(account.private_key, PASSWORD, kdf="pbkdf2", iterations=1)
    (keystore / "key.json").write_text(json.dumps(encrypted))
    return [
        *("-network", "local", "-ethUrl", evm.url),
        *("-ethController", checksum_text(evm.controller)),
        *("-ethKeystorePath", str(keystore), "-ethPassword", PASSWORD),
        *("-ethOrchAddr", checksum_text(evm.accounts[1].address)),
        *("-pricePerUnit", "1200", "-maxGasPrice", "3000000000"),
    ]


async def test_a_paid_node_shows_its_payments_and_the_commands_find_it(
    evm: Evm, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    evm.activate(evm.accounts[1].address)
    evm.next_round()
    data, log = tmp_path / "data", tmp_path / "node.log"
    place = ("-dataDir", str(data))
    async with NodeProcess(data, log, settings(evm, tmp_path)) as node:
        async with aiohttp.ClientSession(node.operator_uri) as http:
            async with http.get("/status") as response:
                payments = (await response.json())["Payments"]
            async with http.get("/metrics") as response:
                metrics = await response.text()
        operator = node.operator_uri.removeprefix("http://")
        assert main(["earnings", "--json", *place]) == 0
        earned = json.loads(capsys.readouterr().out)
        retry = ["tickets", "retry", "--all", "-cliAddr", operator, *place]
        assert await asyncio.to_thread(main, retry) == 0
        assert capsys.readouterr().out == "every ticket is paid\n"
    assert (payments["credited_wei"], payments["pending_wei"]) == ("0", "0")
    assert int(payments["gas_price_wei"]) > 0
    assert "livepeer_suggested_gas_price{" in metrics
    assert 'lpnode_winning_tickets{state="stored"} 0.0' in metrics
    assert earned["store"]["recipient"] == checksum_text(evm.accounts[1].address)
    assert earned["total"]["num_payments"] == 0
    assert await asyncio.to_thread(main, retry) == 0
    assert capsys.readouterr().out == "every ticket is paid\n"
