"""Trickle shares the port: the fast path on HTTP/1.1, the handlers on everything else."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import httpx
import pytest
from edge.conftest import healthz

from lpnode.edge.listener import Listener, ListenerConfig
from lpnode.edge.routes import ANY, Route, Router
from lpnode.edge.trickle import TrickleConnection, TrickleRoutes
from lpnode.trickle import Channels, LocalPublisher, TrickleConfig

BASE = b"/ai/trickle/"


@pytest.fixture
def channels() -> Channels:
    channels = Channels(TrickleConfig())
    channels.create("stream", "video/mp2t")
    return channels


@asynccontextmanager
async def serving(channels: Channels, tls: ssl.SSLContext | None = None) -> AsyncIterator[Listener]:
    def fast(fallback: Callable[[asyncio.Transport, bytes], None]) -> TrickleConnection:
        return TrickleConnection(channels, channels.config, fallback)

    slow = TrickleRoutes(channels).handle
    router = Router(
        [
            Route(path="/healthz", handler=healthz, methods=ANY),
            Route(path="/ai/trickle/*", handler=slow, methods=ANY, max_body_bytes=None),
        ]
    )
    listener = Listener(ListenerConfig(host="127.0.0.1", port=0), tls=tls, trickle=fast)
    await listener.bind()
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(listener.run(router), name="listener")
        yield listener
        await listener.drain(0.5)


async def test_one_connection_goes_between_trickle_and_ordinary_routes(
    channels: Channels,
) -> None:
    async with serving(channels) as listener:
        reader, writer = await asyncio.open_connection("127.0.0.1", listener.port)
        for path in (BASE + b"stream/next", b"/healthz", BASE + b"stream/next", b"/healthz"):
            writer.write(b"GET " + path + b" HTTP/1.1\r\nHost: n\r\n\r\n")
            head = await reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 200 ")
            if path.endswith(b"next"):
                assert await reader.readexactly(1) == b"0"
        assert listener.num_connections == 1
        writer.close()


async def test_a_connection_may_change_hands_before_its_peer_has_read(channels: Channels) -> None:
    data = bytes(4 << 20)
    LocalPublisher(channels.find("stream")).publish(data)
    failures: list[dict[str, object]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: failures.append(context))
    async with serving(channels) as listener:
        reader, writer = await asyncio.open_connection("127.0.0.1", listener.port, limit=1 << 10)
        writer.write(b"GET " + BASE + b"stream/0 HTTP/1.1\r\nHost: n\r\n\r\n")
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"GET /healthz HTTP/1.1\r\nHost: n\r\n\r\n")
        await asyncio.sleep(0.2)  # for the node to take the request while the answer is unread
        assert await reader.readuntil(b"\r\n") == b"400000\r\n"
        assert await reader.readexactly(len(data)) == data
        await reader.readuntil(b"0\r\n\r\n")
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 ")
        writer.close()
    assert not failures


@pytest.mark.parametrize("http2", [True, False])
async def test_a_segment_goes_through_over_tls(
    channels: Channels, tls: ssl.SSLContext, http2: bool
) -> None:
    async with serving(channels, tls) as listener:
        base = f"https://127.0.0.1:{listener.port}/ai/trickle/stream"
        async with httpx.AsyncClient(verify=False, http2=http2, timeout=10) as client:
            async with asyncio.TaskGroup() as tasks:
                reading = tasks.create_task(client.get(f"{base}/0"))
                posted = await client.post(f"{base}/0", content=b"segment" * 50_000)
            assert posted.status_code == 200
            assert posted.headers["lp-trickle-seq"] == "0"
            assert reading.result().content == b"segment" * 50_000
            assert reading.result().http_version == ("HTTP/2" if http2 else "HTTP/1.1")
            missing = await client.get(f"{base}/9")
            assert missing.status_code == 470


async def test_a_waiting_subscriber_over_http2_is_released_when_it_leaves(
    channels: Channels, tls: ssl.SSLContext
) -> None:
    async with serving(channels, tls) as listener:
        url = f"https://127.0.0.1:{listener.port}/ai/trickle/stream/0"
        async with httpx.AsyncClient(verify=False, http2=True) as client:
            with pytest.raises(httpx.ReadTimeout):
                await client.get(url, timeout=0.2)
            assert (await client.get(url.removesuffix("0") + "next")).text == "0"
