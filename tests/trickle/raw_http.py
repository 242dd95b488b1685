"""A raw HTTP/1.1 client that sees every byte: interim responses, chunks, silence, and the end."""

import asyncio
import contextlib
from collections.abc import Mapping

READ_BYTES = 65536


class RawResponse:
    """One final response head. Header names are lower case."""

    def __init__(self, status: int, headers: dict[str, str]) -> None:
        self.status = status
        self.headers = headers


def parse_head(head: bytes) -> RawResponse:
    first, *lines = head.decode("latin-1").split("\r\n")
    fields = (line.split(":", 1) for line in lines if line)
    return RawResponse(
        int(first.split(" ")[1]), {name.strip().lower(): value.strip() for name, value in fields}
    )


class RawConnection:
    """One connection; what has arrived and is not yet asked for stays in ``buffered``."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self.writer = writer
        self.buffered = bytearray()
        self.method = ""
        self._body = bytearray()
        self._chunked = False
        self._remaining: int | None = None
        self._is_over = False

    @classmethod
    async def open(cls, port: int, **options: object) -> "RawConnection":
        return cls(*await asyncio.open_connection("127.0.0.1", port, **options))  # type: ignore[arg-type]

    def send_head(self, method: str, path: str, headers: Mapping[str, str]) -> None:
        self.method = method
        lines = [f"{method} {path} HTTP/1.1", "Host: localhost"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        self.writer.write("\r\n".join((*lines, "", "")).encode())

    def send_chunk(self, data: bytes) -> None:
        self.writer.write(b"%x\r\n%b\r\n" % (len(data), data))

    def finish(self) -> None:
        self.writer.write(b"0\r\n\r\n")

    async def request(
        self, method: str, path: str, headers: Mapping[str, str], body: bytes | None
    ) -> tuple[RawResponse, bytes]:
        """One complete exchange."""
        fields = dict(headers)
        if body is not None:
            fields["Content-Length"] = str(len(body))
        self.send_head(method, path, fields)
        if body:
            self.writer.write(body)
        return await self.read_head(), await self.read_rest()

    async def fill(self) -> bool:
        """Waits for more bytes. False at the end of the stream."""
        data = await self._reader.read(READ_BYTES)
        self.buffered += data
        return bool(data)

    async def _line_end(self, mark: bytes) -> bytes:
        while (end := self.buffered.find(mark)) < 0:
            if not await self.fill():
                raise ConnectionError(f"connection ended after {bytes(self.buffered)!r}")
        line = bytes(self.buffered[:end])
        del self.buffered[: end + len(mark)]
        return line

    async def read_any_head(self) -> RawResponse:
        return parse_head(await self._line_end(b"\r\n\r\n"))

    async def read_head(self) -> RawResponse:
        """The final response's head, interim ones skipped."""
        while (response := await self.read_any_head()).status < 200:
            pass
        self._body.clear()
        self._chunked = response.headers.get("transfer-encoding") == "chunked"
        length = response.headers.get("content-length")
        self._remaining = int(length) if length is not None else None
        self._is_over = self.method == "HEAD" or (not self._chunked and self._remaining == 0)
        return response

    async def _read_more_body(self) -> None:
        if self._chunked:
            size = int(await self._line_end(b"\r\n"), 16)
            while len(self.buffered) < size + 2:
                if not await self.fill():
                    raise ConnectionError("connection ended inside a chunk")
            self._body += self.buffered[:size]
            assert self.buffered[size : size + 2] == b"\r\n"
            del self.buffered[: size + 2]
            self._is_over = size == 0
            return
        if not self.buffered and not await self.fill():
            if self._remaining is not None:
                raise ConnectionError("connection ended inside the body")
            self._is_over = True
            return
        take = len(self.buffered) if self._remaining is None else self._remaining
        piece = self.buffered[:take]
        del self.buffered[:take]
        self._body += piece
        if self._remaining is not None:
            self._remaining -= len(piece)
            self._is_over = self._remaining == 0

    async def read_body(self, size: int) -> bytes:
        """Exactly the next ``size`` decoded bytes."""
        while len(self._body) < size and not self._is_over:
            await self._read_more_body()
        data = bytes(self._body[:size])
        del self._body[:size]
        return data

    async def read_rest(self) -> bytes:
        """Everything up to the clean end of the body."""
        while not self._is_over:
            await self._read_more_body()
        data = bytes(self._body)
        self._body.clear()
        return data

    async def is_silent(self, seconds: float) -> bool:
        """No byte arrives, and none is there, for so long. (The end of the stream is a byte.)"""
        if self.buffered or self._body:
            return False
        try:
            async with asyncio.timeout(seconds):
                await self.fill()
        except TimeoutError:
            return True
        return False

    async def is_ended(self) -> bool:
        """Waits for the peer to close; False if it sends something first."""
        return not self.buffered and not await self.fill()

    def abort(self) -> None:
        self.writer.transport.abort()

    async def close(self) -> None:
        self.writer.close()
        with contextlib.suppress(ConnectionError):
            await self.writer.wait_closed()
