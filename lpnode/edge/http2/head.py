"""From a header block to a request that is known to be well formed.

Clients repeat themselves: once a gRPC client's fields are in the dynamic table, each of its calls
carries the same few bytes. Such a block is decoded and checked once, while the table stays as it
is.

Source: RFC 9113 section 8.
"""

from dataclasses import dataclass

from lpnode.edge.http2.frames import HOP_BY_HOP, ConnectionFault, ErrorCode
from lpnode.edge.http2.hpack import Field, HeaderDecoder
from lpnode.errors import ProtocolError, TooLarge

_PSEUDO = frozenset((b":method", b":scheme", b":path", b":authority", b":protocol"))
_CACHED_BLOCK_BYTES = 512
_CACHED_BLOCKS = 32


@dataclass(frozen=True, slots=True)
class RequestHead:
    """What a valid request's header fields say. ``content_length`` is -1 when not given."""

    method: bytes
    path: bytes
    authority: bytes
    content_type: bytes
    content_length: int
    is_grpc: bool
    fields: tuple[Field, ...]


class HeadReader:
    """Decodes the header blocks of one connection, in their order."""

    def __init__(self, max_list_bytes: int) -> None:
        self._decoder = HeaderDecoder(max_list_bytes)
        self._heads: dict[bytes, RequestHead] = {}
        self._generation = 0

    def read(self, block: bytes) -> RequestHead:
        """The request that ``block`` opens.

        Raises:
            TooLarge: more fields than allowed; the connection can go on.
            ConnectionFault: the block cannot be decoded.
            ProtocolError: it can, but the request is malformed.
        """
        decoder = self._decoder
        generation = decoder.generation
        if generation == self._generation:
            head = self._heads.get(block)
            if head is not None:
                return head
        fields = self._decode(block)
        head = parse_head(fields)
        if decoder.generation != self._generation:
            self._heads.clear()
            self._generation = decoder.generation
        is_repeatable = decoder.generation == generation and len(block) <= _CACHED_BLOCK_BYTES
        if is_repeatable and len(self._heads) < _CACHED_BLOCKS:
            self._heads[block] = head
        return head

    def skip(self, block: bytes) -> None:
        """Follows a block whose fields nobody needs, such as trailers.

        Raises: TooLarge, ConnectionFault: as ``read``.
        """
        self._decode(block)

    def _decode(self, block: bytes) -> list[Field]:
        try:
            return self._decoder.decode(block)
        except TooLarge:
            raise
        except ProtocolError as error:
            raise ConnectionFault(ErrorCode.COMPRESSION_ERROR, str(error)) from error


def parse_head(fields: list[Field]) -> RequestHead:
    """Checks a request's fields and sorts out the pseudo-header fields.

    Raises: ProtocolError: the request is malformed in the sense of RFC 9113 section 8.1.1.
    """
    pseudo: dict[bytes, bytes] = {}
    ordinary: list[Field] = []
    content_type = b""
    content_length = -1
    for name, value in fields:
        if name[:1] == b":":
            if ordinary or name not in _PSEUDO or name in pseudo:
                raise ProtocolError("pseudo-header field unknown, repeated or out of place")
            pseudo[name] = value
            continue
        if not name or name != name.lower() or name in HOP_BY_HOP:
            raise ProtocolError("header field name not allowed in HTTP/2")
        if b"\n" in value or b"\r" in value or b"\0" in value:
            raise ProtocolError("header field value with a control character")
        if name == b"te" and value != b"trailers":
            raise ProtocolError("te may only say trailers")
        if name == b"content-type":
            content_type = value
        elif name == b"content-length":
            if not value.isdigit() or content_length not in (-1, int(value[:18])):
                raise ProtocolError("content-length is not one number")
            content_length = int(value[:18])
        ordinary.append((name, value))
    method = pseudo.get(b":method", b"")
    path = pseudo.get(b":path", b"")
    if not method or not path or not pseudo.get(b":scheme"):
        raise ProtocolError(":method, :scheme and :path are required")
    if path[:1] != b"/" and path != b"*":
        raise ProtocolError(":path must begin with a slash")
    return RequestHead(
        method=method,
        path=path,
        authority=pseudo.get(b":authority", b""),
        content_type=content_type,
        content_length=content_length,
        is_grpc=content_type.startswith(b"application/grpc"),
        fields=tuple(ordinary),
    )
