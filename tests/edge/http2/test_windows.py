"""Flow control, both ways."""

import asyncio

from edge.conftest import Serve, Waiting
from edge.raw_http2 import POST_ECHO, POST_PING, connected, request, still_serves

from lpnode.edge.http2 import frames
from lpnode.edge.http2.connection import Http2Config
from lpnode.edge.http2.frames import ErrorCode, frame
from lpnode.edge.listener import ListenerConfig


async def test_a_handler_that_does_not_read_stops_its_peer_at_the_window(
    serve: Serve, waiting: Waiting
) -> None:
    config = ListenerConfig(http2=Http2Config(stream_window_bytes=100_000))
    async with serve(config) as listener, connected(listener) as client:
        client.send(client.headers(1, request("POST", "/waiting"), end_stream=False))
        for _ in range(10):
            client.send(frame(frames.DATA, 0, 1, bytes(10_000)))
        await still_serves(client, 3)
        client.send(frame(frames.DATA, 0, 1, b"x"))
        reset = await client.until(frames.RST_STREAM)
        assert (reset.stream_id, reset.code) == (1, ErrorCode.FLOW_CONTROL_ERROR)
        await waiting.until(stopped=1)


async def test_the_connection_window_survives_abandoned_bodies(serve: Serve) -> None:
    config = ListenerConfig(
        http2=Http2Config(stream_window_bytes=70_000, connection_window_bytes=100_000)
    )
    async with serve(config) as listener, connected(listener) as client:
        for stream_id in range(1, 41, 2):
            client.send(client.headers(stream_id, request("POST", "/waiting"), end_stream=False))
            client.send(frame(frames.DATA, 0, stream_id, bytes(50_000)))
            client.send(frames.reset(stream_id, ErrorCode.CANCEL))
        await still_serves(client, 41)


async def test_padding_is_given_back_to_the_window(serve: Serve) -> None:
    config = ListenerConfig(
        http2=Http2Config(stream_window_bytes=70_000, connection_window_bytes=70_000)
    )
    async with serve(config) as listener, connected(listener) as client:
        client.send(client.headers(1, POST_ECHO, end_stream=False))
        for _ in range(400):
            client.send(frame(frames.DATA, frames.PADDED, 1, b"\xff" + b"y" + bytes(255)))
            await asyncio.sleep(0)
        client.send(frame(frames.DATA, frames.END_STREAM, 1, b""))
        assert await client.response(1) != ({}, b"")


async def test_a_slow_reader_holds_up_nobody_else(serve: Serve) -> None:
    async with serve() as listener, connected(listener) as client:
        big = [(n, "/net.Orchestrator/Big" if n == ":path" else v) for n, v in POST_PING]
        client.send(client.headers(1, big, end_stream=False))
        client.send(frame(frames.DATA, frames.END_STREAM, 1, bytes(5)))
        received = 0
        while received < frames.DEFAULT_WINDOW:
            received += len((await client.until(frames.DATA)).payload)
        await still_serves(client, 3)
        client.send(frames.window_update(0, 1 << 24), frames.window_update(1, 1 << 24))
        while True:
            one = await client.until(frames.DATA, frames.HEADERS)
            received += len(one.payload) if one.kind == frames.DATA else 0
            if one.ends_stream:
                break
        assert received == 3_000_005


async def test_windows_set_to_zero_and_back_release_the_answer(serve: Serve) -> None:
    no_window = [(frames.SETTING_INITIAL_WINDOW_SIZE, 0)]
    async with serve() as listener, connected(listener, settings=no_window) as client:
        client.send(client.headers(1, POST_PING, end_stream=False))
        client.send(frame(frames.DATA, frames.END_STREAM, 1, b"\0\0\0\0\3abc"))
        client.send(client.headers(3, request("POST", "/echo"), end_stream=False))
        client.send(frame(frames.DATA, frames.END_STREAM, 3, b"hello"))
        await client.until(frames.HEADERS)
        client.send(frames.settings([(frames.SETTING_INITIAL_WINDOW_SIZE, 100)]))
        bodies = {}
        while len(bodies) < 2:
            one = await client.until(frames.DATA)
            bodies[one.stream_id] = one.payload
        assert bodies == {1: b"\0\0\0\0\3abc", 3: b"hello"}
