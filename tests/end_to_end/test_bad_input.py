"""Bad input for each endpoint of a whole node: a clear answer, and a good session afterwards."""

import asyncio
import base64
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import grpc
import pytest
from edge.raw_http2 import RawHttp2, connected
from edge.raw_http2 import request as fields_of
from end_to_end.clients import http1_tls, stock_channel
from end_to_end.gateway_peer import ask, live_job, run_good_session
from end_to_end.raw_requests import answer_to, http1, status_of
from end_to_end.whole_node import SLOTS, operator_uri, until, whole_node
from live_input import InputFrame, h264_input

from lpnode.edge.http2 import frames
from lpnode.gateway.discover import demand_for, discovery_request, get_orchestrator
from lpnode.gateway.http2_post import gateway_tls
from lpnode.node import Node
from lpnode.protocol.capability import LIVE_VIDEO_TO_VIDEO
from lpnode.protocol.segment_header import SEGMENT_HEADER, ai_segment, segment_header

METHODS = ("GetOrchestrator", "Ping", "EndTranscodingSession")
LIVE = "/live-video-to-video"
JSON = ("Content-Type", "application/json")
MIB = 1 << 20


@asynccontextmanager
async def attacked_node(folder: Path, **changes: Any) -> AsyncIterator[Node]:
    """A node that must be as good as new after whatever the block does to it."""
    async with whole_node(folder, **changes) as node:
        yield node
        assert len(node.channels) == len(node.sessions) == 0
        assert all(node.capacity.in_use(key) == 0 for key in node.capacity.keys())  # noqa: SIM118
        await run_good_session(node.service_uri)


async def credentials(node: Node) -> tuple[str, str]:
    """The header of a gateway that may start a job."""
    demand = demand_for(LIVE_VIDEO_TO_VIDEO, "noop")
    found = await get_orchestrator(node.service_uri, discovery_request(demand))
    return SEGMENT_HEADER, segment_header(ai_segment(b"noop", demand, found.info.auth_token))


def few_frames(count: int, first_frame: int = 0) -> list[InputFrame]:
    return list(h264_input(count, width=320, height=240, first_frame=first_frame))


def framed(message: bytes, *, length: int | None = None, flag: int = 0) -> bytes:
    """A gRPC message; ``length`` may lie."""
    return bytes([flag]) + (len(message) if length is None else length).to_bytes(4, "big") + message


@asynccontextmanager
async def http2(node: Node) -> AsyncIterator[RawHttp2]:
    async with connected(node.listener, tls=gateway_tls()) as client:
        yield client


async def call(
    client: RawHttp2, stream_id: int, path: str, body: bytes, kind: str = "application/grpc"
) -> tuple[dict[str, str], bytes]:
    fields = fields_of("POST", path, ("te", "trailers"), ("content-type", kind))
    client.send(
        client.headers(stream_id, fields, end_stream=False),
        frames.frame(frames.DATA, frames.END_STREAM, stream_id, body),
    )
    return await client.response(stream_id)


GRPC_BODIES = {
    "truncated protobuf": framed(b"\x0a\x7f\x01"),
    "field of a wrong type": framed(b"\x0d\x01\x02\x03\x04" * 3 + b"\x07"),
    "endless varint": framed(b"\xff" * 40),
    "no frame": b"",
    "half a frame head": b"\0\0\0",
    "frame cut short": framed(b"abc", length=1000),
    "frame of 4 GiB announced": framed(b"abc", length=0xFFFF_FFFF),
    "two messages": framed(b"") * 2,
    "compressed": framed(b"abc", flag=1),
    "unknown flag": framed(b"", flag=0x7F),
}


async def test_a_broken_message_is_a_grpc_error_and_the_connection_goes_on(tmp_path: Path) -> None:
    async with attacked_node(tmp_path) as node, http2(node) as client:
        stream_id = 1
        for case, body in GRPC_BODIES.items():
            for method in METHODS:
                answer, _ = await call(client, stream_id, f"/net.Orchestrator/{method}", body)
                assert answer[":status"] == "200", case
                assert int(answer["grpc-status"]) > 0, case
                assert answer["grpc-message"], case
                stream_id += 2
        answer, _ = await call(client, stream_id, "/net.Orchestrator/Ping", framed(b""))
        assert answer["grpc-status"] == "0"


