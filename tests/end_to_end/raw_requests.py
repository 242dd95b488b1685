"""Requests as bytes, one connection each, to send what no client library would."""

import asyncio
import re
import ssl

ANSWER_S = 15.0


async def answer_to(
    port: int, *pieces: bytes, tls: ssl.SSLContext | None = None, ends: bool = False
) -> bytes:
    """Sends ``pieces`` over a new connection and returns all that comes until the peer closes.

    A node that resets the connection after its answer, because it wants no more of a request, is
    well within its rights. ``ends``: nothing more will be sent.
    """
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=tls, limit=1 << 24)
    received = b""
    try:
        async with asyncio.timeout(ANSWER_S):
            try:
                for piece in pieces:
                    writer.write(piece)
                    await writer.drain()
                if ends and writer.can_write_eof():
                    writer.write_eof()
            except ConnectionError:
                pass  # it has answered before it had everything
            while data := await _read(reader):
                received += data
    finally:
        writer.transport.abort()
        await asyncio.sleep(0)
    return received


async def _read(reader: asyncio.StreamReader) -> bytes:
    try:
        return await reader.read(1 << 16)
    except ConnectionError:
        return b""


def http1(
    method: str, path: str, body: bytes = b"", *fields: tuple[str, str], length: int | None = None
) -> bytes:
    """One request that asks the node to close afterwards. ``length`` may lie about the body."""
    lines = [f"{method} {path} HTTP/1.1", "Host: node", "Connection: close"]
    lines.append(f"Content-Length: {len(body) if length is None else length}")
    lines += [f"{name}: {value}" for name, value in fields]
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


def status_of(answer: bytes) -> int:
    """Status of the final HTTP/1.1 answer, past any interim ones; 0 if there is none."""
    statuses = (int(status) for status in re.findall(rb"HTTP/1\.[01] (\d{3}) ", answer))
    return next((status for status in statuses if status >= 200), 0)
