"""Random traffic: every connection ends, none of it is an error of ours, the next one is served."""

import asyncio
import logging
import random

import httpx
import pytest
from edge.conftest import Serve, Waiting
from edge.raw_http2 import POST_PING, RawHttp2, request

from lpnode.edge.http2 import frames
from lpnode.edge.listener import Listener

FIELDS = [
    POST_PING,
    request("GET", "/healthz"),
    request("GET", "/waiting"),
    request("POST", "/echo"),
    request("POST", "/mirror"),
    request("POST", "/small", ("content-length", "7")),
    request("GET", "/broken"),
]
REQUESTS = [
    b"GET /healthz HTTP/1.1\r\nHost: n\r\n\r\n",
    b"POST /echo HTTP/1.1\r\nHost: n\r\nContent-Length: 5\r\n\r\nhello",
    b"POST /mirror HTTP/1.1\r\nHost: n\r\nTransfer-Encoding: chunked\r\n\r\n"
    b"5\r\nhello\r\n0\r\n\r\n",
    b"POST /small HTTP/1.1\r\nHost: n\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\nhello",
    frames.PREFACE,
]


def some_http2(dice: random.Random) -> bytes:
    """A preface and frames, mostly well formed, in no sensible order."""
    client = RawHttp2.encoded
    parts = [frames.PREFACE, frames.settings([])]
    for _ in range(dice.randrange(1, 30)):
        stream_id = dice.choice([0, 1, 1, 3, 3, 5, 7, 2])
        kind = dice.choice([0, 0, 0, 1, 1, 1, 1, 2, 3, 4, 6, 8, 8, 9, 77])
        flags = dice.choice([0, 0, 1, 4, 5, 5, 8, 0x20, 255])
        payload = dice.randbytes(dice.choice([0, 0, 4, 5, 6, 8, 100, 3000]))
        if kind == frames.HEADERS and dice.random() < 0.9:
            payload, flags = client(dice.choice(FIELDS)), dice.choice([4, 5, 0])
        if kind == frames.WINDOW_UPDATE and dice.random() < 0.8:
            payload = dice.randrange(1, 1 << 16).to_bytes(4, "big")
        parts.append(frames.frame(kind, flags, stream_id, payload))
    return b"".join(parts)[: dice.choice([None, None, -1, -20])]


def some_http1(dice: random.Random) -> bytes:
    """A few requests with a few bytes changed, doubled or left out."""
    data = bytearray(b"".join(dice.choices(REQUESTS, k=dice.randrange(1, 4))))
    for _ in range(dice.randrange(4)):
        at = dice.randrange(len(data))
        data[at : at + dice.randrange(3)] = dice.randbytes(dice.randrange(3))
    return bytes(data)


async def _send(listener: Listener, data: bytes, dice: random.Random) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", listener.port)
    for at in sorted(dice.choices(range(len(data) + 1), k=3)):
        writer.write(data[:at])
        data = data[at:]
        await asyncio.sleep(0)
    writer.write(data)
    try:
        async with asyncio.timeout(0.1):
            await reader.read()
    except (TimeoutError, ConnectionError):
        pass
    writer.transport.abort()


@pytest.mark.parametrize("make", [some_http2, some_http1])
async def test_noise_harms_nobody(
    serve: Serve, waiting: Waiting, caplog: pytest.LogCaptureFixture, make: object
) -> None:
    assert callable(make)
    dice = random.Random(8935)
    async with serve() as listener:
        for _ in range(30):
            async with asyncio.TaskGroup() as tasks:
                for _ in range(10):
                    tasks.create_task(_send(listener, make(dice), random.Random(dice.random())))
        async with httpx.AsyncClient() as client:
            answer = await client.get(f"http://127.0.0.1:{listener.port}/healthz")
            assert answer.status_code == 200
    assert waiting.num_started == waiting.num_stopped
    serious = [one for one in caplog.records if one.levelno >= logging.ERROR]
    # The route that is there to fail is the only one that may.
    assert not [one for one in serious if "/broken" not in one.getMessage()]
