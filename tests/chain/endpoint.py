"""An RPC endpoint between the node and the test chain that fails on command."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
from aiohttp import web

Answer = dict[str, Any]


class Endpoint:
    """Passes requests on to the chain, or does what ``fault`` says instead.

    ``fault``: None, ``hang``, ``drop`` (the connection), ``garbage``, an HTTP status, or a
    JSON-RPC error as a mapping.
    """

    def __init__(self, target: str) -> None:
        self.url = ""
        self.fault: str | int | Answer | None = None
        self.only_method: str | None = None
        """The fault is this method's alone."""
        self.lose_next = ""
        """The next request of this method reaches the chain; its answer is lost."""
        self.most_blocks = 10**9
        """What one request for logs may ask for."""
        self.requests: list[str] = []
        """Methods in the order they came."""
        self.edit: Callable[[str, Any], Any] = lambda method, result: result
        """Changes a result on its way back."""
        self._target = target
        self._release = asyncio.Event()
        self._http: aiohttp.ClientSession | None = None

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        method = body["method"]
        self.requests.append(method)
        fault = self.fault if self.only_method in (None, method) else None
        if fault == "hang":
            await self._release.wait()
        if fault in ("hang", "drop"):
            assert request.transport is not None
            request.transport.abort()
            return web.Response()
        if fault == "garbage":
            return web.Response(text="<html>502</html>")
        if isinstance(fault, int):
            return web.Response(status=fault, text="no")
        if isinstance(fault, dict):
            return web.json_response({"jsonrpc": "2.0", "id": body["id"], "error": fault})
        if method == "eth_getLogs" and self._num_blocks(body) > self.most_blocks:
            error = {"code": -32600, "message": "block range is too wide"}
            return web.json_response({"jsonrpc": "2.0", "id": body["id"], "error": error})
        assert self._http is not None
        async with self._http.post(self._target, json=body) as answer:
            text = json.loads(await answer.read())
        if self.lose_next == method:
            self.lose_next = ""
            assert request.transport is not None
            request.transport.abort()
        if "result" in text:
            text["result"] = self.edit(method, text["result"])
        return web.json_response(text)

    def _num_blocks(self, body: dict[str, Any]) -> int:
        wanted = body["params"][0]
        return int(wanted["toBlock"], 16) - int(wanted["fromBlock"], 16) + 1

    @asynccontextmanager
    async def serve(self) -> AsyncIterator["Endpoint"]:
        """Listens on a free port of loopback."""
        server = web.Server(self._handle)
        runner = web.ServerRunner(server, shutdown_timeout=1.0)
        await runner.setup()
        self._http = aiohttp.ClientSession()
        try:
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            self.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
            yield self
        finally:
            self._release.set()
            await runner.cleanup()
            await self._http.close()
