"""HTTP/2 frame layout, codes and faults.

Source: RFC 9113 sections 4, 6 and 7.
"""

import struct
from collections.abc import Iterable
from enum import IntEnum

from lpnode.edge.http2.hpack import encode_field
from lpnode.errors import ProtocolError

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
FRAME_HEAD_BYTES = 9
DEFAULT_FRAME_BYTES = 16_384
DEFAULT_WINDOW = 65_535
MAX_WINDOW = 2**31 - 1

DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS = 0, 1, 2, 3, 4
PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = 5, 6, 7, 8, 9

END_STREAM, ACK, END_HEADERS, PADDED, PRIORITISED = 0x1, 0x1, 0x4, 0x8, 0x20

SETTING_HEADER_TABLE_SIZE = 1
SETTING_ENABLE_PUSH = 2
SETTING_MAX_CONCURRENT_STREAMS = 3
SETTING_INITIAL_WINDOW_SIZE = 4
SETTING_MAX_FRAME_SIZE = 5
SETTING_MAX_HEADER_LIST_SIZE = 6

FRAME_HEAD = struct.Struct(">HBBBI")
_WINDOW_UPDATE = struct.Struct(">HBBBII")
_SETTING = struct.Struct(">HI")
_GOAWAY = struct.Struct(">II")

# Fields that only make sense on one HTTP/1.1 connection: RFC 9113 section 8.2.2.
HOP_BY_HOP = frozenset(
    (b"connection", b"keep-alive", b"proxy-connection", b"transfer-encoding", b"upgrade")
)


class ErrorCode(IntEnum):
    """Why a stream or a connection ends: RFC 9113 section 7."""

    NO_ERROR = 0
    PROTOCOL_ERROR = 1
    INTERNAL_ERROR = 2
    FLOW_CONTROL_ERROR = 3
    STREAM_CLOSED = 5
    FRAME_SIZE_ERROR = 6
    REFUSED_STREAM = 7
    CANCEL = 8
    COMPRESSION_ERROR = 9
    ENHANCE_YOUR_CALM = 11


class ConnectionFault(ProtocolError):
    """The peer broke the connection's rules; it gets GOAWAY with ``code``."""

    def __init__(self, code: ErrorCode, text: str) -> None:
        super().__init__(text)
        self.code = code


class StreamFault(ProtocolError):
    """The peer broke one stream's rules; that stream is reset with ``code``."""

    def __init__(self, stream_id: int, code: ErrorCode, text: str) -> None:
        super().__init__(text)
        self.stream_id = stream_id
        self.code = code


def frame_head(length: int, kind: int, flags: int, stream_id: int) -> bytes:
    """The nine bytes before a frame's payload of ``length`` bytes."""
    return FRAME_HEAD.pack(length >> 8, length & 0xFF, kind, flags, stream_id)


def frame(kind: int, flags: int, stream_id: int, payload: bytes) -> bytes:
    """One whole frame."""
    return frame_head(len(payload), kind, flags, stream_id) + payload


def window_update(stream_id: int, increment: int) -> bytes:
    """Gives the peer ``increment`` more bytes on a stream, or on the connection (id 0)."""
    return _WINDOW_UPDATE.pack(0, 4, WINDOW_UPDATE, 0, stream_id, increment)


def reset(stream_id: int, code: ErrorCode) -> bytes:
    """Ends one stream at once."""
    return frame(RST_STREAM, 0, stream_id, code.to_bytes(4, "big"))


def go_away(last_stream_id: int, code: ErrorCode, text: str = "") -> bytes:
    """Announces that no stream above ``last_stream_id`` will be served."""
    return frame(GOAWAY, 0, 0, _GOAWAY.pack(last_stream_id, code) + text.encode()[:256])


def settings(values: Iterable[tuple[int, int]]) -> bytes:
    """Our SETTINGS frame."""
    return frame(SETTINGS, 0, 0, b"".join([_SETTING.pack(key, value) for key, value in values]))


def parse_settings(payload: bytes) -> list[tuple[int, int]]:
    """The peer's settings in order. ``payload`` is a multiple of six bytes."""
    return list(_SETTING.iter_unpack(payload))


def without_padding(payload: bytes) -> bytes:
    """What a padded frame's payload holds. Raises: ConnectionFault."""
    if not payload or payload[0] >= len(payload):
        raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "padding longer than its frame")
    return payload[1 : len(payload) - payload[0]]


def header_frames(stream_id: int, block: bytes, max_frame: int, *, end_stream: bool) -> bytes:
    """HEADERS, and CONTINUATION frames where the block needs them."""
    flags = END_STREAM if end_stream else 0
    if len(block) <= max_frame:
        return frame_head(len(block), HEADERS, flags | END_HEADERS, stream_id) + block
    parts = [frame(HEADERS, flags, stream_id, block[:max_frame])]
    for start in range(max_frame, len(block), max_frame):
        piece = block[start : start + max_frame]
        is_last = start + max_frame >= len(block)
        parts.append(frame(CONTINUATION, END_HEADERS if is_last else 0, stream_id, piece))
    return b"".join(parts)


def response_block(status: int, fields: Iterable[tuple[str, str]]) -> bytes:
    """A response's header block; fields that HTTP/2 forbids are left out."""
    parts = [encode_field(b":status", b"%d" % status)]
    for name, value in fields:
        raw_name = name.lower().encode("latin-1")
        if raw_name not in HOP_BY_HOP:
            parts.append(encode_field(raw_name, value.encode("latin-1", "replace")))
    return b"".join(parts)
