"""An HTTP/2 client that may misbehave: it writes what it is told and reads frames."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass

import hpack

from lpnode.edge.http2 import frames
from lpnode.edge.listener import Listener

POST_PING = [
    (":method", "POST"),
    (":scheme", "http"),
    (":path", "/net.Orchestrator/Ping"),
    (":authority", "node"),
    ("te", "trailers"),
    ("content-type", "application/grpc"),
]


def request(method: str, path: str, *fields: tuple[str, str]) -> list[tuple[str, str]]:
    pseudo = [(":method", method), (":scheme", "http"), (":path", path), (":authority", "node")]
    return [*pseudo, *fields]


GET_WAITING = request("GET", "/waiting")
POST_ECHO = request("POST", "/echo")


@dataclass
class Frame:
    kind: int
    flags: int
    stream_id: int
    payload: bytes

    @property
    def code(self) -> int:
        """Error code of RST_STREAM or GOAWAY."""
        at = 4 if self.kind == frames.GOAWAY else 0
        return int.from_bytes(self.payload[at : at + 4], "big")

    @property
    def ends_stream(self) -> bool:
        return self.kind in (frames.DATA, frames.HEADERS) and bool(self.flags & frames.END_STREAM)


class RawHttp2:
    """One connection. ``send`` writes bytes as they are; helpers make well-formed ones."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self.writer = writer
        self._encoder = hpack.Encoder()
        self._decoder = hpack.Decoder(max_header_list_size=1 << 24)

    def send(self, *data: bytes) -> None:
        self.writer.write(b"".join(data))

    @staticmethod
    def encoded(fields: list[tuple[str, str]]) -> bytes:
        """The first block of a connection."""
        return hpack.Encoder().encode(fields, huffman=False)

    def block(self, fields: list[tuple[str, str]]) -> bytes:
        # Without Huffman coding: the library's encoder is slow on long strings.
        return self._encoder.encode(fields, huffman=False)

    def headers(
        self, stream_id: int, fields: list[tuple[str, str]], *, end_stream: bool = True
    ) -> bytes:
        return frames.header_frames(
            stream_id, self.block(fields), frames.DEFAULT_FRAME_BYTES, end_stream=end_stream
        )

    async def frame(self) -> Frame:
        """The next frame. Raises: IncompleteReadError: the server has closed."""
        async with asyncio.timeout(10):
            head = await self._reader.readexactly(frames.FRAME_HEAD_BYTES)
            high, low, kind, flags, stream_id = frames.FRAME_HEAD.unpack(head)
            payload = await self._reader.readexactly(high << 8 | low)
        return Frame(kind, flags, stream_id, payload)

    async def until(self, *kinds: int) -> Frame:
        """The next frame of one of ``kinds``; others are passed over."""
        while True:
            frame = await self.frame()
            if frame.kind in kinds:
                return frame

    async def response(self, stream_id: int) -> tuple[dict[str, str], bytes]:
        """All fields, trailers included, and the body of one whole answer."""
        fields: dict[str, str] = {}
        body = b""
        while True:
            frame = await self.until(frames.HEADERS, frames.DATA, frames.RST_STREAM)
            if frame.kind == frames.HEADERS:
                decoded = self._decoder.decode(frame.payload)
                if frame.stream_id == stream_id:
                    fields |= {str(name): str(value) for name, value in decoded}
            elif frame.stream_id == stream_id:
                assert frame.kind == frames.DATA, f"stream reset with {frame.code}"
                body += frame.payload
            if frame.stream_id == stream_id and frame.ends_stream:
                return fields, body

    async def closes(self) -> list[Frame]:
        """Everything until the server closes the connection."""
        seen = []
        while True:
            try:
                seen.append(await self.frame())
            except (asyncio.IncompleteReadError, ConnectionError):
                return seen


@asynccontextmanager
async def connected(
    listener: Listener,
    *,
    tls: ssl.SSLContext | None = None,
    settings: Iterable[tuple[int, int]] = (),
) -> AsyncIterator[RawHttp2]:
    """A client that has sent preface and settings; afterwards its connection is gone."""
    reader, writer = await asyncio.open_connection(
        "127.0.0.1", listener.port, ssl=tls, limit=1 << 24
    )
    client = RawHttp2(reader, writer)
    client.send(frames.PREFACE + frames.settings(settings))
    try:
        yield client
    finally:
        writer.transport.abort()


async def still_serves(client: RawHttp2, stream_id: int) -> None:
    """Checks that the connection answers a request on a new stream."""
    client.send(client.headers(stream_id, request("GET", "/healthz")))
    fields, _ = await client.response(stream_id)
    assert fields[":status"] == "200"


async def goes_away(client: RawHttp2) -> int:
    """The error code of the GOAWAY with which the server closes."""
    last = [one for one in await client.closes() if one.kind == frames.GOAWAY][-1]
    return last.code
