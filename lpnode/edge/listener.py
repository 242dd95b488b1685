"""One port for gRPC, HTTP/2, HTTP/1.1 and trickle, with TLS or without.

Source: discovery.md sections 1.1 and 1.4; trickle.md section 12.
"""

import asyncio
import logging
import socket
import ssl
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import cast

from lpnode.edge.exchange import Handler
from lpnode.edge.grpc.server import GrpcConfig, UnaryMethod, UnaryMethods
from lpnode.edge.http1 import Http1Config, Http1Connection, Http1Server, refuse
from lpnode.edge.http2.connection import Http2Config, Http2Connection
from lpnode.edge.http2.exchanges import Application
from lpnode.edge.http2.frames import PREFACE
from lpnode.edge.trickle.connection import Fallback, TrickleConnection
from lpnode.errors import ConfigError

logger = logging.getLogger(__name__)

_BACKLOG = 1024
_KEEP_ALIVE = {"TCP_KEEPIDLE": 60, "TCP_KEEPINTVL": 15, "TCP_KEEPCNT": 4}
_SWEEP_S = 1.0
# A closing transport that cannot flush, because its peer does not read, is cut after this.
_CLOSING_S = 10.0

TrickleProtocol = Callable[[Fallback], TrickleConnection]
"""Makes the protocol of one connection whose request is under the trickle base path."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ListenerConfig:
    """Where to listen, and how long peers may take.

    ``host`` empty: all interfaces; ``port`` 0: any free one. A connection may stay silent before
    its first byte for ``idle_timeout_s``, and HTTP keep-alive for as long between requests.
    """

    host: str = ""
    port: int = 8935
    trickle_base: str = "/ai/trickle/"
    max_connections: int = 8192
    handshake_timeout_s: float = 10.0
    idle_timeout_s: float = 600.0
    head_timeout_s: float = 30.0
    http1: Http1Config = field(default_factory=Http1Config)
    http2: Http2Config = field(default_factory=Http2Config)
    grpc: GrpcConfig = field(default_factory=GrpcConfig)

    def __post_init__(self) -> None:
        if not 0 <= self.port <= 65_535:
            raise ConfigError(f"port must be 0 to 65535, got {self.port}")
        if self.max_connections < 1:
            raise ConfigError(f"max_connections must be positive, got {self.max_connections}")
        if not (self.trickle_base.startswith("/") and self.trickle_base.endswith("/")):
            raise ConfigError(
                f"trickle base path must begin and end with a slash, got {self.trickle_base!r}"
            )


class Listener:
    """Accepts connections and serves them until ``drain``.

    ``bind`` first, then ``run``. Without ``tls`` it speaks plain HTTP, with HTTP/2 by prior
    knowledge. ``trickle`` makes the protocol of HTTP/1.1 connections under ``trickle_base``.
    """

    def __init__(
        self,
        config: ListenerConfig,
        *,
        tls: ssl.SSLContext | None = None,
        trickle: TrickleProtocol | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.config = config
        self._tls = tls
        self._trickle = trickle
        self._clock = clock
        self._connections: set[_Connection] = set()
        self._is_empty = asyncio.Event()
        self._is_empty.set()
        self._has_drained = asyncio.Event()
        self._is_draining = False
        self._server: asyncio.Server | None = None
        self._http1: Http1Server
        self._application: Application

    async def bind(self) -> None:
        """Takes the port. Peers that connect before ``run`` wait until then.

        Raises: ConfigError: the address cannot be used.
        """
        is_tls = self._tls is not None
        try:
            self._server = await asyncio.get_running_loop().create_server(
                lambda: _Connection(self),
                sock=_listening_socket(self.config.host, self.config.port),
                ssl=self._tls,
                backlog=_BACKLOG,
                start_serving=False,
                ssl_handshake_timeout=self.config.handshake_timeout_s if is_tls else None,
                ssl_shutdown_timeout=_CLOSING_S if is_tls else None,
            )
        except OSError as error:
            where = f"{self.config.host or '*'}:{self.config.port}"
            raise ConfigError(f"cannot listen on {where}: {error}") from error

    @property
    def port(self) -> int:
        """The port that was bound."""
        assert self._server is not None, "bind first"
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    @property
    def num_connections(self) -> int:
        """Connections open now."""
        return len(self._connections)

    async def run(self, handler: Handler, methods: Mapping[str, UnaryMethod] | None = None) -> None:
        """Serves until ``drain`` has finished or the caller cancels; then nothing is left.

        ``methods`` are unary gRPC methods by full path; ``handler`` answers what is neither gRPC
        nor trickle on HTTP/1.1.
        """
        assert self._server is not None, "bind first"
        if self._has_drained.is_set():
            return  # told to end before it began
        grpc = UnaryMethods(methods or {}, self.config.grpc)
        self._http1 = Http1Server(self.config.http1, handler, self._clock)
        try:
            async with asyncio.TaskGroup() as tasks:
                self._application = Application(handler, grpc, tasks)
                sweeper = tasks.create_task(self._sweep(), name="listener sweep")
                if not self._is_draining:
                    await self._server.start_serving()
                await self._has_drained.wait()
                sweeper.cancel()
        finally:
            self._server.close()
            for connection in list(self._connections):
                connection.abort()
            await self._is_empty.wait()
            await self._http1.wait_closed()

    async def drain(self, deadline_s: float) -> None:
        """Accepts nothing more, lets requests end, and breaks off what is left at the deadline."""
        self._is_draining = True
        if self._server is not None:
            self._server.close()
        for connection in list(self._connections):
            connection.drain()
        try:
            async with asyncio.timeout(deadline_s):
                await self._is_empty.wait()
        except TimeoutError:
            logger.warning(
                "%d connections still open after %g s are cut", len(self._connections), deadline_s
            )
            for connection in list(self._connections):
                connection.abort()
        self._has_drained.set()

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(_SWEEP_S)
            self.sweep(self._clock())

    def sweep(self, now: float) -> None:
        """Ends connections that have been silent, incomplete or closing for too long."""
        for connection in list(self._connections):
            try:
                connection.sweep(now)
            except Exception:  # a connection's failure ends that connection, not the node
                logger.exception("a connection could not be swept")
                connection.abort()

    # What a connection asks of its listener.

    def admit(self, connection: "_Connection") -> bool:
        """Counts a connection in, unless there are too many."""
        if len(self._connections) >= self.config.max_connections:
            logger.warning("connection refused: %d are open", len(self._connections))
            return False
        self._connections.add(connection)
        self._is_empty.clear()
        return True

    def forget(self, connection: "_Connection") -> None:
        """A connection is lost."""
        self._connections.discard(connection)
        if not self._connections:
            self._is_empty.set()

    def http2(self) -> Http2Connection:
        """The protocol of one HTTP/2 connection."""
        return Http2Connection(self.config.http2, self._application, self._clock)

    def http1(self, path: bytes, fallback: Fallback) -> asyncio.Protocol:
        """The protocol of an HTTP/1.1 connection whose next request is for ``path``."""
        if self._trickle is not None and path.startswith(self.config.trickle_base.encode()):
            return self._trickle(fallback)
        return self._http1.connection()

    @property
    def clock(self) -> Callable[[], float]:
        """The clock that ``sweep`` is measured by."""
        return self._clock


class _Connection(asyncio.Protocol):
    """One accepted connection: finds out what it speaks, then passes everything on."""

    def __init__(self, listener: Listener) -> None:
        self._listener = listener
        self._served: asyncio.Protocol | None = None
        self._buffer = bytearray()
        self._since = listener.clock()
        self._first_byte_s: float | None = None
        self._closing_since: float | None = None
        self._is_write_paused = False
        self._is_refused = False
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's TLS transport has the interface without the type.
        self._transport = cast(asyncio.Transport, transport)
        if not self._listener.admit(self):
            self._transport.abort()
            return
        tls = transport.get_extra_info("ssl_object")
        if tls is not None and tls.selected_alpn_protocol() == "h2":
            self._serve(self._listener.http2(), b"")

    def data_received(self, data: bytes) -> None:
        if self._served is not None:
            self._served.data_received(data)
        elif not self._is_refused:
            self._sniff(data)

    def eof_received(self) -> bool | None:
        return self._served.eof_received() if self._served is not None else None

    def connection_lost(self, exc: Exception | None) -> None:
        self._listener.forget(self)
        # Let go of: protocols that wait for the collector of cycles must not keep the transport.
        served, self._served = self._served, None
        if served is not None:
            served.connection_lost(exc)

    def pause_writing(self) -> None:
        self._is_write_paused = True
        if self._served is not None:
            self._served.pause_writing()

    def resume_writing(self) -> None:
        self._is_write_paused = False
        if self._served is not None:
            self._served.resume_writing()

    def sweep(self, now: float) -> None:
        config = self._listener.config
        if self._transport.is_closing():
            if self._closing_since is None:
                self._closing_since = now
            elif now - self._closing_since > _CLOSING_S:
                self._transport.abort()
        elif self._is_refused:
            return
        elif self._served is None:
            if self._first_byte_s is not None and now - self._first_byte_s > config.head_timeout_s:
                self._refuse(b"408 Request Timeout")
            elif now - self._since > config.idle_timeout_s:
                self._transport.close()
        elif isinstance(self._served, Http1Connection):
            self._served.sweep(now)
        elif isinstance(self._served, Http2Connection):
            idle_since = self._served.idle_since
            if idle_since is not None and now - idle_since > config.idle_timeout_s:
                self._served.drain()
            else:
                self._served.sweep(now)

    def drain(self) -> None:
        if isinstance(self._served, Http1Connection | Http2Connection):
            self._served.drain()
        elif isinstance(self._served, TrickleConnection):
            self._served.shut()
        else:
            self._transport.close()

    def abort(self) -> None:
        self._transport.abort()

    def _sniff(self, data: bytes) -> None:
        buffer = self._buffer
        buffer += data
        if self._first_byte_s is None:
            self._first_byte_s = self._listener.clock()
        if buffer.startswith(PREFACE):
            self._serve(self._listener.http2(), bytes(buffer))
        elif PREFACE.startswith(buffer):
            return
        elif not (65 <= buffer[0] <= 90 or buffer[0] in b"\r\n"):
            self._refuse(b"400 Bad Request")
        elif len(buffer) > self._listener.config.http1.max_head_bytes:
            self._refuse(b"431 Request Header Fields Too Large")
        else:
            line = bytes(buffer).lstrip(b"\r\n")
            end = line.find(b"\n")
            if end >= 0:
                path = _path(line[:end])
                self._serve(self._listener.http1(path, self._take_back), line)

    def _refuse(self, status: bytes) -> None:
        self._is_refused = True
        self._buffer.clear()
        refuse(self._transport, status)

    def _serve(self, served: asyncio.Protocol, received: bytes) -> None:
        self._buffer.clear()
        self._served = served
        served.connection_made(self._transport)
        if self._is_write_paused:
            # The one before left an answer that its peer has still to read.
            served.pause_writing()
        if received:
            served.data_received(received)

    def _take_back(self, transport: asyncio.Transport, received: bytes) -> None:
        self._serve(self._listener.http1(b"", self._take_back), received)


def _listening_socket(host: str, port: int) -> socket.socket:
    if not host and socket.has_dualstack_ipv6():
        sock = socket.create_server(
            ("", port), family=socket.AF_INET6, backlog=_BACKLOG, dualstack_ipv6=True
        )
    else:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        sock = socket.create_server((host, port), family=family, backlog=_BACKLOG)
    sock.setblocking(False)
    # Accepted sockets inherit these. The kernel notices peers that vanished without a word.
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, seconds_or_count in _KEEP_ALIVE.items():
        if hasattr(socket, option):
            sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), seconds_or_count)
    return sock


def _path(line: bytes) -> bytes:
    parts = line.split(b" ", 2)
    target = parts[1] if len(parts) > 1 else b""
    if b"://" in target[:8]:  # absolute form: RFC 9112 section 3.2.2
        target = b"/" + target.partition(b"://")[2].partition(b"/")[2]
    return target
