"""Discovery from end to end: stock clients and ours, over the node's real port and TLS."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import grpc
import pytest

from lpnode.admission.admit import Admitter, AdmitterConfig
from lpnode.admission.ai_models import DEFAULT_AI_MODELS, slots_of
from lpnode.admission.auth_token import AuthTokens, load_secret
from lpnode.admission.quote import Quote, QuoteConfig
from lpnode.chain.signer import LocalSigner
from lpnode.edge.certificate import ensure_certificate, server_context
from lpnode.edge.exchange import Request, Response
from lpnode.edge.grpc.orchestrator import Orchestrator
from lpnode.edge.listener import Listener, ListenerConfig
from lpnode.errors import ConfigError, DiscoveryRefused, NotAuthorised
from lpnode.gateway.availability import check_availability
from lpnode.gateway.discover import (
    demand_for,
    discovery_request,
    faults_of,
    get_orchestrator,
)
from lpnode.protocol import lp_rpc_pb2 as pb
from lpnode.protocol.capability import LIVE_VIDEO_TO_VIDEO
from lpnode.protocol.ethereum import Account, checksum_text
from lpnode.protocol.segment_header import ai_segment, segment_header
from lpnode.schedule.capacity import Capacity, ModelKey

ACCOUNT = LocalSigner(b"\1" * 32)
NOOP = ModelKey(LIVE_VIDEO_TO_VIDEO, "noop")


@dataclass
class Node:
    uri: str
    root: bytes
    capacity: Capacity
    admitter: Admitter

    @asynccontextmanager
    async def stock_channel(self) -> AsyncIterator[grpc.aio.Channel]:
        async with grpc.aio.secure_channel(
            self.uri.removeprefix("https://"),
            grpc.ssl_channel_credentials(self.root),
            [("grpc.ssl_target_name_override", "127.0.0.1")],
        ) as channel:
            yield channel


async def no_routes(request: Request) -> Response:
    return Response(404)


Start = Callable[..., AbstractAsyncContextManager[Node]]


@pytest.fixture
def start(tmp_path: Path) -> Start:
    """Starts a node on a data directory that outlives it."""

    @asynccontextmanager
    async def starting(signer: LocalSigner | None = None) -> AsyncIterator[Node]:
        files = ensure_certificate(tmp_path, "127.0.0.1")
        tls: ssl.SSLContext = server_context(files)
        capacity = Capacity(slots_of(DEFAULT_AI_MODELS))
        tokens = AuthTokens(load_secret(tmp_path / "auth_secret"))
        quote = Quote(
            QuoteConfig(service_uri="https://127.0.0.1:8935"),
            models=DEFAULT_AI_MODELS,
            capacity=capacity,
            tokens=tokens,
        )
        admitter = Admitter(
            AdmitterConfig(), tokens=tokens, capabilities=lambda: quote.capabilities
        )
        methods = Orchestrator(
            quote=quote, capacity=capacity, tokens=tokens, signer=signer
        ).methods()
        config = ListenerConfig(host="127.0.0.1", port=0)
        listener = Listener(config, tls=tls)
        await listener.bind()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(listener.run(no_routes, methods), name="listener")
            uri = f"https://127.0.0.1:{listener.port}"
            try:
                yield Node(uri, files.certificate.read_bytes(), capacity, admitter)
            finally:
                await listener.drain(1.0)

    return starting


async def test_a_stock_client_gets_what_a_gateway_needs(start: Start) -> None:
    async with start() as node, node.stock_channel() as channel:
        method = channel.unary_unary(
            "/net.Orchestrator/GetOrchestrator",
            request_serializer=pb.OrchestratorRequest.SerializeToString,
            response_deserializer=pb.OrchestratorInfo.FromString,
        )
        request = discovery_request(demand_for(LIVE_VIDEO_TO_VIDEO, "noop"))
        info = await method(request, timeout=5)
        assert faults_of(info) == []
        held = [node.capacity.lease(NOOP) for _ in range(2)]
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await method(request, timeout=5)
        assert caught.value.code() == grpc.StatusCode.UNKNOWN
        assert caught.value.details() == "Invalid orchestrator request: OrchestratorCapped"
        held[0].release()
        info = await method(request, timeout=5)
        model = info.capabilities.constraints.PerCapability[LIVE_VIDEO_TO_VIDEO].models["noop"]
        assert (model.capacity, model.capacityInUse) == (1, 1)


async def test_our_own_client_finds_the_node_and_its_words(start: Start) -> None:
    async with start() as node:
        found = await get_orchestrator(node.uri, discovery_request())
        assert found.info.hardware
        with pytest.raises(DiscoveryRefused, match="OrchestratorCapped"):
            await get_orchestrator(
                node.uri, discovery_request(demand_for(LIVE_VIDEO_TO_VIDEO, "unknown"))
            )


async def test_credentials_from_discovery_are_admitted_even_after_a_restart(start: Start) -> None:
    demand = demand_for(LIVE_VIDEO_TO_VIDEO, "noop")
    async with start() as node:
        info = (await get_orchestrator(node.uri, discovery_request(demand))).info
    header = segment_header(ai_segment(b"35_noop", demand, info.auth_token))
    async with start() as node:
        admission = node.admitter.admit("", header, "a1b2")
        assert admission.session_id == info.auth_token.session_id
        with pytest.raises(NotAuthorised, match="missing auth token"):
            node.admitter.admit("", "", "a1b2")


async def test_an_on_chain_node_wants_a_signature_and_signs_its_pings(start: Start) -> None:
    async with start(ACCOUNT) as node:
        await check_availability(node.uri, ACCOUNT.address)
        with pytest.raises(ConfigError, match="another node answers"):
            await check_availability(node.uri, Account(b"\2" * 32).address)
        with pytest.raises(DiscoveryRefused, match="req sig check failed"):
            await get_orchestrator(node.uri, discovery_request())
        signature = await ACCOUNT.sign_message(checksum_text(ACCOUNT.address).encode())
        signed = discovery_request(sender=ACCOUNT.address, signature=signature)
        assert (await get_orchestrator(node.uri, signed)).info.HasField("auth_token")


async def test_bytes_that_are_no_message_are_answered_with_a_status(start: Start) -> None:
    async with start() as node, node.stock_channel() as channel:
        for name in ("GetOrchestrator", "Ping", "EndTranscodingSession"):
            method = channel.unary_unary(f"/net.Orchestrator/{name}")
            for noise, status in (
                (b"\xff\xff", grpc.StatusCode.INTERNAL),
                (bytes(70_000), grpc.StatusCode.RESOURCE_EXHAUSTED),
            ):
                with pytest.raises(grpc.aio.AioRpcError) as caught:
                    await method(noise, timeout=5)
                assert caught.value.code() == status
