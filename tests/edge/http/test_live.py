"""``POST /live-video-to-video`` as a gateway sends it. Checklist: live.md section 19, L1 to L9."""

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Mapping
from typing import Any

import pytest
from node_bench import KEY, MODEL, NodeBench

from lpnode.admission.admit import Admitter, AdmitterConfig
from lpnode.admission.auth_token import AuthTokens
from lpnode.edge.exchange import Headers, Request, Response
from lpnode.edge.http.live import LiveEndpoint
from lpnode.edge.routes import Router
from lpnode.protocol import lp_rpc_pb2 as pb

GATEWAY_BODY = {
    "publish_url": "",
    "subscribe_url": "",
    "model_id": MODEL,
    "gateway_request_id": "1a2b3c4d",
    "stream_id": "str_1",
}


class Pieces:
    """A request body that arrives in two pieces."""

    def __init__(self, data: bytes) -> None:
        self._pieces = [data[:10], data[10:], b""]

    async def read(self) -> bytes:
        while len(self._pieces) > 1:
            if piece := self._pieces.pop(0):
                return piece
        return b""


class Edge:
    """The route over a bench, with credentials for it."""

    def __init__(self, bench: NodeBench) -> None:
        self.bench = bench
        tokens = AuthTokens(bytes(32))
        admitter = Admitter(AdmitterConfig(), tokens=tokens, capabilities=pb.Capabilities)
        endpoint = LiveEndpoint(
            bench.sessions, admitter, channels_url="https://node.example:8935/ai/trickle/"
        )
        self.router = Router(endpoint.routes())
        segment = pb.SegData(auth_token=pb.AuthToken.FromString(tokens.issue()))
        self.headers = {
            "Content-Type": "application/json",
            "Livepeer-Payment": "",
            "Livepeer-Segment": base64.b64encode(segment.SerializeToString()).decode(),
            "Authorization": "Livepeer-AI-Worker-1.0",
        }

    async def post(
        self, body: object, *, headers: Mapping[str, str] | None = None, method: str = "POST"
    ) -> Response:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        fields = self.headers | dict(headers or {})
        path = "/live-video-to-video"
        return await self.router(Request(method, path, "", Headers(fields.items()), Pieces(data)))


@pytest.fixture
async def edge() -> AsyncIterator[Edge]:
    async with NodeBench().running() as bench:
        yield Edge(bench)


def text(response: Response) -> str:
    assert isinstance(response.body, bytes)
    return response.body.decode()


def nothing_is_left(edge: Edge) -> bool:
    return edge.bench.capacity.idle(KEY) == 1 and not len(edge.bench.channels)


@pytest.mark.parametrize("params", [{}, {"params": None}, {"params": {}}])
async def test_a_gateway_shaped_request_is_answered_with_five_fields(
    edge: Edge, params: dict[str, Any]
) -> None:
    """L1."""
    response = await edge.post(GATEWAY_BODY | params)
    assert response.status == 200
    assert ("Content-Type", "application/json") in response.headers
    answer = json.loads(text(response))
    mid = answer["manifest_id"]
    base = f"https://node.example:8935/ai/trickle/{mid}"
    assert answer == {
        "publish_url": base,
        "subscribe_url": f"{base}-out",
        "control_url": f"{base}-control",
        "events_url": f"{base}-events",
        "manifest_id": mid,
    }
    assert edge.bench.channels.find(f"{mid}-out").mime == "video/MP2T"


async def test_the_session_knows_the_ids_of_the_request(edge: Edge) -> None:
    await edge.post({"model_id": MODEL}, headers={"streamID": "s7", "requestID": "r7"})
    [status] = edge.bench.sessions.snapshot()
    assert (status.stream_id, status.request_id) == ("s7", "r7")


@pytest.mark.parametrize(
    ("body", "status", "reason"),
    [
        ({}, 400, "model_id is missing"),
        (b"{", 400, "truncated"),
        (b"\xff", 400, ""),
        (b"", 400, ""),
        ({"model_id": "unknown"}, 503, "insufficient capacity"),
        ({"model_id": MODEL, "params": {"width": 100}}, 500, "returned 400: width"),
        ({"model_id": MODEL, "params": {"width": "x"}}, 500, "returned 400: width"),
    ],
)
async def test_a_bad_job_is_refused_and_leaves_nothing_behind(
    edge: Edge, body: object, status: int, reason: str
) -> None:
    """L3, L4, L7."""
    response = await edge.post(body)
    assert response.status == status
    assert reason in text(response)
    assert text(response).endswith("\n")
    assert nothing_is_left(edge)


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Livepeer-Payment": "!!"}, 402),
        ({"Livepeer-Segment": "!!"}, 403),
        ({"Livepeer-Segment": ""}, 403),
        ({"Livepeer-Segment": base64.b64encode(b"\xff\xff").decode()}, 403),
        ({"Content-Type": "text/plain"}, 415),
        ({"Content-Type": ""}, 415),
        ({"Content-Length": str(1 << 30)}, 413),
    ],
    ids=["payment", "segment", "no segment", "truncated", "text", "no type", "size"],
)
async def test_bad_headers_are_refused_and_leave_nothing_behind(
    edge: Edge, headers: dict[str, str], status: int
) -> None:
    """L5."""
    response = await edge.post(GATEWAY_BODY, headers=headers)
    assert response.status == status
    assert nothing_is_left(edge)


async def test_the_last_slot_goes_to_one_of_two_requests_at_once(edge: Edge) -> None:
    """L9."""
    answers = await asyncio.gather(edge.post(GATEWAY_BODY), edge.post(GATEWAY_BODY))
    assert sorted(answer.status for answer in answers) == [200, 503]
    assert len(edge.bench.sessions) == 1


async def test_refusals_are_counted_under_few_names(edge: Edge) -> None:
    """Discovery checklist 33."""
    await edge.post(GATEWAY_BODY | {"params": {"width": 100}})
    await edge.post(GATEWAY_BODY | {"model_id": "invented"})
    await edge.post(GATEWAY_BODY | {"model_id": "also invented"})
    lines = edge.bench.metrics.exposition().decode().splitlines()
    counts = [line for line in lines if line.startswith("livepeer_ai_request_errors{")]
    assert [line.rsplit(" ", 1)[1] for line in counts] == ["1.0", "2.0"]
    assert 'error_code="BadParameters",model_name="noop"' in counts[0]
    assert 'error_code="NoCapacity",model_name=""' in counts[1]


async def test_capacity_is_judged_before_credentials(edge: Edge) -> None:
    """Source: live.md section 2.2, the order of checks."""
    with edge.bench.sessions.reserve(MODEL):
        response = await edge.post(GATEWAY_BODY, headers={"Livepeer-Segment": ""})
    assert (response.status, text(response)) == (503, "insufficient capacity\n")


async def test_a_media_type_may_have_parameters(edge: Edge) -> None:
    response = await edge.post(
        GATEWAY_BODY, headers={"Content-Type": "Application/JSON; charset=utf-8"}
    )
    assert response.status == 200


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "HEAD"])
async def test_another_method_is_405(edge: Edge, method: str) -> None:
    """L3."""
    response = await edge.post(GATEWAY_BODY, method=method)
    assert response.status == 405
    assert ("Allow", "POST") in response.headers


async def test_a_draining_node_moves_the_gateway_on(edge: Edge) -> None:
    """L54."""
    await edge.bench.sessions.drain(deadline_s=0.01)
    response = await edge.post(GATEWAY_BODY)
    assert (response.status, text(response)) == (503, "insufficient capacity\n")