async def test_a_message_beyond_the_limit_is_exhausted_resources(tmp_path: Path) -> None:
    async with attacked_node(tmp_path) as node, stock_channel(node) as channel:
        method = channel.unary_unary("/net.Orchestrator/GetOrchestrator")
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await method(bytes(8 * MIB), timeout=20)
        assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


async def test_a_method_by_another_content_type_is_not_called(tmp_path: Path) -> None:
    kinds = ["application/grpc-web", "application/json", "text/plain", ""]
    async with attacked_node(tmp_path) as node, http2(node) as client:
        for number, kind in enumerate(kinds):
            path = "/net.Orchestrator/Ping"
            answer, _ = await call(client, 2 * number + 1, path, framed(b""), kind)
            assert answer[":status"] in ("404", "415"), kind


async def test_grpc_over_http1_is_answered_by_http(tmp_path: Path) -> None:
    async with attacked_node(tmp_path) as node:
        sent = http1(
            "POST", "/net.Orchestrator/Ping", framed(b""), ("Content-Type", "application/grpc")
        )
        answer = await answer_to(node.listener.port, sent, tls=http1_tls())
        assert 400 <= status_of(answer) < 506


def nested(depth: int) -> bytes:
    return b'{"model_id":"noop","params":' + b'{"a":' * depth + b"1" + b"}" * depth + b"}"


LIVE_BODIES = {
    "nothing": (b"", 400),
    "not JSON": (b"<xml/>", 400),
    "truncated": (b'{"model_id":"noop"', 400),
    "an array": (b"[]", 400),
    "no model": (b"{}", 400),
    "model of a wrong type": (b'{"model_id":7}', 400),
    "params of a wrong type": (b'{"model_id":"noop","params":"x"}', 400),
    "not UTF-8": (b'{"model_id":"\xff\xfe"}', 400),
    "lone surrogate": (b'{"model_id":"\\ud800"}', 400),
    "nested 100000 deep": (nested(100_000), 400),
    "nested and never closed": (b"[" * 100_000, 400),
    "unknown model": (b'{"model_id":"nonsense"}', 503),
    "model name of 1 MB": (b'{"model_id":"' + b"x" * 1_000_000 + b'"}', 503),
    "size out of range": (b'{"model_id":"noop","params":{"width":1000000}}', 500),
    "size below range": (b'{"model_id":"noop","params":{"height":-1}}', 500),
    "size that is no integer": (b'{"model_id":"noop","params":{"width":1e308}}', 500),
    "size of 5000 digits": (b'{"model_id":"noop","params":{"width":' + b"9" * 5000 + b"}}", 400),
    "frame rate 0": (b'{"model_id":"noop","params":{"max_framerate":0}}', 500),
    "boolean for a number": (b'{"model_id":"noop","params":{"width":true}}', 500),
}


async def test_a_bad_job_is_refused(tmp_path: Path) -> None:
    async with attacked_node(tmp_path) as node:
        port, permit = node.listener.port, await credentials(node)
        for case, (body, status) in LIVE_BODIES.items():
            answer = await answer_to(port, http1("POST", LIVE, body, JSON, permit), tls=http1_tls())
            assert status_of(answer) == status, case
            assert b"text/plain" in answer, case
            assert len(answer) < 10_000, case
            assert answer.endswith(b"\n"), case
            assert (b"container returned 400: " in answer) == (status == 500), case


BAD_FIELDS = [
    ("Content-Type", "text/plain", 415),
    ("Content-Type", "multipart/form-data; boundary=x", 415),
    ("Livepeer-Segment", "%%%", 403),
    ("Livepeer-Segment", base64.b64encode(b"\x0a\xff").decode(), 403),
    ("Livepeer-Segment", "", 403),
    ("Livepeer-Segment", "A" * 900_000, 403),
    ("Livepeer-Payment", "%%%", 402),
    ("Livepeer-Payment", base64.b64encode(b"\x0a\xff").decode(), 402),
    ("X-Anything", "x" * 2 * MIB, 431),
]


