"""Trickle over TLS on the node's one port, and the same operations over HTTP/2. (T54, T60)"""

import asyncio
import ssl
from pathlib import Path

import aiohttp
import httpx
import pytest
from trickle.trickle_server import TrickleServer, until

from lpnode.edge.certificate import ensure_certificate, server_context
from lpnode.trickle import LocalPublisher, RemotePublisher, RemoteSubscriber, TrickleConfig


@pytest.fixture
def tls(tmp_path: Path) -> ssl.SSLContext:
    return server_context(ensure_certificate(tmp_path, "127.0.0.1"))


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_segments_flow_over_tls_on_the_port_that_offers_http_2(
    tls: ssl.SSLContext, version: ssl.TLSVersion
) -> None:
    server = TrickleServer(TrickleConfig())
    channel = server.channels.create("ch", "video/MP2T")
    client = ssl.create_default_context()
    client.check_hostname = False
    client.verify_mode = ssl.CERT_NONE
    client.maximum_version = version
    async with server.behind_listener(data_plane=True, tls=tls):
        url = f"https://127.0.0.1:{server.port}/ai/trickle/ch"
        connector = aiohttp.TCPConnector(ssl=client)
        async with (
            aiohttp.ClientSession(connector=connector) as http,
            RemoteSubscriber(url, http, start=0) as subscriber,
            RemotePublisher(url, "video/MP2T", http) as publisher,
        ):
            for number in range(3):
                segment = await publisher.begin()
                await segment.write(b"%d" % number)
                reader = await subscriber.next_segment()
                assert await reader.read() == b"%d" % number
                await segment.write(b"y" * 1_000_000)
                await segment.close()
                assert await reader.read_all(2_000_000) == b"y" * 1_000_000
        await until(lambda: channel.num_subscribers == 0)


async def test_on_http_2_nothing_of_http_1_is_left(tls: ssl.SSLContext) -> None:
    server = TrickleServer(TrickleConfig())
    channel = server.channels.create("ch", "video/MP2T")
    async with (
        server.behind_listener(data_plane=True, tls=tls),
        httpx.AsyncClient(
            http1=False, http2=True, verify=False, base_url=f"https://127.0.0.1:{server.port}"
        ) as http,
    ):
        gone = await http.post("/ai/trickle/gone/0", content=b"x")
        empty = await http.post("/ai/trickle/ch/0", content=b"")
        published = await http.post("/ai/trickle/ch/1", content=b"over http/2")
        read = await http.get("/ai/trickle/ch/1")
        refused = await http.get("/ai/trickle/ch/9")
        for response in (gone, empty, published, read, refused):
            assert response.http_version == "HTTP/2"
            assert "connection" not in response.headers
            assert "transfer-encoding" not in response.headers
        assert [gone.status_code, empty.status_code, published.status_code] == [404, 200, 200]
        assert read.content == b"over http/2"
        assert (refused.status_code, refused.headers["lp-trickle-latest"]) == (470, "2")
        async with asyncio.TaskGroup() as tasks:
            waiting = tasks.create_task(http.get("/ai/trickle/ch/2"))
            await until(lambda: channel.num_subscribers == 1)
            LocalPublisher(channel).publish(b"at the edge")
        assert waiting.result().content == b"at the edge"


async def test_a_subscriber_whose_http_2_connection_ends_is_freed(tls: ssl.SSLContext) -> None:
    server = TrickleServer(TrickleConfig())
    channel = server.channels.create("ch", "")
    async with server.behind_listener(data_plane=True, tls=tls):
        async with httpx.AsyncClient(http1=False, http2=True, verify=False) as http:
            url = f"https://127.0.0.1:{server.port}/ai/trickle/ch/0"
            with pytest.raises(httpx.ReadTimeout):
                await http.get(url, timeout=0.2)
            assert channel.num_subscribers == 1
        await until(lambda: channel.num_subscribers == 0)
        segment = channel.find(0)
        assert segment is not None
        assert segment.num_readers == 0
