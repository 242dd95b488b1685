"""Frames that break the rules of the connection or of their stream."""

import pytest
from edge.conftest import Serve
from edge.raw_http2 import GET_WAITING, connected, goes_away, request, still_serves

from lpnode.edge.http2 import frames
from lpnode.edge.http2.frames import ErrorCode, frame


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        (frame(frames.DATA, 0, 1, b"x"), ErrorCode.PROTOCOL_ERROR),
        (frame(frames.DATA, 0, 0, b"x"), ErrorCode.PROTOCOL_ERROR),
        (frame(frames.HEADERS, frames.END_HEADERS, 2, b"\x82"), ErrorCode.PROTOCOL_ERROR),
        (frame(frames.HEADERS, frames.END_HEADERS, 0, b"\x82"), ErrorCode.PROTOCOL_ERROR),
        (frame(frames.HEADERS, frames.END_HEADERS, 1, b"\xff"), ErrorCode.COMPRESSION_ERROR),
        (frame(frames.HEADERS, frames.END_HEADERS, 1, b"\x80"), ErrorCode.COMPRESSION_ERROR),
        (frame(frames.HEADERS, frames.END_HEADERS, 1, b"\x3f\xe2\x1f"),
         ErrorCode.COMPRESSION_ERROR),
        (frame(frames.HEADERS, frames.PADDED, 1, b"\xff"), ErrorCode.PROTOCOL_ERROR),
        (frame(frames.HEADERS, frames.PRIORITISED, 1, b"abc"), ErrorCode.FRAME_SIZE_ERROR),
        (frame(frames.HEADERS, 0, 1, b"") + frame(frames.PING, 0, 0, bytes(8)),
         ErrorCode.PROTOCOL_ERROR),
        (frame(frames.CONTINUATION, 0, 1, b""), ErrorCode.PROTOCOL_ERROR),
        (frame(frames.RST_STREAM, 0, 1, bytes(4)), ErrorCode.PROTOCOL_ERROR),
        (frame(frames.RST_STREAM, 0, 1, bytes(3)), ErrorCode.FRAME_SIZE_ERROR),
        (frame(frames.SETTINGS, 0, 1, b""), ErrorCode.PROTOCOL_ERROR),
        (frame(frames.SETTINGS, 0, 0, bytes(5)), ErrorCode.FRAME_SIZE_ERROR),
        (frame(frames.SETTINGS, frames.ACK, 0, bytes(6)), ErrorCode.FRAME_SIZE_ERROR),
        (frames.settings([(4, 1 << 31)]), ErrorCode.FLOW_CONTROL_ERROR),
        (frames.settings([(5, 100)]), ErrorCode.PROTOCOL_ERROR),
        (frames.settings([(2, 2)]), ErrorCode.PROTOCOL_ERROR),
        (frame(frames.PUSH_PROMISE, 0, 1, bytes(4)), ErrorCode.PROTOCOL_ERROR),
        (frame(frames.PING, 0, 0, b"short"), ErrorCode.FRAME_SIZE_ERROR),
        (frame(frames.PING, 0, 1, bytes(8)), ErrorCode.PROTOCOL_ERROR),
        (frames.window_update(0, 0), ErrorCode.PROTOCOL_ERROR),
        (frames.window_update(0, frames.MAX_WINDOW), ErrorCode.FLOW_CONTROL_ERROR),
        (frames.window_update(5, 1), ErrorCode.PROTOCOL_ERROR),
        (frame(frames.WINDOW_UPDATE, 0, 0, b""), ErrorCode.FRAME_SIZE_ERROR),
        (frames.frame_head(1 << 20, frames.DATA, 0, 1), ErrorCode.FRAME_SIZE_ERROR),
    ],
)  # fmt: skip
async def test_a_broken_connection_rule_is_answered_with_goaway(
    serve: Serve, sent: bytes, code: ErrorCode
) -> None:
    async with serve() as listener, connected(listener) as client:
        client.send(sent)
        assert await goes_away(client) == code


async def test_garbage_behind_the_preface_is_an_error(serve: Serve) -> None:
    async with serve() as listener, connected(listener) as client:
        client.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert await goes_away(client) == ErrorCode.FRAME_SIZE_ERROR


async def test_a_body_longer_than_announced_is_reset(serve: Serve) -> None:
    async with serve() as listener, connected(listener) as client:
        head = request("POST", "/echo", ("content-length", "3"))
        client.send(client.headers(1, head, end_stream=False))
        client.send(frame(frames.DATA, frames.END_STREAM, 1, b"12345"))
        assert (await client.until(frames.RST_STREAM)).code == ErrorCode.PROTOCOL_ERROR
        await still_serves(client, 3)


async def test_data_after_the_end_is_reset(serve: Serve) -> None:
    async with serve() as listener, connected(listener) as client:
        client.send(client.headers(1, GET_WAITING))
        client.send(frame(frames.DATA, 0, 1, b"late"))
        assert (await client.until(frames.RST_STREAM)).code == ErrorCode.STREAM_CLOSED
        await still_serves(client, 3)
