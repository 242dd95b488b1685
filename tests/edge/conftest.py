"""A listener that really listens, with routes that show what reached them."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from lpnode.edge.certificate import ensure_certificate, server_context
from lpnode.edge.exchange import Request, Response, read_body, text_response
from lpnode.edge.listener import Listener, ListenerConfig
from lpnode.edge.routes import Route, Router
from lpnode.errors import DiscoveryRefused

Serve = Callable[..., AbstractAsyncContextManager[Listener]]


async def healthz(request: Request) -> Response:
    return Response()


async def echo(request: Request) -> Response:
    body = await read_body(request)
    said = f"{request.method} {request.path} {len(body)} {request.http_version}"
    fields = [("Content-Type", "application/octet-stream"), ("X-Said", said)]
    return Response(200, fields, body)


async def mirror(request: Request) -> Response:
    """Sends each piece of the body back as it comes."""

    async def pieces() -> AsyncIterator[bytes]:
        while piece := await request.body.read():
            yield piece

    return Response(200, [("Content-Type", "application/octet-stream")], pieces())


async def early(request: Request) -> Response:
    return text_response(409, "no need to read\n")


async def broken(request: Request) -> Response:
    raise RuntimeError("a secret that stays inside")


async def header_size(request: Request) -> Response:
    return text_response(200, str(len(request.headers.get("livepeer-payment"))))


class Waiting:
    """A handler that never answers, and knows how it was stopped."""

    def __init__(self) -> None:
        self.num_started = 0
        self.num_stopped = 0
        self.changed = asyncio.Condition()

    async def __call__(self, request: Request) -> Response:
        self.num_started += 1
        await self._tell()
        try:
            await asyncio.Event().wait()
        finally:
            self.num_stopped += 1
            await self._tell()
        return Response()

    async def _tell(self) -> None:
        async with self.changed:
            self.changed.notify_all()

    async def until(self, *, stopped: int = 0, started: int = 0) -> None:
        async with asyncio.timeout(5), self.changed:
            await self.changed.wait_for(
                lambda: self.num_stopped >= stopped and self.num_started >= started
            )


def ping(message: bytes) -> bytes:
    return message


def refuse(message: bytes) -> bytes:
    raise DiscoveryRefused("Invalid orchestrator request: OrchestratorCapped")


def crash(message: bytes) -> bytes:
    raise RuntimeError("a secret that stays inside")


async def slow_ping(message: bytes) -> bytes:
    await asyncio.sleep(0)
    return message


def big(message: bytes) -> bytes:
    return bytes(3_000_000)


METHODS = {
    "/net.Orchestrator/Ping": ping,
    "/net.Orchestrator/GetOrchestrator": refuse,
    "/net.Orchestrator/EndTranscodingSession": slow_ping,
    "/net.Orchestrator/Crash": crash,
    "/net.Orchestrator/Big": big,
}


@pytest.fixture
async def waiting() -> Waiting:
    return Waiting()


@pytest.fixture
def router(waiting: Waiting) -> Router:
    return Router(
        [
            Route(path="/healthz", handler=healthz, methods="*"),
            Route(path="/echo", handler=echo, methods="POST", max_body_bytes=32 << 20),
            Route(path="/small", handler=echo, methods="POST", max_body_bytes=1000),
            Route(path="/mirror", handler=mirror, methods="POST", max_body_bytes=None),
            Route(path="/early", handler=early, methods="POST"),
            Route(path="/broken", handler=broken, methods="GET"),
            Route(path="/header", handler=header_size, methods="GET"),
            Route(path="/waiting", handler=waiting, methods="GET,POST"),
        ]
    )


@pytest.fixture
def tls(tmp_path: Path) -> ssl.SSLContext:
    return server_context(ensure_certificate(tmp_path, "127.0.0.1"))


@pytest.fixture
def serve(router: Router) -> Serve:
    @asynccontextmanager
    async def serving(
        config: ListenerConfig | None = None, **options: object
    ) -> AsyncIterator[Listener]:
        config = replace(config or ListenerConfig(), host="127.0.0.1", port=0)
        listener = Listener(config, **options)  # type: ignore[arg-type]
        await listener.bind()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(listener.run(router, METHODS), name="listener")
            try:
                yield listener
            finally:
                await listener.drain(1.0)
        assert listener.num_connections == 0

    return serving
