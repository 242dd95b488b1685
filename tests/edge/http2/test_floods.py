"""Peers that keep the rules in the most expensive way: cheap to send, dear to serve."""

import sys

import pytest
from edge.conftest import Serve, Waiting
from edge.raw_http2 import GET_WAITING, POST_ECHO, POST_PING, connected, goes_away, still_serves

from lpnode.edge.http2 import frames
from lpnode.edge.http2.frames import ErrorCode, frame


async def test_rapid_resets_end_the_connection_and_leave_no_handler(
    serve: Serve, waiting: Waiting
) -> None:
    async with serve() as listener, connected(listener) as client:
        block = client.block(GET_WAITING)
        for stream_id in range(1, 4001, 2):
            client.send(
                frames.header_frames(stream_id, block, 16384, end_stream=True),
                frames.reset(stream_id, ErrorCode.CANCEL),
            )
            block = client.block(GET_WAITING)
        assert await goes_away(client) == ErrorCode.ENHANCE_YOUR_CALM
        assert waiting.num_started == waiting.num_stopped


@pytest.mark.parametrize(
    "flood",
    [
        frame(frames.PING, 0, 0, bytes(8)),
        frame(frames.SETTINGS, 0, 0, b""),
        frame(frames.PRIORITY, 0, 1, bytes(5)),
        frame(0x99, 0, 0, b""),
    ],
    ids=["ping", "settings", "priority", "unknown"],
)
async def test_a_flood_of_idle_frames_ends_the_connection(serve: Serve, flood: bytes) -> None:
    async with serve() as listener, connected(listener) as client:
        client.send(flood * 20_000)
        assert await goes_away(client) == ErrorCode.ENHANCE_YOUR_CALM


async def test_a_flood_of_empty_data_ends_the_connection(serve: Serve) -> None:
    async with serve() as listener, connected(listener) as client:
        client.send(client.headers(1, POST_ECHO, end_stream=False))
        client.send(frame(frames.DATA, 0, 1, b"") * 20_000)
        assert await goes_away(client) == ErrorCode.ENHANCE_YOUR_CALM


async def test_a_flood_of_empty_continuations_ends_the_connection(serve: Serve) -> None:
    async with serve() as listener, connected(listener) as client:
        client.send(frame(frames.HEADERS, 0, 1, b"\x83"))
        client.send(frame(frames.CONTINUATION, 0, 1, b"") * 20_000)
        assert await goes_away(client) == ErrorCode.ENHANCE_YOUR_CALM


async def test_a_peer_that_pings_and_never_reads_is_not_buffered_without_end(serve: Serve) -> None:
    async with serve() as listener, connected(listener) as client:
        client.send(client.headers(1, POST_PING, end_stream=False))
        client.send(frame(frames.PING, 0, 0, bytes(8)) * 4000)
        await still_serves(client, 3)


async def test_a_body_in_tiny_frames_is_kept_in_few_objects(serve: Serve) -> None:
    async with serve() as listener, connected(listener) as client:
        client.send(client.headers(1, POST_PING, end_stream=False))
        await still_serves(client, 3)
        before = sys.getallocatedblocks()
        client.send(*(frame(frames.DATA, 0, 1, b"ab") for _ in range(50_000)))
        await still_serves(client, 5)
        assert sys.getallocatedblocks() - before < 10_000
