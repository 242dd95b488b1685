"""What a route handler sees of a request, whatever HTTP version carried it."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Protocol

from lpnode.errors import ProtocolError


class Body(Protocol):
    """The request body, pulled piece by piece so that the transport's back-pressure works."""

    async def read(self) -> bytes:
        """Returns the next piece as it arrived, ``b""`` at the end.

        Raises: PeerGone: the peer vanished before the body ended.
        """


class Headers:
    """Header fields in arrival order; names are compared without case."""

    __slots__ = ("_fields",)

    def __init__(self, fields: Iterable[tuple[str, str]] = ()) -> None:
        self._fields = [(name.lower(), value) for name, value in fields]

    def get(self, name: str, default: str = "") -> str:
        """Returns the first value of ``name``, or ``default``."""
        wanted = name.lower()
        return next((value for key, value in self._fields if key == wanted), default)

    def __contains__(self, name: str) -> bool:
        wanted = name.lower()
        return any(key == wanted for key, _ in self._fields)

    def __iter__(self) -> Iterator[tuple[str, str]]:
        return iter(self._fields)


@dataclass(slots=True)
class Request:
    """One request. ``path`` is as sent (percent-encoded, without query)."""

    method: str
    path: str
    query: str
    headers: Headers
    body: Body
    http_version: str = "1.1"
    peer: str = ""


@dataclass(slots=True)
class Response:
    """The answer. An async-iterator body is sent piece by piece and flushed each time.

    A handler may return before it has read the request body: on HTTP/1.1 the connection is then
    closed after the response, on HTTP/2 the stream is reset with NO_ERROR.
    """

    status: int = 200
    headers: list[tuple[str, str]] = field(default_factory=list)
    body: bytes | AsyncIterator[bytes] = b""


Handler = Callable[[Request], Awaitable[Response]]
"""Answers one request. It is cancelled when the peer goes away or resets the request, unless it
waits in ``Body.read``: there PeerGone is raised instead."""


async def read_body(request: Request, *, timeout_s: float = 30.0) -> bytes:
    """Reads a whole body that its route bounds.

    Raises:
        ProtocolError: it did not arrive within ``timeout_s`` seconds.
        PeerGone, TooLarge: as ``Body.read``.
    """
    pieces = []
    try:
        async with asyncio.timeout(timeout_s):
            while piece := await request.body.read():
                pieces.append(piece)
    except TimeoutError:
        raise ProtocolError(f"request body did not arrive within {timeout_s:g} s") from None
    return b"".join(pieces)


@asynccontextmanager
async def closing_body(body: AsyncIterator[bytes]) -> AsyncIterator[AsyncIterator[bytes]]:
    """Closes a generator that sends a body even if its peer leaves in the middle."""
    try:
        yield body
    finally:
        aclose = getattr(body, "aclose", None)
        if aclose is not None:
            await aclose()


def text_response(status: int, text: str, *headers: tuple[str, str]) -> Response:
    """A ``text/plain; charset=utf-8`` answer; errors end with a newline by convention."""
    fields = [("Content-Type", "text/plain; charset=utf-8"), *headers]
    if status >= 400:
        fields.append(("X-Content-Type-Options", "nosniff"))
    return Response(status, fields, text.encode())
