"""A paid node whose chain goes away, and one that is killed: neither works for nothing."""

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import aiohttp
import pytest
from end_to_end.paid_node import gateway_of, paid_node, restarted_node
from end_to_end.test_paid_node import discovered
from end_to_end.test_paid_stream import EV_WEI, FACE_VALUE_WEI, PRICE_WEI, earnings, stream
from end_to_end.whole_node import eventually
from evm import Evm

from lpnode.errors import DiscoveryRefused
from lpnode.payment.params import PARAMS_LIFETIME_BLOCKS
from lpnode.protocol.ethereum import Account


@dataclass
class Relay:
    """A port in front of the chain, which can be taken away and put back."""

    evm: Evm
    port: int = 0
    _server: asyncio.Server | None = None
    _open: set[asyncio.StreamWriter] = field(default_factory=set)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def connect(self) -> None:
        self._server = await asyncio.start_server(self._carry, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def cut(self) -> None:
        assert self._server is not None
        self._server.close()
        for writer in self._open.copy():
            writer.close()
        await self._server.wait_closed()

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        port = urlsplit(self.evm.url).port
        chain_reader, chain_writer = await asyncio.open_connection("127.0.0.1", port)
        self._open |= {writer, chain_writer}
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(_copy(reader, chain_writer))
                tasks.create_task(_copy(chain_reader, writer))
        finally:
            self._open -= {writer, chain_writer}


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(ConnectionError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    writer.close()


@asynccontextmanager
async def relayed(evm: Evm) -> AsyncIterator[Relay]:
    relay = Relay(evm)
    await relay.connect()
    try:
        yield relay
    finally:
        await relay.cut()


async def test_a_node_that_loses_its_chain_goes_on_and_never_works_for_nothing(
    evm: Evm, tmp_path: Path
) -> None:
    """O2: those whose funds are known are quoted as before, strangers are refused."""
    gateway = Account(gateway_of(evm).private_key)
    stranger = Account(evm.accounts[3].private_key)
    async with (
        relayed(evm) as relay,
        paid_node(evm, tmp_path, "-ethUrl", relay.url) as node,
        aiohttp.ClientSession() as http,
    ):
        before = (await discovered(node.service_uri, gateway)).info
        await relay.cut()
        during = (await discovered(node.service_uri, gateway)).info
        assert during.price_info == before.price_info
        assert during.ticket_params.face_value == before.ticket_params.face_value
        with pytest.raises(DiscoveryRefused, match=r"^(?!insufficient)"):
            await discovered(node.service_uri, stranger, timeout_s=60)
        async with http.get(f"{node.operator_uri}/healthz") as answer:
            assert answer.status == 200
        await relay.connect()

        async def is_told_of_the_reserve() -> bool:
            with pytest.raises(DiscoveryRefused) as refusal:
                await discovered(node.service_uri, stranger, timeout_s=60)
            return "insufficient sender reserve" in str(refusal.value)

        await eventually(is_told_of_the_reserve)


async def test_a_node_asks_the_next_endpoint_when_the_first_is_down(
    evm: Evm, tmp_path: Path
) -> None:
    gateway = Account(gateway_of(evm).private_key)
    async with paid_node(evm, tmp_path, "-ethUrl", f"http://127.0.0.1:9,{evm.url}") as node:
        assert (await discovered(node.service_uri, gateway)).info.ticket_params.face_value


@pytest.mark.slow
async def test_a_killed_node_redeems_what_it_had_won_without_hearing_of_the_gateway_again(
    evm: Evm, tmp_path: Path
) -> None:
    """D1 and D4: SIGKILL, and a gateway that never comes back."""
    gateway = evm.accounts[2]
    gateway_of(evm)
    words = (
        *("-ticketEV", str(EV_WEI), "-maxFaceValue", str(FACE_VALUE_WEI)),
        *("-autoAdjustPrice=false", "-reward=false"),
    )
    async with paid_node(evm, tmp_path, *words, price_wei=4 * PRICE_WEI) as node:
        _, paid = await stream(node, tmp_path, gateway, 2)
        assert paid["payment"]["tickets"] >= 40
        node.send_signal(signal.SIGKILL)
        await node.wait()
    before = (await earnings(tmp_path))["total"]
    assert before["num_credited"] == paid["payment"]["tickets"]
    assert before["num_pending"] > 3
    evm.mine(PARAMS_LIFETIME_BLOCKS)
    async with restarted_node(evm, tmp_path, *words, price_wei=4 * PRICE_WEI):

        async def are_all_redeemed() -> bool:
            return not (await earnings(tmp_path))["total"]["num_pending"]

        await eventually(are_all_redeemed, within_s=90)
    after = (await earnings(tmp_path))["total"]
    assert after["num_redeemed"] == before["num_pending"]
    assert int(after["payout_wei"]) == before["num_pending"] * FACE_VALUE_WEI
    assert evm.pending_fees(evm.accounts[1].address) == int(after["payout_wei"])
