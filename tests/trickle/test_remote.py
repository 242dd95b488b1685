"""The HTTP client against the data plane."""

import asyncio
from collections.abc import AsyncIterator

import aiohttp
import pytest
from trickle.trickle_server import TrickleServer, until

from lpnode.errors import EndOfChannel, NoSuchChannel
from lpnode.trickle import (
    LocalPublisher,
    LocalSubscriber,
    RemotePublisher,
    RemoteSubscriber,
    TrickleConfig,
)


@pytest.fixture
async def server() -> AsyncIterator[TrickleServer]:
    async with TrickleServer(TrickleConfig()).listening() as server:
        server.channels.create("ch", "video/MP2T")
        yield server


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


def url_of(server: TrickleServer, name: str = "ch") -> str:
    return f"http://127.0.0.1:{server.port}/ai/trickle/{name}"


async def test_what_a_remote_publisher_writes_reaches_a_remote_subscriber(
    server: TrickleServer, http: aiohttp.ClientSession
) -> None:
    async with (
        RemoteSubscriber(url_of(server), http, start=-2) as subscriber,
        RemotePublisher(url_of(server), "video/MP2T", http) as publisher,
    ):
        for number in range(12):
            segment = await publisher.begin()
            await segment.write(b"%d-" % number)
            reader = await subscriber.next_segment()
            assert reader.seq == number
            assert await reader.read() == b"%d-" % number
            await segment.write(b"end" * 50_000)
            await segment.close()
            assert await reader.read_all(1 << 20) == b"end" * 50_000
        await publisher.close()
        with pytest.raises(EndOfChannel):
            await subscriber.next_segment()
    assert "ch" not in server.channels


async def test_the_next_request_is_open_before_it_is_needed(
    server: TrickleServer, http: aiohttp.ClientSession
) -> None:
    channel = server.channels.find("ch")
    async with RemotePublisher(url_of(server), "video/MP2T", http) as publisher:
        await until(lambda: (segment := channel.find(0)) is not None and segment.num_writers == 1)
        segment = await publisher.begin()
        await until(lambda: (ahead := channel.find(1)) is not None and ahead.num_writers == 1)
        await segment.write(b"x")
        await segment.close()
        assert channel.next == 1


async def test_a_publisher_learns_of_the_end_of_its_channel(
    server: TrickleServer, http: aiohttp.ClientSession
) -> None:
    async with RemotePublisher(url_of(server), "video/MP2T", http) as publisher:
        segment = await publisher.begin()
        await until(lambda: server.channels.find("ch").find(1) is not None)
        server.channels.close("ch")
        with pytest.raises(EndOfChannel):
            await segment.close()
        with pytest.raises(EndOfChannel):
            await publisher.begin()


async def test_clients_of_an_unknown_channel_are_told(
    server: TrickleServer, http: aiohttp.ClientSession
) -> None:
    async with RemotePublisher(url_of(server, "no"), "video/MP2T", http) as publisher:
        with pytest.raises(NoSuchChannel):
            await publisher.publish(b"x")
    async with RemoteSubscriber(url_of(server, "no"), http) as subscriber:
        with pytest.raises(NoSuchChannel):
            await subscriber.next_segment()


async def test_a_subscriber_that_asks_again_in_silence_loses_no_byte_and_leaves_nothing(
    server: TrickleServer, http: aiohttp.ClientSession
) -> None:
    channel = server.channels.find("ch")
    publisher = LocalPublisher(channel)
    async with RemoteSubscriber(url_of(server), http, refresh_s=0.1) as subscriber:
        await until(lambda: len(server.connections) > 5, within_s=10)
        assert channel.num_subscribers <= 2
        publisher.publish(b"first")
        assert await (await subscriber.next_segment()).read_all(100) == b"first"
        publisher.publish(b"second")
        assert await (await subscriber.next_segment()).read_all(100) == b"second"
    await until(lambda: channel.num_subscribers == 0)


async def test_a_subscriber_that_fell_out_of_the_ring_goes_on_at_the_write_position(
    server: TrickleServer, http: aiohttp.ClientSession
) -> None:
    channel = server.channels.find("ch")
    publisher = LocalPublisher(channel)
    for number in range(8):
        publisher.publish(b"%d" % number)
    async with RemoteSubscriber(url_of(server), http, start=1) as subscriber:
        async with asyncio.TaskGroup() as tasks:
            waiting = tasks.create_task(subscriber.next_segment())
            await until(lambda: channel.num_subscribers == 1)
            publisher.publish(b"8")
        assert waiting.result().seq == 8
        assert subscriber.skipped == 7


async def test_a_segment_that_is_disowned_ends_for_its_readers(
    server: TrickleServer, http: aiohttp.ClientSession
) -> None:
    reader = await LocalSubscriber(server.channels.find("ch"), 0).next_segment()
    async with RemotePublisher(url_of(server), "video/MP2T", http) as publisher:
        segment = await publisher.begin()
        await segment.write(b"half")
        assert await reader.read() == b"half"
        await publisher.disown(segment)
        assert await reader.read() == b""
        await publisher.publish(b"whole")
