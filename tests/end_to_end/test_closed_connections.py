"""What a closed connection held is given back at once, not when cycles are collected next."""

import asyncio
import gc
import http.client
from collections.abc import Iterator
from pathlib import Path

import pytest
from end_to_end.clients import http1_tls
from end_to_end.whole_node import until, whole_node

from lpnode.node import Node


@pytest.fixture
def _no_collection() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def num_tls_connections() -> int:
    """On this event loop: a client on a thread of its own has none here."""
    return sum(type(each).__name__ == "SSLProtocol" for each in gc.get_objects())


def request_on_a_thread(node: Node, method: str, path: str) -> int:
    connection = http.client.HTTPSConnection(
        "127.0.0.1", node.listener.port, context=http1_tls(), timeout=10
    )
    try:
        connection.request(method, path)
        return connection.getresponse().status
    finally:
        connection.close()


@pytest.mark.usefixtures("_no_collection")
async def test_a_closed_trickle_connection_keeps_no_tls_buffers(tmp_path: Path) -> None:
    async with whole_node(tmp_path) as node:
        for method in ("GET", "POST"):
            for _ in range(3):
                path = "/ai/trickle/nobody/0"
                assert await asyncio.to_thread(request_on_a_thread, node, method, path) == 404
        await until(lambda: num_tls_connections() == 0)
