"""Whatever peers do, what they leave behind is nothing."""

import asyncio
import gc
from pathlib import Path

import pytest
from edge.conftest import Serve, Waiting
from edge.raw_http2 import POST_PING, RawHttp2, request

from lpnode.edge.http2 import frames
from lpnode.edge.listener import Listener

PREFACE = frames.PREFACE + frames.settings(())


def _http2(*fields: tuple[str, str], end_stream: bool = True) -> bytes:
    block = RawHttp2.encoded(list(fields))
    return PREFACE + frames.header_frames(1, block, 16384, end_stream=end_stream)


LEAVINGS = {
    "nothing": b"",
    "half a preface": frames.PREFACE[:10],
    "only a preface": PREFACE,
    "half a frame": PREFACE + b"\0\0\xff\1",
    "half a head": PREFACE + frames.frame(frames.HEADERS, 0, 1, b"\x82"),
    "a waiting request": _http2(*request("GET", "/waiting")),
    "half a body": _http2(*request("POST", "/echo"), end_stream=False),
    "half a gRPC message": _http2(*POST_PING, end_stream=False)
    + frames.frame(frames.DATA, 0, 1, b"\0\0\0"),
    "half a request line": b"GET /hea",
    "half an HTTP/1.1 head": b"GET /healthz HTTP/1.1\r\nHost:",
    "a waiting HTTP/1.1 request": b"GET /waiting HTTP/1.1\r\nHost: n\r\n\r\n",
    "half an HTTP/1.1 body": b"POST /mirror HTTP/1.1\r\nHost: n\r\nContent-Length: 9\r\n\r\nabc",
    "garbage": bytes(range(256)),
}


def num_descriptors() -> int:
    gc.collect()
    return len(list(Path("/proc/self/fd").iterdir()))


async def _leave(listener: Listener, left: bytes) -> None:
    _, writer = await asyncio.open_connection("127.0.0.1", listener.port)
    writer.write(left)
    await asyncio.sleep(0.05)
    writer.transport.abort()


@pytest.mark.parametrize("left", LEAVINGS.values(), ids=LEAVINGS.keys())
async def test_peers_that_vanish_leave_no_descriptor_task_or_connection(
    serve: Serve, waiting: Waiting, left: bytes
) -> None:
    async with serve() as listener:
        await _leave(listener, left)
        before, tasks_before = num_descriptors(), len(asyncio.all_tasks())
        async with asyncio.TaskGroup() as tasks:
            for _ in range(20):
                tasks.create_task(_leave(listener, left))
        for _ in range(100):
            if listener.num_connections == 0 and waiting.num_started == waiting.num_stopped:
                break
            await asyncio.sleep(0.02)
        assert listener.num_connections == 0
        assert waiting.num_started == waiting.num_stopped
        await asyncio.sleep(0)
        assert num_descriptors() <= before
        assert len(asyncio.all_tasks()) <= tasks_before