async def test_a_job_with_a_bad_header_is_refused(tmp_path: Path) -> None:
    async with attacked_node(tmp_path) as node:
        good = dict([JSON, await credentials(node)])
        for name, value, status in BAD_FIELDS:
            fields = good | {name: value}
            sent = http1("POST", LIVE, b'{"model_id":"noop"}', *fields.items())
            answer = await answer_to(node.listener.port, sent, tls=http1_tls())
            assert status_of(answer) == status, (name, value[:80], answer[-500:])
            assert len(answer) < 10_000


async def test_a_job_body_beyond_the_limit_is_refused_announced_or_not(tmp_path: Path) -> None:
    async with attacked_node(tmp_path) as node:
        announced = http1("POST", LIVE, b"", JSON, length=1 << 40)
        answer = await answer_to(node.listener.port, announced, tls=http1_tls())
        assert status_of(answer) == 413
        chunked = (
            f"POST {LIVE} HTTP/1.1\r\nHost: node\r\nConnection: close\r\n"
            "Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
        ).encode()
        chunk = b"10000\r\n" + b" " * 0x10000 + b"\r\n"
        answer = await answer_to(node.listener.port, chunked, *[chunk] * 200, tls=http1_tls())
        assert status_of(answer) == 413


NOT_THERE = [
    ("GET", LIVE, {405}),
    ("PUT", LIVE, {405}),
    ("BREW", LIVE, {400, 405, 501}),
    ("GET", "/", {404}),
    ("GET", "/live-video-to-video/", {404}),
    ("POST", "/text-to-image", {404}),
    ("GET", "/" + "x" * 100_000, {404, 414}),
    ("GET", "/%00%ff/../../etc/passwd", {400, 404}),
    ("GET", "/status", {404}),
    ("GET", "/metrics", {404}),
    ("GET", "/ai/trickle/nobody/0", {404}),
    ("GET", "/ai/trickle/nobody/next", {404}),
    ("POST", "/ai/trickle/nobody/0", {404}),
    ("DELETE", "/ai/trickle/nobody", {400}),
    ("DELETE", "/ai/trickle/nobody/0", {404}),
    ("PATCH", "/ai/trickle/nobody", {405}),
    ("GET", "/ai/trickle/", {400, 404, 405}),
    ("GET", "/ai/trickle/../../etc/passwd", {400, 404}),
]


async def test_what_does_not_exist_is_said_to_not_exist(tmp_path: Path) -> None:
    async with attacked_node(tmp_path) as node:
        for method, path, statuses in NOT_THERE:
            answer = await answer_to(node.listener.port, http1(method, path), tls=http1_tls())
            status = status_of(answer)
            assert status in statuses, (method, path[:80], answer[-500:])
            assert status != 405 or b"allow:" in answer.lower(), (method, path)


async def test_a_running_job_survives_abuse_of_its_channels(tmp_path: Path) -> None:
    requests = {
        ("GET", "{input}/x"): {400},
        ("GET", "{input}/-7"): {400, 404, 470},
        ("GET", "{input}/99999999999999999999"): {400, 404, 470},
        ("POST", "{input}/x"): {400},
        ("POST", "{input}/99999999999999999999"): {400, 404, 470},
        ("POST", "{input}/-3"): {400, 404, 470},
        ("DELETE", "{input}/77"): {200, 400, 404, 470},
        ("PATCH", "{input}/0"): {405},
        ("GET", "{output}/77"): {400, 404, 470},
        ("GET", "{events}/77"): {400, 404, 470},
    }
    async with attacked_node(tmp_path) as node:
        async with live_job(node.service_uri) as job:
            await job.exchange(few_frames(3))
            paths = {
                "input": f"/ai/trickle/{job.answer.manifest_id}",
                "output": f"/ai/trickle/{job.answer.manifest_id}-out",
                "events": f"/ai/trickle/{job.answer.manifest_id}-events",
            }
            for (method, path), statuses in requests.items():
                answer = await answer_to(
                    node.listener.port,
                    http1(method, path.format_map(paths)),
                    tls=http1_tls(),
                )
                assert status_of(answer) in statuses, (method, path, answer[:300])
            await job.exchange(few_frames(3, first_frame=3))
            await job.stop()
        assert len(job.pts) == 6


