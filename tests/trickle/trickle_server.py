"""A trickle server of its own on a loopback port, for tests."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial

from lpnode.edge.http1 import Http1Config
from lpnode.edge.listener import Listener, ListenerConfig
from lpnode.edge.routes import ANY, Route, Router
from lpnode.edge.trickle import TrickleConnection, TrickleRoutes
from lpnode.trickle import Channels, TrickleConfig


class ShiftedClock:
    """The loop's clock, moved on by hand."""

    def __init__(self) -> None:
        self.shift_s = 0.0

    def __call__(self) -> float:
        return asyncio.get_running_loop().time() + self.shift_s


class TrickleServer:
    """Accepts connections that speak trickle from their first byte."""

    def __init__(self, config: TrickleConfig) -> None:
        self.clock = ShiftedClock()
        self.config = config
        self.channels = Channels(config, self.clock)
        self.connections: list[TrickleConnection] = []
        self.handed_over: list[tuple[asyncio.Transport, bytes]] = []
        self.port = 0

    def _connection(self) -> TrickleConnection:
        connection = TrickleConnection(
            self.channels, self.config, lambda *given: self.handed_over.append(given)
        )
        self.connections.append(connection)
        return connection

    @asynccontextmanager
    async def behind_listener(
        self, *, data_plane: bool, tls: ssl.SSLContext | None = None
    ) -> AsyncIterator["TrickleServer"]:
        """The node's own listener; without the data plane its ordinary servers do trickle."""
        route = Route(
            path=f"{self.config.base_path}*",
            handler=TrickleRoutes(self.channels).handle,
            methods=ANY,
            max_body_bytes=None,
        )
        listener = Listener(
            ListenerConfig(host="127.0.0.1", port=0, http1=Http1Config(lingering_s=0.1)),
            tls=tls,
            trickle=partial(TrickleConnection, self.channels, self.config) if data_plane else None,
        )
        await listener.bind()
        self.port = listener.port
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(listener.run(Router([route])), name="listener")
            try:
                yield self
            finally:
                self.channels.close_all()
                await listener.drain(0.02)

    @asynccontextmanager
    async def listening(self, tls: ssl.SSLContext | None = None) -> AsyncIterator["TrickleServer"]:
        loop = asyncio.get_running_loop()
        server = await loop.create_server(self._connection, "127.0.0.1", 0, ssl=tls)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            self.channels.close_all()
            server.close()
            for connection in self.connections:
                connection.shut()


async def until(condition: Callable[[], bool], within_s: float = 1.0) -> None:
    """Waits for something that other callbacks bring about. Raises: TimeoutError."""
    async with asyncio.timeout(within_s):
        while not condition():  # noqa: ASYNC110 - any condition, not one that sets an event
            await asyncio.sleep(0.001)
