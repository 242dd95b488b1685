"""One port of a whole node, as stock clients see it: gRPC, HTTP/1.1, HTTP/2 and trickle."""

import asyncio
import json
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import httpx
import pytest
from end_to_end.clients import stock_channel
from end_to_end.gateway_peer import run_good_session
from end_to_end.whole_node import whole_node
from live_input import h264_input

from lpnode.gateway.discover import demand_for, discovery_request
from lpnode.media.transport_stream import Codec, TransportStreamReader
from lpnode.node import Node
from lpnode.protocol import lp_rpc_pb2 as pb
from lpnode.protocol.capability import LIVE_VIDEO_TO_VIDEO
from lpnode.protocol.segment_header import ai_segment, segment_header

DEMAND = demand_for(LIVE_VIDEO_TO_VIDEO, "noop")


async def stock_discovery(node: Node) -> pb.OrchestratorInfo:
    async with stock_channel(node) as channel:
        method = channel.unary_unary(
            "/net.Orchestrator/GetOrchestrator",
            request_serializer=pb.OrchestratorRequest.SerializeToString,
            response_deserializer=pb.OrchestratorInfo.FromString,
        )
        return await method(discovery_request(DEMAND), timeout=10)


def stock_client(http_version: int, **options: object) -> httpx.AsyncClient:
    return httpx.AsyncClient(
        verify=False, http1=http_version == 1, http2=http_version == 2, timeout=20, **options
    )


def job_fields(info: pb.OrchestratorInfo) -> dict[str, str]:
    credentials = ai_segment(b"noop", DEMAND, info.auth_token)
    return {
        "Content-Type": "application/json",
        "Livepeer-Payment": "",
        "Livepeer-Segment": segment_header(credentials),
    }


async def read_pts(client: httpx.AsyncClient, url: str, count: int) -> list[int]:
    """Subscribes to segment after segment until ``count`` pictures have come."""
    stream, pts = TransportStreamReader(), []
    for seq in range(100):
        async with client.stream("GET", f"{url}/{seq}") as response:
            assert response.status_code == 200
            async for data in response.aiter_raw():
                pts += [unit.pts_ticks for unit in stream.feed(data) if unit.codec is Codec.H264]
                if len(pts) >= count:
                    return pts
    return pts


@pytest.mark.parametrize("is_tls", [True, False], ids=["tls", "plaintext"])
@pytest.mark.parametrize("http_version", [1, 2], ids=["http1", "http2"])
async def test_a_job_runs_from_discovery_to_its_end_by_stock_clients_alone(
    tmp_path: Path, is_tls: bool, http_version: int
) -> None:
    """httpx asks and streams both ways in the one version; grpcio discovers on the same port."""
    frames = list(h264_input(8, width=320, height=240))
    async with (
        whole_node(tmp_path, is_tls=is_tls) as node,
        stock_client(http_version) as client,
        asyncio.TaskGroup() as tasks,
    ):
        info = await stock_discovery(node)
        assert info.transcoder == node.service_uri
        answer = await client.post(
            f"{node.service_uri}/live-video-to-video",
            content=json.dumps({"model_id": "noop", "params": None}),
            headers=job_fields(info),
        )
        assert answer.status_code == 200
        assert answer.http_version == ("HTTP/2" if http_version == 2 else "HTTP/1.1")
        assert answer.headers["content-type"] == "application/json"
        urls = answer.json()
        reading = tasks.create_task(read_pts(client, urls["subscribe_url"], len(frames)))

        async def body() -> AsyncIterator[bytes]:
            for frame in frames:
                yield frame.data
                await asyncio.sleep(0.05)

        published = await client.post(
            f"{urls['publish_url']}/0", content=body(), headers={"Content-Type": "video/MP2T"}
        )
        assert published.status_code == 200
        assert await reading == [frame.pts_ticks for frame in frames]
        event = await client.get(f"{urls['events_url']}/0")
        assert event.json()["event"]["type"] == "runner_receive_stream_request"
        for name in ("publish_url", "control_url"):
            assert (await client.delete(urls[name])).status_code == 200
        await node.sessions.wait_ended()
        gone = await client.get(f"{urls['subscribe_url']}/next")
        assert gone.status_code == 404


async def test_all_protocols_share_the_port_at_the_same_time(tmp_path: Path) -> None:
    async with whole_node(tmp_path) as node:

        async def health(http_version: int) -> httpx.Response:
            async with stock_client(http_version) as client:
                return await client.get(f"{node.service_uri}/healthz")

        first, second, info, _ = await asyncio.gather(
            health(1), health(2), stock_discovery(node), run_good_session(node.service_uri)
        )
    assert (first.http_version, second.http_version) == ("HTTP/1.1", "HTTP/2")
    assert first.status_code == second.status_code == 200
    assert info.capabilities.HasField("constraints")


@pytest.mark.parametrize(
    ("offered", "selected"),
    [
        (["h2"], "h2"),
        (["http/1.1", "h2"], "h2"),
        (["http/1.1"], "http/1.1"),
        ([], None),
        (["spdy/3", "http/1.1"], "http/1.1"),
    ],
    ids=lambda value: "+".join(value) if isinstance(value, list) else "",
)
async def test_the_protocol_is_agreed_on_by_alpn(
    tmp_path: Path, offered: list[str], selected: str | None
) -> None:
    """Gateways' trickle client offers nothing at all and speaks HTTP/1.1."""
    async with whole_node(tmp_path) as node:
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        if offered:
            context.set_alpn_protocols(offered)
        reader, writer = await asyncio.open_connection("127.0.0.1", node.listener.port, ssl=context)
        chosen = writer.get_extra_info("ssl_object").selected_alpn_protocol()
        assert chosen == selected
        if chosen != "h2":
            writer.write(b"GET /healthz HTTP/1.1\r\nHost: node\r\n\r\n")
            assert (await reader.readline()).startswith(b"HTTP/1.1 200 ")
        else:
            # The server's preface comes unasked: a SETTINGS frame.
            assert (await reader.readexactly(9))[3] == 4
        writer.transport.abort()
        await asyncio.sleep(0)


async def test_a_node_with_one_slot_is_capped_while_it_is_taken(tmp_path: Path) -> None:
    """L10."""
    async with whole_node(tmp_path, slots=1) as node, stock_channel(node) as channel:
        method = channel.unary_unary("/net.Orchestrator/GetOrchestrator")
        capped = discovery_request(DEMAND).SerializeToString()
        ignoring = discovery_request(DEMAND, ignore_capacity=True).SerializeToString()
        info = pb.OrchestratorInfo.FromString(await method(capped, timeout=10))
        async with stock_client(2) as client:
            answer = await client.post(
                f"{node.service_uri}/live-video-to-video",
                content=b'{"model_id": "noop"}',
                headers=job_fields(info),
            )
            assert answer.status_code == 200
            with pytest.raises(grpc.aio.AioRpcError, match="OrchestratorCapped"):
                await method(capped, timeout=10)
            full = pb.OrchestratorInfo.FromString(await method(ignoring, timeout=10))
            models = full.capabilities.constraints.PerCapability[LIVE_VIDEO_TO_VIDEO].models
            assert (models["noop"].capacity, models["noop"].capacityInUse) == (0, 1)
            await client.delete(answer.json()["publish_url"])
        await node.sessions.wait_ended()
        free = pb.OrchestratorInfo.FromString(await method(capped, timeout=10))
        models = free.capabilities.constraints.PerCapability[LIVE_VIDEO_TO_VIDEO].models
        assert (models["noop"].capacity, models["noop"].capacityInUse) == (1, 0)
