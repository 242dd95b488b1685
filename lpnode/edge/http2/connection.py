"""One HTTP/2 connection: frames in, requests to their handlers, answers out.

A unary gRPC call whose method is synchronous is answered inside ``data_received``: no task, and
one write to the transport for everything that one read brought in.

Note [Copies of a body]
In: a frame's payload is cut out of the bytes that came with its neighbours (a view would keep all
of them alive), and the beginning of a frame that came in two reads is joined with its end. Out:
frame heads and payloads are joined, because TLS makes a record of each write. Video goes over
HTTP/1.1, where none of this happens: see ``edge.trickle.connection``.

Source: RFC 9113; discovery.md sections 1.1 and 1.5.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

from lpnode.edge.grpc.server import Reply
from lpnode.edge.http2 import frames
from lpnode.edge.http2.allowance import Allowance
from lpnode.edge.http2.exchanges import Application, Exchanges
from lpnode.edge.http2.frame_reader import FrameReader
from lpnode.edge.http2.frames import ConnectionFault, ErrorCode, StreamFault
from lpnode.edge.http2.head import HeadReader
from lpnode.edge.http2.hpack import FIELD_OVERHEAD
from lpnode.edge.http2.sender import Sender
from lpnode.errors import ConfigError, ProtocolError, TooLarge

logger = logging.getLogger(__name__)

_LINGER_S = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Http2Config:
    """Limits of one HTTP/2 connection.

    ``max_head_bytes`` counts a request's field names and values; ``grpc_timeout_s`` is how long a
    unary call may take to arrive, ``head_timeout_s`` a header block or any frame.
    """

    max_streams: int = 256
    stream_window_bytes: int = 1 << 20
    connection_window_bytes: int = 16 << 20
    max_frame_bytes: int = 1 << 16
    max_head_bytes: int = 1 << 20
    head_timeout_s: float = 30.0
    grpc_timeout_s: float = 60.0

    def __post_init__(self) -> None:
        if not frames.DEFAULT_FRAME_BYTES <= self.max_frame_bytes < 1 << 24:
            raise ConfigError(
                f"max_frame_bytes must be 16384 to 16777215, got {self.max_frame_bytes}"
            )
        windows = (self.stream_window_bytes, self.connection_window_bytes)
        if min(windows) < frames.DEFAULT_WINDOW or max(windows) > frames.MAX_WINDOW:
            raise ConfigError(f"windows must be 65535 to 2147483647 bytes, got {windows}")
        if self.max_streams < 1 or self.max_head_bytes < frames.DEFAULT_FRAME_BYTES:
            raise ConfigError("max_streams must be at least 1, max_head_bytes at least 16384")

    @property
    def header_list_bytes(self) -> int:
        """``max_head_bytes`` in HTTP/2's count, with room for 512 fields' overhead."""
        return self.max_head_bytes + 512 * FIELD_OVERHEAD


class Http2Connection(asyncio.Protocol):
    """Serves one connection. Its handlers run as tasks of ``tasks``; a handler is cancelled when
    its peer resets the stream or goes away, unless it waits for body bytes: then it gets PeerGone.
    """

    def __init__(
        self,
        config: Http2Config,
        application: Application,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._config = config
        self._application = application
        self._clock = clock
        self._heads = HeadReader(config.header_list_bytes)
        self._last_id = 0
        self._reader = FrameReader(config.max_frame_bytes, self._on_frame)
        self._waiting_since: float | None = None
        self._block: bytearray | None = None
        self._block_stream = 0
        self._block_flags = 0
        self._allowance = Allowance(clock)
        self._is_closing = False
        self._is_draining = False
        self._peer = ""
        self._transport: asyncio.Transport
        self._sender: Sender
        self._exchanges: Exchanges
        self.idle_since: float | None = clock()
        self._by_kind = (
            self._on_data,
            self._on_headers,
            self._on_priority,
            self._on_reset,
            self._on_settings,
            self._on_push_promise,
            self._on_ping,
            self._on_go_away,
            self._on_window_update,
            self._on_continuation,
        )

    # The transport's side.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Sends our SETTINGS at once: gRPC clients wait for them before their first call."""
        config = self._config
        # uvloop's TLS transport has the interface without the type.
        self._transport = cast(asyncio.Transport, transport)
        self._sender = Sender(self._transport)
        peer = transport.get_extra_info("peername")
        self._peer = f"{peer[0]}:{peer[1]}" if isinstance(peer, tuple) else ""
        self._exchanges = Exchanges(
            self._application,
            self._sender,
            self._peer,
            stream_window=config.stream_window_bytes,
            connection_window=config.connection_window_bytes,
            clock=self._clock,
            ended=self._on_ended,
        )
        self._transport.write(
            frames.settings(
                (
                    (frames.SETTING_MAX_CONCURRENT_STREAMS, config.max_streams),
                    (frames.SETTING_INITIAL_WINDOW_SIZE, config.stream_window_bytes),
                    (frames.SETTING_MAX_FRAME_SIZE, config.max_frame_bytes),
                    (frames.SETTING_MAX_HEADER_LIST_SIZE, config.header_list_bytes),
                )
            )
            + frames.window_update(0, config.connection_window_bytes - frames.DEFAULT_WINDOW)
        )

    def data_received(self, data: bytes) -> None:
        """Takes bytes as they come; everything they cause goes out in one write."""
        if self._is_closing:
            return
        self._sender.hold()
        try:
            if not self._reader.feed(data):
                return
        except ConnectionFault as fault:
            self._close(fault.code, str(fault))
            return
        finally:
            self._sender.release()
        if self._block is None:
            self._waiting_since = self._clock() if self._reader.is_inside_frame else None
        elif self._waiting_since is None:
            # A header block is timed as a whole, however its frames drip in.
            self._waiting_since = self._clock()

    def eof_received(self) -> None:
        """HTTP/2 knows no half-closed connections: returning None closes the transport."""

    def connection_lost(self, exc: Exception | None) -> None:
        self._is_closing = True
        self._sender.fail()
        self._exchanges.abandon_all()

    def pause_writing(self) -> None:
        self._sender.pause()

    def resume_writing(self) -> None:
        self._sender.resume()

    # The listener's side.

    def sweep(self, now: float) -> None:
        """Ends what has been incomplete for too long. Called every few seconds."""
        config = self._config
        if self._waiting_since is not None and now - self._waiting_since > config.head_timeout_s:
            self._close(ErrorCode.NO_ERROR, "timed out waiting for the rest of a frame")
            return
        for stream in list(self._exchanges.open.values()):
            is_late = now - stream.opened_s > config.grpc_timeout_s
            if stream.head.is_grpc and not stream.is_received and is_late:
                self._exchanges.reply(
                    stream, Reply.failure(4, "the request did not arrive in time")
                )

    def drain(self) -> None:
        """Takes no new streams; closes when the last one has ended."""
        if self._is_closing:
            return
        self._is_draining = True
        self._transport.write(frames.go_away(self._last_id, ErrorCode.NO_ERROR))
        self._on_ended()

    # Frames.

    def _on_frame(self, kind: int, flags: int, stream_id: int, payload: bytes) -> None:
        if self._block is not None and kind != frames.CONTINUATION:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "frame inside a header block")
        try:
            if kind <= frames.CONTINUATION:
                self._by_kind[kind](flags, stream_id, payload)
            else:
                self._allowance.spend(1)
        except StreamFault as fault:
            self._allowance.spend(10)
            self._exchanges.reset(fault.stream_id, fault.code)

    def _on_data(self, flags: int, stream_id: int, payload: bytes) -> None:
        exchanges = self._exchanges
        size = len(payload)
        exchanges.window -= size
        if exchanges.window < 0:
            raise ConnectionFault(ErrorCode.FLOW_CONTROL_ERROR, "connection window overrun")
        stream = exchanges.open.get(stream_id)
        if stream is None or stream.is_received:
            self._check_is_past(stream_id)
            self._allowance.spend(1)
            exchanges.refund_connection(size)
            if stream is not None:
                raise StreamFault(stream_id, ErrorCode.STREAM_CLOSED, "DATA after the end")
            return
        stream.receive_window -= size
        if stream.receive_window < 0:
            exchanges.refund_connection(size)
            raise StreamFault(stream_id, ErrorCode.FLOW_CONTROL_ERROR, "stream window overrun")
        if flags & frames.PADDED:
            payload = frames.without_padding(payload)
            exchanges.refund(stream, size - len(payload))
        has_ended = bool(flags & frames.END_STREAM)
        if payload:
            exchanges.take(stream, payload)
        elif not has_ended:
            self._allowance.spend(1)
        if has_ended and not stream.is_gone:
            exchanges.end_body(stream)

    def _on_headers(self, flags: int, stream_id: int, payload: bytes) -> None:
        if stream_id % 2 == 0:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, f"HEADERS on stream {stream_id}")
        if flags & frames.PADDED:
            payload = frames.without_padding(payload)
        if flags & frames.PRIORITISED:
            if len(payload) < 5:
                raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "HEADERS without its priority")
            payload = payload[5:]
        if flags & frames.END_HEADERS:
            self._on_block(stream_id, payload, has_ended=bool(flags & frames.END_STREAM))
        else:
            self._block = bytearray(payload)
            self._block_stream = stream_id
            self._block_flags = flags

    def _on_continuation(self, flags: int, stream_id: int, payload: bytes) -> None:
        block = self._block
        if block is None or stream_id != self._block_stream:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "CONTINUATION out of place")
        if len(payload) < 1024 and not flags & frames.END_HEADERS:
            self._allowance.spend(10)
        block += payload
        if len(block) > 2 * self._config.header_list_bytes:
            raise ConnectionFault(ErrorCode.ENHANCE_YOUR_CALM, "header block over the limit")
        if flags & frames.END_HEADERS:
            self._block = None
            has_ended = bool(self._block_flags & frames.END_STREAM)
            self._on_block(stream_id, bytes(block), has_ended=has_ended)

    def _on_block(self, stream_id: int, block: bytes, *, has_ended: bool) -> None:
        stream = self._exchanges.open.get(stream_id)
        if stream is None and stream_id > self._last_id:
            self._last_id = stream_id
            self._open(stream_id, block, has_ended=has_ended)
            return
        # Trailers; their content is of no use, but the table has to follow it.
        try:
            self._heads.skip(block)
        except TooLarge:
            self._allowance.spend(10)
        if stream is None:
            self._allowance.spend(1)
        elif stream.is_received or not has_ended:
            raise StreamFault(stream_id, ErrorCode.PROTOCOL_ERROR, "HEADERS out of place")
        else:
            self._exchanges.end_body(stream)

    def _open(self, stream_id: int, block: bytes, *, has_ended: bool) -> None:
        try:
            head = self._heads.read(block)
        except TooLarge as error:
            logger.debug("request from %s refused: %s", self._peer, error)
            self._allowance.spend(10)
            self._sender.write_block(stream_id, frames.response_block(431, ()), end_stream=True)
            if not has_ended:
                self._sender.write(frames.reset(stream_id, ErrorCode.NO_ERROR))
            return
        except ConnectionFault:
            raise
        except ProtocolError as error:
            raise StreamFault(stream_id, ErrorCode.PROTOCOL_ERROR, str(error)) from error
        exchanges = self._exchanges
        is_full = max(len(exchanges.open), exchanges.num_running) >= self._config.max_streams
        if is_full or self._is_draining:
            raise StreamFault(stream_id, ErrorCode.REFUSED_STREAM, "no more streams")
        self.idle_since = None
        exchanges.begin(stream_id, head, has_ended=has_ended)

    def _on_priority(self, flags: int, stream_id: int, payload: bytes) -> None:
        if len(payload) != 5:
            raise StreamFault(stream_id, ErrorCode.FRAME_SIZE_ERROR, "PRIORITY of wrong size")
        self._allowance.spend(1)

    def _on_reset(self, flags: int, stream_id: int, payload: bytes) -> None:
        if len(payload) != 4:
            raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "RST_STREAM of wrong size")
        self._check_is_past(stream_id)
        self._allowance.spend(10)
        stream = self._exchanges.open.get(stream_id)
        if stream is not None:
            self._exchanges.abandon(stream)

    def _on_settings(self, flags: int, stream_id: int, payload: bytes) -> None:
        if stream_id:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "SETTINGS on a stream")
        if len(payload) % 6 or (flags & frames.ACK and payload):
            raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "SETTINGS of wrong size")
        self._allowance.spend(5)
        if not flags & frames.ACK:
            self._sender.apply(frames.parse_settings(payload), self._exchanges.open.values())
            self._sender.write(frames.frame(frames.SETTINGS, frames.ACK, 0, b""))

    def _on_push_promise(self, flags: int, stream_id: int, payload: bytes) -> None:
        raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "a client cannot push")

    def _on_ping(self, flags: int, stream_id: int, payload: bytes) -> None:
        if stream_id:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "PING on a stream")
        if len(payload) != 8:
            raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "PING of wrong size")
        self._allowance.spend(1)
        if not flags & frames.ACK:
            self._sender.write(frames.frame(frames.PING, frames.ACK, 0, payload))

    def _on_go_away(self, flags: int, stream_id: int, payload: bytes) -> None:
        self._is_draining = True  # the peer opens no more streams and awaits those it has
        self._on_ended()

    def _on_window_update(self, flags: int, stream_id: int, payload: bytes) -> None:
        if len(payload) != 4:
            raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "WINDOW_UPDATE of wrong size")
        increment = int.from_bytes(payload, "big") & frames.MAX_WINDOW
        if stream_id == 0:
            self._sender.grow(increment)
            return
        stream = self._exchanges.open.get(stream_id)
        if stream is not None:
            self._sender.grow_stream(stream, increment)
        else:
            self._check_is_past(stream_id)

    # The end of the connection.

    def _check_is_past(self, stream_id: int) -> None:
        if stream_id == 0 or stream_id % 2 == 0 or stream_id > self._last_id:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, f"frame on idle stream {stream_id}")

    def _close(self, code: ErrorCode, text: str = "") -> None:
        if self._is_closing:
            return
        logger.debug("closing %s: %s", self._peer, text)
        self._is_closing = True
        self._reader.stop()
        self._sender.write(frames.go_away(self._last_id, code, text))
        self._sender.release()
        self._sender.fail()
        self._exchanges.abandon_all()
        if code == ErrorCode.NO_ERROR:
            self._transport.close()
        else:
            # Closing with unread bytes would make the kernel send a reset, which may overtake
            # GOAWAY; so they are read on for a moment, and dropped.
            asyncio.get_running_loop().call_later(_LINGER_S, self._transport.close)

    def _on_ended(self) -> None:
        if not self._exchanges.open:
            self.idle_since = self._clock()
            if self._is_draining:
                self._close(ErrorCode.NO_ERROR)
