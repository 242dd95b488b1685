"""Unary gRPC methods: message framing, and answers as header blocks ready to send.

The methods take and return serialised messages. A synchronous method is answered on the spot.

Source: gRPC over HTTP/2 (PROTOCOL-HTTP2.md); discovery.md section 1.5.
"""

import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from urllib.parse import quote

from lpnode.edge.http2.frames import response_block
from lpnode.edge.http2.hpack import encode_field
from lpnode.edge.status import grpc_status
from lpnode.errors import ConfigError

logger = logging.getLogger(__name__)

UnaryMethod = Callable[[bytes], bytes | Awaitable[bytes]]

_PREFIX_BYTES = 5  # compression flag, then the message's length in four bytes
_INVALID_ARGUMENT, _RESOURCE_EXHAUSTED, _UNIMPLEMENTED, _INTERNAL = 3, 8, 12, 13

_OK_HEAD = response_block(200, [("content-type", "application/grpc")])
_OK_TRAILERS = encode_field(b"grpc-status", b"0")


@dataclass(frozen=True, slots=True)
class Reply:
    """Header block, framed message and trailer block of one answer.

    A failure has trailers only: they then hold the whole head, so that the answer is one HEADERS
    frame that ends the stream.
    """

    head: bytes
    message: bytes
    trailers: bytes

    @staticmethod
    def success(message: bytes) -> "Reply":
        """Status 0 with one uncompressed message."""
        return Reply(_OK_HEAD, b"\0" + len(message).to_bytes(4, "big") + message, _OK_TRAILERS)

    @staticmethod
    def failure(status: int, text: str) -> "Reply":
        """A status other than 0. ``text`` is for the peer."""
        message = quote(text, safe=" !\"#$&'()*+,-./:;<=>?@[\\]^_`{|}~")
        trailers = encode_field(b"grpc-status", b"%d" % status)
        trailers += encode_field(b"grpc-message", message.encode())
        return Reply(b"", b"", _OK_HEAD + trailers)


@dataclass(frozen=True, slots=True, kw_only=True)
class GrpcConfig:
    """``max_message_bytes`` bounds a request's message."""

    max_message_bytes: int = 4 << 20

    def __post_init__(self) -> None:
        if self.max_message_bytes < 1:
            raise ConfigError(f"max_message_bytes must be positive, got {self.max_message_bytes}")


class UnaryMethods:
    """The table of methods, by full path such as ``/net.Orchestrator/Ping``."""

    def __init__(
        self, methods: Mapping[str, UnaryMethod], config: GrpcConfig | None = None
    ) -> None:
        config = config or GrpcConfig()
        self._methods = {path.encode(): method for path, method in methods.items()}
        self.max_request_bytes = config.max_message_bytes + _PREFIX_BYTES
        self.too_large_text = f"message is over {config.max_message_bytes} bytes"

    def refusal(self, method: bytes, content_type: bytes) -> bytes:
        """The head of a plain HTTP answer to what is not gRPC after all, or ``b""``."""
        if method != b"POST":
            return response_block(405, [("allow", "POST")])
        if content_type[16:17] not in (b"", b"+", b";"):
            return response_block(415, ())
        return b""

    def answer(self, path: bytes, body: bytes) -> Reply | Awaitable[Reply]:
        """Answers one complete request. Never raises: every failure is a Reply."""
        method = self._methods.get(path)
        if method is None:
            name = path.decode("ascii", "replace")[:200]
            return Reply.failure(_UNIMPLEMENTED, f"unknown method {name}")
        size = len(body)
        if size < _PREFIX_BYTES:
            return Reply.failure(_INTERNAL, f"message frame of {size} bytes is truncated")
        if body[0]:
            return Reply.failure(_UNIMPLEMENTED, "compressed messages are not supported")
        length = int.from_bytes(body[1:5], "big")
        if length != size - _PREFIX_BYTES:
            return Reply.failure(
                _INTERNAL,
                f"message frame announces {length} bytes and {size - _PREFIX_BYTES} came",
            )
        try:
            result = method(body[_PREFIX_BYTES:])
        except Exception as error:  # noqa: BLE001 one call's failure is that call's answer
            return _failed(path, error)
        if isinstance(result, bytes):
            return Reply.success(result)
        return self._await(path, result)

    async def _await(self, path: bytes, result: Awaitable[bytes]) -> Reply:
        try:
            return Reply.success(await result)
        except Exception as error:  # noqa: BLE001 one call's failure is that call's answer
            return _failed(path, error)


def _failed(path: bytes, error: Exception) -> Reply:
    status, text = grpc_status(error)
    if status == _INTERNAL:
        logger.error("%s failed", path.decode("ascii", "replace"), exc_info=error)
    return Reply.failure(status, text)
