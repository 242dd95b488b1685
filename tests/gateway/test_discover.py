"""Discovery as a gateway does it, over real TLS against a gRPC server that is not ours."""

import asyncio
import io
import json
import ssl
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from stock_grpc_server import self_signed, serving

from lpnode.admission.ai_models import DEFAULT_AI_MODELS, slots_of
from lpnode.admission.auth_token import AuthTokens
from lpnode.admission.price import PriceBook
from lpnode.admission.quote import Quote, QuoteConfig
from lpnode.command.probe import report
from lpnode.edge.grpc.orchestrator import Orchestrator
from lpnode.errors import DiscoveryRefused, InvalidArgument, PeerGone, ProtocolError
from lpnode.gateway.discover import (
    Discovered,
    demand_for,
    dial_uri,
    discovery_request,
    faults_of,
    get_orchestrator,
)
from lpnode.gateway.network_capabilities import network_capabilities
from lpnode.protocol import lp_rpc_pb2 as pb
from lpnode.protocol.capability import CAPABILITY_NAMES
from lpnode.schedule.capacity import Capacity, ModelKey
from lpnode.schedule.hardware import Gpu

METHOD = "/net.Orchestrator/GetOrchestrator"
GPU = Gpu(index=0, uuid="GPU-0", name="a GPU", major=9, minor=0, memory_free=1, memory_total=2)

Methods = dict[str, Callable[[bytes], Any]]


@pytest.fixture
def tls(tmp_path: Path) -> ssl.SSLContext:
    return self_signed(tmp_path)


@pytest.fixture
def capacity() -> Capacity:
    return Capacity(slots_of(DEFAULT_AI_MODELS))


def orchestrator(capacity: Capacity, prices: PriceBook | None = None) -> Orchestrator:
    tokens = AuthTokens(bytes(32))
    quote = Quote(
        QuoteConfig(service_uri="https://127.0.0.1:8935"),
        models=DEFAULT_AI_MODELS,
        capacity=capacity,
        tokens=tokens,
        gpus=(GPU,),
        prices=prices,
    )
    return Orchestrator(quote=quote, capacity=capacity, tokens=tokens)


@pytest.mark.parametrize("is_tls", [True, False])
async def test_a_node_is_found_whatever_its_certificate(
    tls: ssl.SSLContext, capacity: Capacity, is_tls: bool
) -> None:
    async with serving(orchestrator(capacity).methods(), tls if is_tls else None) as uri:
        found = await get_orchestrator(uri, discovery_request(demand_for(35, "noop")))
    assert found.uri == uri
    assert found.info.transcoder == "https://127.0.0.1:8935"
    assert found.info.capabilities.constraints.PerCapability[35].models["noop"].warm
    assert 0 < found.latency_s < 3
    assert faults_of(found.info) == []


async def test_the_nodes_words_reach_the_caller(tls: ssl.SSLContext, capacity: Capacity) -> None:
    held = [capacity.lease(ModelKey(35, "noop")) for _ in range(2)]
    demand = demand_for(35, "noop")
    async with serving(orchestrator(capacity).methods(), tls) as uri:
        with pytest.raises(DiscoveryRefused) as refusal:
            await get_orchestrator(uri, discovery_request(demand))
        refreshed = await get_orchestrator(uri, discovery_request(demand, ignore_capacity=True))
    assert str(refusal.value) == "Invalid orchestrator request: OrchestratorCapped"
    assert refreshed.info.capabilities.constraints.PerCapability[35].models[
        "noop"
    ].capacityInUse == len(held)


async def test_nobody_at_the_address_is_a_clear_error() -> None:
    with pytest.raises(PeerGone, match="cannot be reached"):
        await get_orchestrator("https://127.0.0.1:1", discovery_request())


