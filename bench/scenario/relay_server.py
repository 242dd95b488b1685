"""A trickle relay in a process of its own: lpnode's data plane, or the same on aiohttp.

Usage: python relay_server.py {lpnode|aiohttp} [certificate.pem]
Prints its port, then for each line on stdin the CPU seconds it has used; ends with stdin.
"""

import asyncio
import gc
import ssl
import sys
import time
from collections import defaultdict

import uvloop
from aiohttp import web

from lpnode.edge.trickle import TrickleConnection
from lpnode.trickle import Channels, TrickleConfig


class Pieces:
    """A segment of the aiohttp relay."""

    def __init__(self) -> None:
        self.pieces: list[bytes] = []
        self.is_closed = False
        self._waiting: list[asyncio.Future[None]] = []

    async def changed(self) -> None:
        waiting = asyncio.get_running_loop().create_future()
        self._waiting.append(waiting)
        await waiting

    def wake(self) -> None:
        for waiting in self._waiting:
            if not waiting.done():
                waiting.set_result(None)
        self._waiting.clear()


class AiohttpRelay:
    """Publish and subscribe as one writes them with handlers and StreamResponse."""

    def __init__(self) -> None:
        self._segments: dict[str, Pieces] = defaultdict(Pieces)

    async def publish(self, request: web.Request) -> web.Response:
        seq = request.match_info["seq"]
        segment = self._segments[seq]
        self._segments.pop(str(int(seq) - 5), None)
        async for piece in request.content.iter_any():
            segment.pieces.append(piece)
            segment.wake()
        segment.is_closed = True
        segment.wake()
        return web.Response(headers={"Lp-Trickle-Seq": seq})

    async def subscribe(self, request: web.Request) -> web.StreamResponse:
        seq = request.match_info["seq"]
        segment = self._segments[seq]
        while not segment.pieces:
            await segment.changed()
        response = web.StreamResponse(headers={"Lp-Trickle-Seq": seq, "Content-Type": "video/MP2T"})
        response.enable_chunked_encoding()
        await response.prepare(request)
        index = 0
        while True:
            while index < len(segment.pieces):
                await response.write(segment.pieces[index])
                index += 1
            if segment.is_closed:
                break
            await segment.changed()
        await response.write_eof()
        return response


async def start_lpnode(tls: ssl.SSLContext | None) -> int:
    config = TrickleConfig(max_subscribers=1000)
    channels = Channels(config)
    for name in ("ch", *(f"ch{number}" for number in range(50))):
        channels.create(name, "video/MP2T")
    server = await asyncio.get_running_loop().create_server(
        lambda: TrickleConnection(channels, config, lambda transport, _: transport.abort()),
        "127.0.0.1",
        0,
        ssl=tls,
    )
    return int(server.sockets[0].getsockname()[1])


async def start_aiohttp(tls: ssl.SSLContext | None) -> int:
    relay = AiohttpRelay()
    application = web.Application(client_max_size=1 << 30)
    application.router.add_post("/ai/trickle/ch/{seq}", relay.publish)
    application.router.add_get("/ai/trickle/ch/{seq}", relay.subscribe)
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls)
    await site.start()
    return int(runner.addresses[0][1])


async def main(kind: str, certificate: str | None) -> None:
    tls = None
    if certificate is not None:
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(certificate)
    port = await (start_lpnode(tls) if kind == "lpnode" else start_aiohttp(tls))
    gc.collect()
    gc.freeze()
    print(port, flush=True)
    ended = asyncio.Event()

    def answer() -> None:
        if sys.stdin.readline():
            print(time.process_time(), flush=True)
        else:
            ended.set()

    asyncio.get_running_loop().add_reader(sys.stdin, answer)
    await ended.wait()


if __name__ == "__main__":
    uvloop.run(main(sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else None))
