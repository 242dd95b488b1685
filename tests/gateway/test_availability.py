"""The self-check at start: the advertised address must lead to this node."""

import ssl
from collections.abc import Callable
from pathlib import Path

import pytest
from stock_grpc_server import self_signed, serving

from lpnode.errors import ConfigError
from lpnode.gateway.availability import check_availability
from lpnode.protocol import lp_rpc_pb2 as pb
from lpnode.protocol.ethereum import Account

OURS, ANOTHER = Account(b"\1" * 32), Account(b"\2" * 32)


@pytest.fixture
def tls(tmp_path: Path) -> ssl.SSLContext:
    return self_signed(tmp_path)


def ping_by(account: Account) -> dict[str, Callable[[bytes], bytes]]:
    def ping(request: bytes) -> bytes:
        value = pb.PingPong.FromString(request).value
        return pb.PingPong(value=account.sign(value)).SerializeToString()

    return {"/net.Orchestrator/Ping": ping}


async def test_our_own_answer_is_accepted(tls: ssl.SSLContext) -> None:
    async with serving(ping_by(OURS), tls) as uri:
        await check_availability(uri, OURS.address)


async def test_any_answer_is_accepted_off_chain(tls: ssl.SSLContext) -> None:
    async with serving({"/net.Orchestrator/Ping": lambda _: b""}, tls) as uri:
        await check_availability(uri)


async def test_another_nodes_answer_is_refused(tls: ssl.SSLContext) -> None:
    async with serving(ping_by(ANOTHER), tls) as uri:
        with pytest.raises(ConfigError, match="another node answers"):
            await check_availability(uri, OURS.address)


async def test_no_answer_names_what_to_check() -> None:
    with pytest.raises(ConfigError, match="-serviceAddr, the firewall"):
        await check_availability("https://127.0.0.1:1")
