"""What an operator sees of a node that is paid: the port, and the commands beside it."""

import asyncio
import json
from pathlib import Path

import aiohttp
import pytest
from end_to_end.paid_node import MODEL, gateway_of, paid_node
from evm import Evm
from prometheus_client.parser import text_string_to_metric_families

from lpnode.cli import main
from lpnode.gateway.discover import demand_for, discovery_request, get_orchestrator
from lpnode.protocol.capability import LIVE_VIDEO_TO_VIDEO
from lpnode.protocol.ethereum import Account, checksum_text


async def test_a_paid_node_shows_its_payments_and_the_commands_find_it(
    evm: Evm, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    gateway = Account(gateway_of(evm).private_key)
    place = ("-dataDir", str(tmp_path / "data"))
    async with paid_node(evm, tmp_path, "-maxGasPrice", "300000000000") as node:
        sender = checksum_text(gateway.address)
        request = discovery_request(
            demand_for(LIVE_VIDEO_TO_VIDEO, MODEL),
            sender=gateway.address,
            signature=gateway.sign(sender.encode()),
        )
        offered = (await get_orchestrator(node.service_uri, request)).info.ticket_params
        async with aiohttp.ClientSession(node.operator_uri) as http:
            async with http.get("/status") as response:
                payments = (await response.json())["Payments"]
            async with http.get("/metrics") as response:
                metrics = await response.text()
        assert main(["earnings", "--json", *place]) == 0
        earned = json.loads(capsys.readouterr().out)
        operator = node.operator_uri.removeprefix("http://")
        retry = ["tickets", "retry", "--all", "-cliAddr", operator, *place]
        assert await asyncio.to_thread(main, retry) == 0
        assert capsys.readouterr().out == "every ticket is paid\n"
    assert (payments["credited_wei"], payments["pending_wei"]) == ("0", "0")
    face_value_wei = int.from_bytes(offered.face_value)
    assert payments["offers"][sender]["face_value_wei"] == str(face_value_wei) != "0"
    values = {
        (sample.name, sample.labels.get("sender")): sample.value
        for family in text_string_to_metric_families(metrics)
        for sample in family.samples
    }
    assert values["livepeer_gateway_ticket_face_value", sender] == face_value_wei / 10**9
    assert values["livepeer_max_gas_price", None] == 300
    assert values["lpnode_pending_face_value_gwei", None] == 0
    assert earned["store"]["recipient"] == checksum_text(evm.accounts[1].address)
    assert earned["total"]["num_payments"] == 0
    # And over the store of a node that has ended.
    assert await asyncio.to_thread(main, retry) == 0
    assert capsys.readouterr().out == "every ticket is paid\n"