CONTROL_MESSAGES = {
    "not JSON": b"}{",
    "an array": b"[1, 2]",
    "a string": b'"keep alive"',
    "null": b"null",
    "not UTF-8": b'{"width": "\xff"}',
    "nested 100000 deep": b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
    "a number of 5000 digits": b'{"width":' + b"1" * 5000 + b"}",
    "another size": b'{"width": 640}',
    "out of range": b'{"max_framerate": 1e9}',
    "2 MiB": b'{"a":"' + b"x" * (2 * MIB) + b'"}',
}


async def test_a_bad_control_message_is_an_error_event_and_no_more(tmp_path: Path) -> None:
    """L25, L40. A job sends one error a second at most, so several jobs share the messages."""
    messages = list(CONTROL_MESSAGES.items())

    async def send(node: Node, number: int) -> None:
        async with live_job(node.service_uri) as job:
            await job.exchange(few_frames(3))
            for seq, (case, message) in enumerate(messages[number::SLOTS]):
                assert await job.post(job.answer.control_url, seq, message) in (200, 413), case
                await until(lambda seen=seq: len(job.events_of("error")) > seen)
                error = job.events_of("error")[-1]["message"]
                assert error.startswith("Error updating params: "), case
                assert len(error) < 5000, case
            await job.exchange(few_frames(3, first_frame=3))
            await job.stop()
        assert len(job.pts) == 6

    async with attacked_node(tmp_path) as node:
        async with asyncio.TaskGroup() as tasks:
            for number in range(SLOTS):
                tasks.create_task(send(node, number))
        await node.sessions.wait_ended()


OPERATOR_REQUESTS = [
    ("GET", "/nothing", b"", 404),
    ("POST", "/setLogLevel", b"", 400),
    ("POST", "/setLogLevel?loglevel=99999999999999999999", b"", 400),
    ("POST", "/setLogLevel?loglevel=%ff", b"", 400),
    ("POST", "/setPriceForBroadcaster", b"\xff\xfe", 400),
    ("POST", "/status", b"", 200),
]


async def test_the_operators_port_says_what_is_wrong(tmp_path: Path) -> None:
    async with attacked_node(tmp_path) as node, aiohttp.ClientSession() as http:
        for method, path, body, status in OPERATOR_REQUESTS:
            async with http.request(method, operator_uri(node) + path, data=body) as response:
                assert response.status == status, path
                assert await response.text(), path


async def test_bytes_of_no_protocol_end_the_connection(tmp_path: Path) -> None:
    """In plaintext to a TLS port, and inside TLS."""
    async with attacked_node(tmp_path) as node:
        for junk in (
            b"\0" * 5000,
            b"GET / HTTP/1.1\r\n\r\n",
            bytes(range(256)) * 20,
            b"\r\n" * 500,
        ):
            await answer_to(node.listener.port, junk, ends=True)
        for junk in (b"\0" * 5000, b"SSH-2.0-x\r\n\r\n", bytes(range(256)) * 20):
            answer = await answer_to(node.listener.port, junk, tls=http1_tls())
            assert status_of(answer) in (0, 400)
        await until(lambda: node.listener.num_connections == 0)


async def test_jobs_that_nobody_uses_end_and_free_their_slots(tmp_path: Path) -> None:
    """L36 with a short time-out."""
    async with attacked_node(tmp_path, live_input_timeout_s=1.5) as node:
        answers = [await ask(node.service_uri) for _ in range(4)]
        assert len({answer.manifest_id for answer in answers}) == 4
        await node.sessions.wait_ended()
