"""HTTP/1.1 for ordinary routes: aiohttp's server under this node's limits and Handlers.

aiohttp parses and frames; what it does not know is here: a deadline and a limit for a request's
head, an end for half-closed peers, and which handler to stop when a peer leaves.

Source: discovery.md section 1.1.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any, cast

from aiohttp import StreamReader, web
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.web_protocol import RequestHandler
from multidict import CIMultiDict

from lpnode.edge.exchange import Handler, Headers, Request, Response, closing_body
from lpnode.errors import ConfigError, PeerGone, ProtocolError

logger = logging.getLogger(__name__)

_HEAD_END = b"\r\n\r\n"
# A peer that has closed its sending half still gets a short answer; a long one is not waited for.
_HALF_CLOSED_S = 0.5
LINGER_S = 0.5
"""How long a refused connection is read on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Http1Config:
    """``max_head_bytes`` bounds request line and fields together; times in seconds."""

    max_head_bytes: int = 1 << 20
    max_fields: int = 4096
    head_timeout_s: float = 30.0
    idle_timeout_s: float = 600.0
    lingering_s: float = 1.0

    def __post_init__(self) -> None:
        if self.max_head_bytes < 8192:
            raise ConfigError(f"max_head_bytes must be at least 8192, got {self.max_head_bytes}")


class Http1Server:
    """Makes the protocol objects of HTTP/1.1 connections. Built inside a running loop."""

    def __init__(self, config: Http1Config, handler: Handler, clock: Callable[[], float]) -> None:
        self._config = config
        self._handler = handler
        self._clock = clock
        self._connections: dict[RequestHandler, Http1Connection] = {}
        # Heads over the limits are refused before aiohttp sees the excess; its own are behind ours.
        size = 2 * config.max_head_bytes
        self._server = web.Server(
            self._handle,
            keepalive_timeout=config.idle_timeout_s,
            max_line_size=size,
            max_field_size=size,
            max_headers=2 * config.max_fields,
            lingering_time=config.lingering_s,
            auto_decompress=False,
            access_log=None,
            logger=_Demoted(logger, None),
        )

    def connection(self) -> "Http1Connection":
        """A protocol for one accepted connection."""
        inner = self._server()
        connection = Http1Connection(self, inner, self._config, self._clock)
        self._connections[inner] = connection
        return connection

    def forget(self, inner: RequestHandler) -> None:
        """The connection of ``inner`` is lost."""
        self._connections.pop(inner, None)

    async def wait_closed(self) -> None:
        """Waits for the tasks of connections that are lost already."""
        while self._server.connections:  # noqa: ASYNC110 aiohttp tells nobody when they end
            await asyncio.sleep(0)

    async def _handle(self, incoming: web.BaseRequest) -> web.StreamResponse:
        connection = self._connections.get(incoming.protocol)
        task = asyncio.current_task()
        if connection is None or task is None:
            raise ConnectionResetError("the peer is gone")
        connection.begin(task)
        try:
            return await self._answer(connection, incoming)
        finally:
            connection.end()

    async def _answer(
        self, connection: "Http1Connection", incoming: web.BaseRequest
    ) -> web.StreamResponse:
        raw_path, _, query = incoming.raw_path.partition("?")
        if "://" in raw_path[:8]:  # absolute form: RFC 9112 section 3.2.2
            rest = raw_path.partition("://")[2]
            raw_path = "/" + rest.partition("/")[2]
        request = Request(
            incoming.method,
            raw_path,
            query,
            Headers(incoming.headers.items()),
            _Body(incoming.content, connection),
            f"{incoming.version.major}.{incoming.version.minor}",
            connection.peer,
        )
        if incoming.headers.get("Expect", "").lower() == "100-continue":
            connection.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        try:
            response = await self._handler(request)
        except PeerGone:
            connection.abort()
            return web.Response()  # there is nobody to send it to
        headers = CIMultiDict(response.headers)
        if isinstance(response.body, bytes):
            whole = web.Response(status=response.status, headers=headers, body=response.body)
            if connection.is_draining or not incoming.content.is_eof():
                whole.force_close()
            return whole
        return await self._stream(connection, incoming, response, response.body, headers)

    async def _stream(
        self,
        connection: "Http1Connection",
        incoming: web.BaseRequest,
        response: Response,
        body: AsyncIterator[bytes],
        headers: CIMultiDict[str],
    ) -> web.StreamResponse:
        outgoing = web.StreamResponse(status=response.status, headers=headers)
        if incoming.version >= (1, 1):
            outgoing.enable_chunked_encoding()
        if connection.is_draining or incoming.version < (1, 1):
            outgoing.force_close()
        connection.is_streaming = True
        async with closing_body(body) as pieces:
            await outgoing.prepare(incoming)
            if incoming.method != "HEAD":
                try:
                    async for piece in pieces:
                        if piece:
                            await outgoing.write(piece)
                except (ConnectionError, asyncio.CancelledError):
                    raise
                except Exception:  # logged here, and raised on
                    logger.exception("answer to %s broke off", connection.peer)
                    # The head is out: only a broken connection can say that the rest is missing.
                    connection.abort()
                    raise
        await outgoing.write_eof()
        if not incoming.content.is_eof():
            outgoing.force_close()
        return outgoing


