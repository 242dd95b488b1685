"""gRPC messages that are broken, too large, or never end."""

import time

import pytest
from edge.conftest import Serve
from edge.raw_http2 import POST_PING, connected, request, still_serves

from lpnode.edge.http2 import frames
from lpnode.edge.http2.frames import ErrorCode, frame


@pytest.mark.parametrize(
    ("body", "status", "text"),
    [
        (b"", "13", "message frame of 0 bytes is truncated"),
        (b"\0\0\0", "13", "message frame of 3 bytes is truncated"),
        (b"\0\0\0\0\5ab", "13", "message frame announces 5 bytes and 2 came"),
        (b"\0\0\0\0\1ab", "13", "message frame announces 1 bytes and 2 came"),
        (b"\0\xff\xff\xff\xffab", "13", "message frame announces 4294967295 bytes and 2 came"),
        (b"\1\0\0\0\2ab", "12", "compressed messages are not supported"),
    ],
)
async def test_a_broken_grpc_message_has_a_clear_status(
    serve: Serve, body: bytes, status: str, text: str
) -> None:
    async with serve() as listener, connected(listener) as client:
        client.send(client.headers(1, POST_PING, end_stream=False))
        client.send(frame(frames.DATA, frames.END_STREAM, 1, body))
        fields, _ = await client.response(1)
        assert fields[":status"] == "200"
        assert (fields["grpc-status"], fields["grpc-message"]) == (status, text)


async def test_an_oversized_grpc_message_is_refused_while_it_arrives(serve: Serve) -> None:
    async with serve() as listener, connected(listener) as client:
        client.send(client.headers(1, POST_PING, end_stream=False))
        client.send(frame(frames.DATA, 0, 1, b"\0\0\xff\xff\xff" + bytes(60_000)))
        client.send(*[frame(frames.DATA, 0, 1, bytes(60_000))] * 70)
        fields, _ = await client.response(1)
        assert fields["grpc-status"] == "8"
        await still_serves(client, 3)


@pytest.mark.parametrize(
    ("method", "content_type", "status"),
    [
        ("POST", "application/grpc+proto", "200"),
        ("POST", "application/grpc;charset=utf-8", "200"),
        ("POST", "application/grpc-web", "415"),
        ("POST", "application/grpcx", "415"),
        ("GET", "application/grpc", "405"),
    ],
)
async def test_what_only_looks_like_grpc_is_refused(
    serve: Serve, method: str, content_type: str, status: str
) -> None:
    async with serve() as listener, connected(listener) as client:
        head = request(method, "/net.Orchestrator/Ping", ("content-type", content_type))
        client.send(client.headers(1, head, end_stream=False))
        client.send(frame(frames.DATA, frames.END_STREAM, 1, bytes(5)))
        fields, _ = await client.response(1)
        assert fields[":status"] == status


async def test_grpc_messages_that_never_end_do_not_fill_the_memory(serve: Serve) -> None:
    async with serve() as listener, connected(listener) as client:
        part = frame(frames.DATA, 0, 0, bytes(16_384))
        num_parts = 63  # close to the window of a stream
        for stream_id in range(1, 41, 2):
            client.send(client.headers(stream_id, POST_PING, end_stream=False))
            client.send((part[:5] + stream_id.to_bytes(4, "big") + part[9:]) * num_parts)
        fields, _ = await client.response(33)
        assert fields["grpc-status"] == "8"
        assert fields["grpc-message"] == "too many unfinished messages"
        client.send(*(frames.reset(stream_id, ErrorCode.CANCEL) for stream_id in range(1, 33, 2)))
        client.send(client.headers(41, POST_PING, end_stream=False))
        client.send(frame(frames.DATA, frames.END_STREAM, 41, bytes(5)))
        fields, _ = await client.response(41)
        assert fields["grpc-status"] == "0"


async def test_a_grpc_request_that_never_ends_is_timed_out(serve: Serve) -> None:
    async with serve() as listener, connected(listener) as client:
        client.send(client.headers(1, POST_PING, end_stream=False))
        await still_serves(client, 3)
        listener.sweep(time.monotonic() + 61)
        fields, _ = await client.response(1)
        assert fields["grpc-status"] == "4"


async def test_a_grpc_path_without_the_content_type_is_an_ordinary_route(serve: Serve) -> None:
    async with serve() as listener, connected(listener) as client:
        head = request("POST", "/net.Orchestrator/Ping", ("content-type", "application/json"))
        client.send(client.headers(1, head))
        fields, body = await client.response(1)
        assert (fields[":status"], body) == ("404", b"404 page not found\n")
