"""Bytes of HTTP/1.1 responses: heads, and chunk frames made once for all subscribers."""

import time
from email.utils import formatdate
from http import HTTPStatus

Fields = tuple[tuple[str, str], ...]

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
LAST_CHUNK = b"0\r\n\r\n"

_REASONS = {status.value: status.phrase for status in HTTPStatus} | {470: "status code 470"}


class HttpDate:
    """The Date header's value, formatted once a second."""

    def __init__(self) -> None:
        self._second = 0
        self._text = ""

    def __call__(self) -> str:
        second = int(time.time())
        if second != self._second:
            self._second, self._text = second, formatdate(second, usegmt=True)
        return self._text


def render_head(
    status: int,
    fields: Fields,
    *,
    length: int | None,
    close: bool,
    chunked: bool = True,
) -> bytes:
    """A response head. Without a ``length`` the body is chunked, or ends with the connection."""
    lines = [f"HTTP/1.1 {status} {_REASONS.get(status, 'Unknown')}", f"Date: {http_date()}"]
    lines += [f"{name}: {value}" for name, value in fields]
    if length is not None:
        lines.append(f"Content-Length: {length}")
    elif chunked:
        lines.append("Transfer-Encoding: chunked")
    if close:
        lines.append("Connection: close")
    return "\r\n".join((*lines, "", "")).encode("latin-1", "replace")


class ChunkFramer:
    """Frames a piece for ``Transfer-Encoding: chunked``, remembering the last one.

    A piece is relayed to all its subscribers in one go, so one place to remember is enough for it
    to be framed (and thereby copied) once; likewise for a segment's first piece with the head
    before it, which those who waited at the edge all get in the same form.
    """

    def __init__(self) -> None:
        self._last: tuple[bytes, bytes] = (b"", b"")
        self._first: tuple[bytes, Fields, bool, bytes] = (b"", (), False, b"")

    def frame(self, piece: bytes) -> bytes:
        """The chunk with ``piece``."""
        last = self._last
        if last[0] is piece:
            return last[1]
        framed = b"%x\r\n%b\r\n" % (len(piece), piece)
        self._last = (piece, framed)
        return framed

    def frame_first(self, piece: bytes, fields: Fields, *, close: bool) -> bytes:
        """A 200 head with ``fields``, and the chunk with ``piece``."""
        first = self._first
        if first[0] is piece and first[2] is close and first[1] == fields:
            return first[3]
        head = render_head(200, fields, length=None, close=close)
        start = head + self.frame(piece)
        self._first = (piece, fields, close, start)
        return start


http_date = HttpDate()
chunk_framer = ChunkFramer()
