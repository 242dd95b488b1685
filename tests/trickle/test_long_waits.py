"""Waits of minutes and hours, on real sockets and a clock that jumps. (T28, T39, T44, T52-T55)"""

import asyncio

import aiohttp
from trickle.raw_http import RawConnection
from trickle.trickle_server import TrickleServer, until
from trickle.virtual_time import run_in_virtual_time

from lpnode.trickle import LocalPublisher, RemoteSubscriber, TrickleConfig

BASE = "/ai/trickle/ch"
CHUNKED = {"Transfer-Encoding": "chunked"}


def test_a_connection_silent_for_five_minutes_before_its_first_request_is_served() -> None:
    async def scenario() -> None:
        async with TrickleServer(TrickleConfig()).listening() as server:
            server.channels.create("ch", "")
            connection = await RawConnection.open(server.port)
            await asyncio.sleep(300)
            response, body = await connection.request("GET", f"{BASE}/next", {}, None)
            assert (response.status, body) == (200, b"0")
            await connection.close()

    run_in_virtual_time(scenario())


def test_an_idle_connection_is_closed_after_the_keep_alive_time() -> None:
    async def scenario() -> None:
        async with TrickleServer(TrickleConfig()).listening() as server:
            server.channels.create("ch", "")
            connection = await RawConnection.open(server.port)
            await connection.request("GET", f"{BASE}/next", {}, None)
            start_s = asyncio.get_running_loop().time()
            assert await connection.is_ended()
            assert asyncio.get_running_loop().time() - start_s >= 600
            await connection.close()

    run_in_virtual_time(scenario())


def test_a_ten_minute_post_and_a_ten_minute_get_are_not_cut() -> None:
    async def scenario() -> None:
        async with TrickleServer(TrickleConfig()).listening() as server, asyncio.TaskGroup() as run:
            sweeping = run.create_task(server.channels.run())
            channel = server.channels.create("ch", "")
            other = LocalPublisher(server.channels.create("kept", ""))
            writer = await RawConnection.open(server.port)
            writer.send_head("POST", f"{BASE}/0", CHUNKED)
            waiting = await RawConnection.open(server.port)
            waiting.send_head("GET", "/ai/trickle/kept/599", {})
            reader = await RawConnection.open(server.port)
            reader.send_head("GET", f"{BASE}/0", {})
            for number in range(598):
                other.publish(b"x")
                await asyncio.sleep(1)
                if number == 0:
                    waiting.abort()
                writer.send_chunk(b"y")
            late = await RawConnection.open(server.port)
            late.send_head("GET", "/ai/trickle/kept/-1", {})
            await asyncio.sleep(200)
            other.publish(b"z")
            writer.finish()
            assert (await writer.read_head()).status == 200
            assert (await reader.read_head()).status == 200
            assert await reader.read_rest() == b"y" * 598
            assert (await late.read_head()).status == 200
            assert await late.read_rest() == b"z"
            assert channel.next == 1
            for connection in (writer, reader, late, waiting):
                await connection.close()
            sweeping.cancel()

    run_in_virtual_time(scenario())


def test_a_waiting_post_gets_an_interim_response_every_ten_seconds_and_none_later() -> None:
    async def scenario() -> None:
        async with TrickleServer(TrickleConfig()).listening() as server:
            server.channels.create("ch", "")
            loop = asyncio.get_running_loop()
            writer = await RawConnection.open(server.port)
            writer.send_head("POST", f"{BASE}/0", CHUNKED)
            start_s = loop.time()
            for _ in range(12):
                assert (await writer.read_any_head()).status == 100
            assert 120 <= loop.time() - start_s < 130
            writer.send_chunk(b"x")
            assert await writer.is_silent(100)
            await writer.close()

    run_in_virtual_time(scenario())


def test_a_slow_request_head_is_answered_408() -> None:
    async def scenario() -> None:
        async with TrickleServer(TrickleConfig()).listening() as server:
            for start in (b"GE", b"GET /ai/trickle/ch/0 HTTP/1.1\r\nHost:"):
                connection = await RawConnection.open(server.port)
                connection.writer.write(start)
                assert (await connection.read_head()).status == 408
                await connection.read_rest()
                assert await connection.is_ended()
                await connection.close()

    run_in_virtual_time(scenario())


def test_a_subscriber_that_refreshes_for_an_hour_of_silence_loses_nothing() -> None:
    async def scenario() -> None:
        config = TrickleConfig()
        async with (
            TrickleServer(config).listening() as server,
            aiohttp.ClientSession() as http,
        ):
            channel = server.channels.create("_ch", "")
            url = f"http://127.0.0.1:{server.port}/ai/trickle/_ch"
            tasks_before = len(asyncio.all_tasks())
            async with RemoteSubscriber(url, http) as subscriber:
                await asyncio.sleep(3600)
                assert len(server.connections) > 170
                assert channel.num_subscribers == 1
                segment = channel.find(0)
                assert segment is not None
                assert segment.num_readers == 1
                assert len(asyncio.all_tasks()) - tasks_before <= 2
                LocalPublisher(channel).publish(b"at last")
                reader = await subscriber.next_segment()
                assert await reader.read_all(100) == b"at last"
            await until(lambda: channel.num_subscribers == 0)

    run_in_virtual_time(scenario())


def test_the_sweep_closes_silent_channels_but_not_under_a_writing_publisher() -> None:
    async def scenario() -> None:
        async with TrickleServer(TrickleConfig()).listening() as server, asyncio.TaskGroup() as run:
            sweeping = run.create_task(server.channels.run())
            server.channels.create("silent", "")
            server.channels.create("ch", "")
            writer = await RawConnection.open(server.port)
            writer.send_head("POST", f"{BASE}/0", CHUNKED)
            for _ in range(20):
                writer.send_chunk(b"y")
                await asyncio.sleep(60)
            assert "silent" not in server.channels
            assert "ch" in server.channels
            sweeping.cancel()
            await writer.close()

    run_in_virtual_time(scenario())