class Http1Connection(asyncio.Protocol):
    """One connection: passes everything on to aiohttp's protocol and watches over it."""

    def __init__(
        self,
        server: Http1Server,
        inner: RequestHandler,
        config: Http1Config,
        clock: Callable[[], float],
    ) -> None:
        self.peer = ""
        self.is_streaming = False
        self.is_reading = False
        self.is_draining = False
        self._server = server
        self._inner = inner
        self._config = config
        self._clock = clock
        self._task: asyncio.Task[object] | None = None
        self._head_bytes = 0
        self._head_lines = 0
        self._head_tail = b""
        self._is_head_whole = False
        self._head_since: float | None = None
        self._is_refused = False
        self._half_closed: asyncio.TimerHandle | None = None
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's TLS transport has the interface without the type.
        self._transport = cast(asyncio.Transport, transport)
        peer = transport.get_extra_info("peername")
        self.peer = f"{peer[0]}:{peer[1]}" if isinstance(peer, tuple) else ""
        self._inner.connection_made(transport)

    def data_received(self, data: bytes) -> None:
        if self._is_refused:
            return
        if self._task is None and not self._is_head_whole and not self._is_head_allowed(data):
            self._refuse(b"431 Request Header Fields Too Large")
            return
        try:
            self._inner.data_received(data)
        except HttpProcessingError as error:
            logger.debug("malformed request from %s: %s", self.peer, error)
            self._refuse(b"400 Bad Request")

    def eof_received(self) -> bool:
        """Keeps the connection for a moment if a short answer is on its way."""
        self._inner.eof_received()
        has_request = self._task is not None or self._head_since is not None
        if not has_request or self.is_reading or self.is_streaming or self._is_refused:
            return False
        if not self._transport.can_write_eof():
            return False  # TLS has no half-closed connections
        loop = asyncio.get_running_loop()
        self._half_closed = loop.call_later(_HALF_CLOSED_S, self._transport.close)
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        self._server.forget(self._inner)
        if self._half_closed is not None:
            self._half_closed.cancel()
        self._inner.connection_lost(exc)
        if self._task is not None and not self.is_reading:
            self._task.cancel()

    def pause_writing(self) -> None:
        self._inner.pause_writing()

    def resume_writing(self) -> None:
        self._inner.resume_writing()

    def sweep(self, now: float) -> None:
        """Ends a head that has been incomplete for too long. Called every few seconds."""
        if self._head_since is not None and now - self._head_since > self._config.head_timeout_s:
            self._refuse(b"408 Request Timeout")

    def drain(self) -> None:
        """Closes now, or after the request that is arriving or being answered."""
        self.is_draining = True
        if self._task is None and self._head_since is None:
            self._transport.close()

    def begin(self, task: asyncio.Task[object]) -> None:
        """A head is complete and its handler starts, as ``task``."""
        self._task = task
        self._head_since = None
        self.is_streaming = False

    def end(self) -> None:
        """The handler is done; what comes next is another head."""
        self._task = None
        self._head_bytes = self._head_lines = 0
        self._head_tail = b""
        self._is_head_whole = False
        if self._half_closed is not None:
            self._inner.close()

    def write(self, data: bytes) -> None:
        """Writes an interim response."""
        if not self._transport.is_closing():
            self._transport.write(data)

    def abort(self) -> None:
        """Breaks the connection off."""
        self._transport.abort()

    def _is_head_allowed(self, data: bytes) -> bool:
        if self._head_since is None:
            self._head_since = self._clock()
        data = self._head_tail + data
        end = data.find(_HEAD_END)
        self._is_head_whole = end >= 0
        kept = min(len(_HEAD_END) - 1, len(data))
        seen = end if end >= 0 else len(data) - kept
        self._head_tail = data[len(data) - kept :]
        self._head_bytes += seen
        self._head_lines += data.count(b"\n", 0, seen)
        config = self._config
        return self._head_bytes <= config.max_head_bytes and self._head_lines <= config.max_fields

    def _refuse(self, status: bytes) -> None:
        self._is_refused = True
        self._head_since = None
        refuse(self._transport, status)


class _Demoted(logging.LoggerAdapter[logging.Logger]):
    """What aiohttp reports as errors is what peers do; our own failures are logged by us."""

    def log(self, level: int, msg: object, *args: object, **kwargs: Any) -> None:
        super().log(logging.DEBUG, msg, *args, **kwargs)


class _Body:
    """aiohttp's request body as a Body."""

    __slots__ = ("_connection", "_content")

    def __init__(self, content: StreamReader, connection: Http1Connection) -> None:
        self._content = content
        self._connection = connection

    async def read(self) -> bytes:
        self._connection.is_reading = True
        try:
            return await self._content.readany()
        except ConnectionError as error:
            raise PeerGone("the peer ended the request before its body") from error
        except (web.RequestPayloadError, HttpProcessingError) as error:
            raise ProtocolError(f"malformed request body: {error}") from error
        finally:
            self._connection.is_reading = False


def refuse(transport: asyncio.Transport, status: bytes) -> None:
    """Answers what never became a request, and closes. ``status`` is code and reason phrase.

    What still comes in has to be read and dropped until then: closing with unread bytes makes the
    kernel send a reset, which may overtake the answer.
    """
    text = status + b"\n"
    transport.write(
        b"HTTP/1.1 %b\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: %d\r\n"
        b"Connection: close\r\n\r\n%b" % (status, len(text), text)
    )
    asyncio.get_running_loop().call_later(LINGER_S, transport.close)
