"""How a connection ends: timeouts, draining, limits, and peers that never read."""

import asyncio
import contextlib
import time
from dataclasses import replace

from edge.conftest import Serve, Waiting
from edge.raw_http2 import GET_WAITING, connected, goes_away, request, still_serves

from lpnode.edge.http2 import frames
from lpnode.edge.http2.frames import ErrorCode, frame
from lpnode.edge.listener import ListenerConfig


async def test_a_frame_that_never_ends_is_timed_out(serve: Serve) -> None:
    async with serve() as listener, connected(listener) as client:
        await client.until(frames.SETTINGS)
        client.send(frames.frame_head(1000, frames.HEADERS, 0, 1) + b"\x82")
        await client.until(frames.SETTINGS)  # the answer to ours: the rest is being read
        await asyncio.sleep(0.01)
        listener.sweep(time.monotonic() + 29)
        assert listener.num_connections == 1
        listener.sweep(time.monotonic() + 31)
        await client.closes()


async def test_a_header_block_that_drips_is_timed_out_as_a_whole(serve: Serve) -> None:
    later = 0.0
    async with (
        serve(clock=lambda: time.monotonic() + later) as listener,
        connected(listener) as client,
    ):
        client.send(frame(frames.HEADERS, 0, 1, b"\x82"))
        for _ in range(3):
            client.send(frame(frames.CONTINUATION, 0, 1, b"\x86"))
            await asyncio.sleep(0.05)
            later += 12.0
        listener.sweep(time.monotonic() + later)
        assert await goes_away(client) == ErrorCode.NO_ERROR


async def test_an_idle_connection_is_closed_and_one_with_a_stream_is_not(
    serve: Serve, waiting: Waiting
) -> None:
    async with serve() as listener, connected(listener) as client:
        client.send(client.headers(1, GET_WAITING))
        await waiting.until(started=1)
        listener.sweep(time.monotonic() + 86_400)
        await still_serves(client, 3)
        client.send(frames.reset(1, ErrorCode.CANCEL))
        await waiting.until(stopped=1)
        listener.sweep(time.monotonic() + 601)
        assert await goes_away(client) == ErrorCode.NO_ERROR


async def test_draining_announces_itself_and_waits_for_open_streams(
    serve: Serve, waiting: Waiting
) -> None:
    async with serve() as listener, connected(listener) as client:
        client.send(client.headers(1, request("POST", "/mirror"), end_stream=False))
        await client.until(frames.HEADERS)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(listener.drain(5.0), name="drain")
            assert (await client.until(frames.GOAWAY)).code == ErrorCode.NO_ERROR
            client.send(client.headers(3, GET_WAITING))
            assert (await client.until(frames.RST_STREAM)).code == ErrorCode.REFUSED_STREAM
            client.send(frame(frames.DATA, frames.END_STREAM, 1, b"the rest"))
            assert (await client.until(frames.DATA)).payload == b"the rest"
            await client.closes()


async def test_draining_cuts_what_is_left_at_its_deadline(serve: Serve, waiting: Waiting) -> None:
    async with serve() as listener, connected(listener) as client:
        client.send(client.headers(1, GET_WAITING))
        await waiting.until(started=1)
        await listener.drain(0.05)
        await waiting.until(stopped=1)


async def test_connections_over_the_limit_are_closed_at_once(serve: Serve) -> None:
    config = replace(ListenerConfig(), max_connections=1)
    async with serve(config) as listener, connected(listener) as first:
        await still_serves(first, 1)
        reader, writer = await asyncio.open_connection("127.0.0.1", listener.port)
        with contextlib.suppress(ConnectionResetError):
            assert await reader.read() == b""
        writer.close()
        await still_serves(first, 3)


async def test_a_peer_that_never_reads_cannot_hold_a_closing_connection(serve: Serve) -> None:
    async with serve() as listener, connected(listener) as client:
        await client.until(frames.SETTINGS)
        client.writer.transport.pause_reading()  # type: ignore[attr-defined]
        client.send(frames.window_update(0, 1 << 30))
        client.send(frames.settings([(frames.SETTING_INITIAL_WINDOW_SIZE, 1 << 30)]))
        big = request("POST", "/net.Orchestrator/Big", ("content-type", "application/grpc"))
        for stream_id in (1, 3, 5, 7):
            client.send(client.headers(stream_id, big, end_stream=False))
            client.send(frame(frames.DATA, frames.END_STREAM, stream_id, bytes(5)))
        await asyncio.sleep(0.2)  # the socket's buffers are full
        client.send(frame(frames.PING, 0, 0, b"short"))
        await asyncio.sleep(0.7)
        now = time.monotonic()
        listener.sweep(now)
        assert listener.num_connections == 1
        listener.sweep(now + 11)
        await asyncio.sleep(0.05)
        assert listener.num_connections == 0