async def test_a_silent_peer_costs_no_more_than_the_limit() -> None:
    async def say_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    server = await asyncio.start_server(say_nothing, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        for scheme in ("https", "http"):
            with pytest.raises(PeerGone, match=r"did not answer within 0\.05 s"):
                await get_orchestrator(
                    f"{scheme}://127.0.0.1:{port}", discovery_request(), timeout_s=0.05
                )


async def test_a_peer_without_grpc_is_a_clear_error(tls: ssl.SSLContext) -> None:
    async def speak_http1(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(100)
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(speak_http1, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises((ProtocolError, PeerGone)):
            await get_orchestrator(f"http://127.0.0.1:{port}", discovery_request(), timeout_s=2)
    async with serving({METHOD: lambda _: b"\xff\xff"}, tls) as uri:
        with pytest.raises(ProtocolError, match="does not speak gRPC"):
            await get_orchestrator(uri, discovery_request())
    async with serving({}, tls) as uri:
        with pytest.raises(DiscoveryRefused):
            await get_orchestrator(uri, discovery_request())


@pytest.mark.parametrize(
    ("text", "uri"),
    [
        ("host", "https://host:8935"),
        ("host:9000", "https://host:9000"),
        ("https://host:9000/", "https://host:9000"),
        ("http://host:9000", "http://host:9000"),
        (" 127.0.0.1 ", "https://127.0.0.1:8935"),
    ],
)
def test_an_address_is_completed_as_gateways_do(text: str, uri: str) -> None:
    assert dial_uri(text) == uri


@pytest.mark.parametrize("text", ["https://host", "", "ftp://host:1", "host:port", "host:99999"])
def test_an_address_that_cannot_be_dialled_is_refused(text: str) -> None:
    with pytest.raises(InvalidArgument, match="https://host:port"):
        dial_uri(text)


def sound_info(capacity: Capacity) -> pb.OrchestratorInfo:
    reply = orchestrator(capacity).get_orchestrator(b"")
    assert isinstance(reply, bytes)
    return pb.OrchestratorInfo.FromString(reply)


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (lambda info: info.ClearField("transcoder"), "no transcoder"),
        (lambda info: setattr(info, "transcoder", "https://host"), "no port"),
        (lambda info: setattr(info, "transcoder", "https://[host"), "no port"),
        (lambda info: setattr(info, "transcoder", "https://host:99999"), "no port"),
        (lambda info: setattr(info, "transcoder", "https://host:1/"), "slash"),
        (lambda info: info.ClearField("capabilities"), "no capabilities"),
        (lambda info: info.capabilities.ClearField("constraints"), "no constraints"),
        (lambda info: info.capabilities.capacities.pop(26), r"\[26\] are missing"),
        (lambda info: info.ClearField("auth_token"), "no auth token"),
        (lambda info: info.ClearField("address"), "no address"),
        (lambda info: info.price_info.SetInParent(), "pixelsPerUnit is 0"),
    ],
)
def test_what_keeps_gateways_away_is_named(
    capacity: Capacity, change: Callable[[pb.OrchestratorInfo], object], fault: str
) -> None:
    info = sound_info(capacity)
    change(info)
    assert len(faults_of(info)) == 1
    with pytest.raises(AssertionError, match=fault):
        raise AssertionError(faults_of(info)[0])


def test_network_capabilities_have_the_shape_of_a_gateways_answer(capacity: Capacity) -> None:
    found = Discovered("https://asked:1", sound_info(capacity), 0.01)
    document = json.loads(json.dumps(network_capabilities([found])))
    assert document["capabilities_names"]["35"] == "Live video to video"
    assert len(document["capabilities_names"]) == len(CAPABILITY_NAMES)
    (node,) = document["orchestrators"]
    assert node["address"] == ""
    assert node["local_address"] == "0x" + "0" * 40
    assert node["orch_uri"] == "https://127.0.0.1:8935"
    assert node["price_info"] is None
    assert node["capabilities_prices"] is None
    capabilities = node["capabilities"]
    assert capabilities["bitstring"] == [0x4005FFF | 1 << 35]
    assert capabilities["capacities"]["35"] == 1
    assert "mandatories" not in capabilities
    assert capabilities["constraints"] == {
        "PerCapability": {
            "35": {
                "models": {
                    "lpnode/shapes": {"capacity": 2, "runnerVersion": "0.9.1"},
                    **{
                        model_id: {"warm": True, "capacity": 2, "runnerVersion": "0.9.1"}
                        for model_id in ("noop", "passthrough", "edge-style")
                    },
                }
            }
        }
    }
    assert node["hardware"][0] == {
        "pipeline": "live-video-to-video",
        "model_id": "noop",
        "gpu_info": {
            "0": {
                "id": "GPU-0",
                "name": "a GPU",
                "major": 9,
                "memory_free": 1,
                "memory_total": 2,
            }
        },
    }


def test_prices_and_recipients_are_numbers_and_checksummed_text(capacity: Capacity) -> None:
    info = sound_info(capacity)
    info.ticket_params.recipient = bytes.fromhex("d022b731a61941de2be140e97940a23f3a3945df")
    info.price_info.MergeFrom(pb.PriceInfo(pricePerUnit=101, pixelsPerUnit=100))
    info.capabilities_prices.add(pricePerUnit=1, pixelsPerUnit=1, capability=35, constraint="noop")
    (node,) = network_capabilities([Discovered("https://asked:1", info, 0.01)])["orchestrators"]
    assert node["address"] == "0xd022b731a61941DE2bE140E97940a23f3a3945df"
    assert node["price_info"] == {"pricePerUnit": 101, "pixelsPerUnit": 100}
    assert node["capabilities_prices"] == [
        {"pricePerUnit": 1, "pixelsPerUnit": 1, "capability": 35, "constraint": "noop"}
    ]
    assert network_capabilities([]) | {"capabilities_names": None} == {
        "capabilities_names": None,
        "orchestrators": [],
    }


def shown(info: pb.OrchestratorInfo) -> str:
    screen = io.StringIO()
    Console(file=screen, width=140).print(report(Discovered("https://[::1]:1", info, 0.0123)))
    return screen.getvalue()


def test_a_report_shows_a_person_what_matters(capacity: Capacity) -> None:
    book = PriceBook(
        base={None: Fraction(1)}, models={None: {ModelKey(35, "noop"): Fraction(1, 4)}}
    )
    reply = orchestrator(capacity, book).get_orchestrator(b"")
    assert isinstance(reply, bytes)
    info = pb.OrchestratorInfo.FromString(reply)
    info.ClearField("auth_token")
    text = shown(info)
    for words in ("12.3 ms", "noop", "0.25 wei per unit", "a GPU", "no auth token", "Auth token"):
        assert words in text
    assert "Node at https://[::1]:1" in text


def test_a_strangers_text_cannot_steer_the_terminal(capacity: Capacity) -> None:
    info = sound_info(capacity)
    info.capabilities.version = "\x1b[2J[red]9"
    info.transcoder = "https://\x1b]0;title\x07:1/"
    info.hardware[0].gpu_info["\x1b[31m"].name = "[/]"
    text = shown(info)
    assert "\x1b" not in text
    assert "\x07" not in text
    assert "[2J[red]9" in text
