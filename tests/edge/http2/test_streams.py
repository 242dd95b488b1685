"""Streams from their head to the end of their answer, however it comes."""

import pytest
from edge.conftest import Serve, Waiting
from edge.raw_http2 import GET_WAITING, connected, request, still_serves

from lpnode.edge.http2 import frames
from lpnode.edge.http2.connection import Http2Config
from lpnode.edge.http2.frames import ErrorCode, frame
from lpnode.edge.listener import ListenerConfig


async def test_streams_over_the_limit_are_refused(serve: Serve, waiting: Waiting) -> None:
    config = ListenerConfig(http2=Http2Config(max_streams=3))
    async with serve(config) as listener, connected(listener) as client:
        for stream_id in (1, 3, 5, 7):
            client.send(client.headers(stream_id, GET_WAITING))
        reset = await client.until(frames.RST_STREAM)
        assert (reset.stream_id, reset.code) == (7, ErrorCode.REFUSED_STREAM)
        client.send(frames.reset(1, ErrorCode.CANCEL))
        await waiting.until(stopped=1)
        await still_serves(client, 9)


@pytest.mark.parametrize("how", ["reset", "disconnect", "half-close"])
async def test_a_handler_stops_when_its_peer_leaves(
    serve: Serve, waiting: Waiting, how: str
) -> None:
    async with serve() as listener, connected(listener) as client:
        client.send(client.headers(1, GET_WAITING))
        await waiting.until(started=1)
        if how == "reset":
            client.send(frames.reset(1, ErrorCode.CANCEL))
        elif how == "disconnect":
            client.writer.transport.abort()
        else:
            client.writer.write_eof()
        await waiting.until(stopped=1)


async def test_an_answer_before_the_end_of_the_body_closes_the_request_side(serve: Serve) -> None:
    async with serve() as listener, connected(listener) as client:
        client.send(client.headers(1, request("POST", "/early"), end_stream=False))
        fields, body = await client.response(1)
        assert (fields[":status"], body) == ("409", b"no need to read\n")
        assert (await client.until(frames.RST_STREAM)).code == ErrorCode.NO_ERROR
        client.send(frame(frames.DATA, frames.END_STREAM, 1, b"late"))
        await still_serves(client, 3)


@pytest.mark.parametrize("announced", [True, False])
async def test_a_body_over_its_routes_limit_is_413(serve: Serve, announced: bool) -> None:
    async with serve() as listener, connected(listener) as client:
        extra = [("content-length", "5000")] if announced else []
        client.send(client.headers(1, request("POST", "/small", *extra), end_stream=False))
        client.send(frame(frames.DATA, 0, 1, bytes(2000)))
        fields, body = await client.response(1)
        assert (fields[":status"], body) == ("413", b"request body is over 1000 bytes\n")
        await still_serves(client, 3)


async def test_a_failing_handler_is_a_500_without_its_reason(serve: Serve) -> None:
    async with serve() as listener, connected(listener) as client:
        client.send(client.headers(1, request("GET", "/broken")))
        fields, body = await client.response(1)
        assert (fields[":status"], body) == ("500", b"internal error\n")
