"""HTTP/1.1 requests out of a byte stream, several at a time if the peer pipelines them."""

from collections import deque
from itertools import islice

import httptools

from lpnode.errors import ProtocolError, TooLarge

SMALL_PIECE_BYTES = 8192
INBOUND_BYTES = 1024
"""About what a request without a body occupies."""


class Inbound:
    """One request as far as it has arrived."""

    __slots__ = (
        "_fields",
        "has_head",
        "http_version",
        "is_complete",
        "keep_alive",
        "method",
        "pieces",
        "size_bytes",
        "target",
    )

    def __init__(self) -> None:
        self.method = ""
        self.target = b""
        self.http_version = "1.1"
        self.keep_alive = True
        self.has_head = False
        self.is_complete = False
        self.pieces: list[bytes] = []
        self.size_bytes = 0
        self._fields: dict[str, str] = {}

    @property
    def path(self) -> str:
        """The target without its query, still percent-encoded."""
        return self.target.partition(b"?")[0].decode("latin-1")

    def field(self, name: str) -> str:
        """The first value of a header by its lower-case name, ``""`` if absent."""
        return self._fields.get(name, "")

    def add_field(self, name: str, value: str) -> None:
        self._fields.setdefault(name, value)

    def take_pieces(self) -> list[bytes]:
        """The body bytes that arrived since the last call.

        Small pieces that came in one read of the socket are joined: nobody waits for that, and
        relaying costs a call per piece and subscriber. Large ones are not worth the copy.
        """
        pieces, self.pieces = self.pieces, []
        if len(pieces) > 1 and sum(map(len, pieces)) < SMALL_PIECE_BYTES * len(pieces):
            return [b"".join(pieces)]
        return pieces


class RequestStream:
    """Feeds httptools and keeps the requests in order of arrival.

    ``held_bytes`` counts what arrived for requests behind the first one.
    """

    def __init__(self, max_head_bytes: int) -> None:
        self.requests: deque[Inbound] = deque()
        self._max_head_bytes = max_head_bytes
        self._head_bytes = 0
        self._has_begun = False
        self._parser = httptools.HttpRequestParser(self)

    @property
    def held_bytes(self) -> int:
        behind = islice(self.requests, 1, None)
        return sum(INBOUND_BYTES + len(each.target) + each.size_bytes for each in behind)

    def feed(self, data: bytes) -> None:
        """Takes what the socket brought.

        Raises:
            TooLarge: a request head is over its limit.
            ProtocolError: this is not HTTP/1.x; nothing more can be fed.
        """
        self._head_bytes += len(data)
        self._has_begun = False
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            raise ProtocolError("protocol upgrades are not offered here") from upgrade
        except httptools.HttpParserError as error:
            raise ProtocolError(f"not an HTTP/1.1 request: {error}") from error
        if not self.requests or self.requests[-1].has_head:
            self._head_bytes = 0
            return
        if self._has_begun:
            # Somewhere in these bytes; what came before belongs to other requests.
            self._head_bytes = len(data)
        if self._head_bytes > self._max_head_bytes:
            raise TooLarge(f"a request head may have {self._max_head_bytes} bytes")

    # Called by httptools, by these names.

    def on_message_begin(self) -> None:
        self.requests.append(Inbound())
        self._has_begun = True

    def on_url(self, url: bytes) -> None:
        self.requests[-1].target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self.requests[-1].add_field(name.decode("latin-1").lower(), value.decode("latin-1"))

    def on_headers_complete(self) -> None:
        request = self.requests[-1]
        request.method = self._parser.get_method().decode("ascii")
        request.http_version = self._parser.get_http_version()
        request.keep_alive = self._parser.should_keep_alive()
        request.has_head = True

    def on_body(self, piece: bytes) -> None:
        request = self.requests[-1]
        request.pieces.append(piece)
        request.size_bytes += len(piece)

    def on_message_complete(self) -> None:
        self.requests[-1].is_complete = True
