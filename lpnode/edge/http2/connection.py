"""One HTTP/2 connection: frames in, requests to their handlers, answers out.

A unary gRPC call whose method is synchronous is answered inside ``data_received``: no task, and
one write to the transport for everything that one read brought in.

Source: RFC 9113; discovery.md sections 1.1 and 1.5.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from typing import cast

from lpnode.edge.exchange import Handler, Headers, Request, closing_body
from lpnode.edge.grpc.server import Reply, UnaryMethods
from lpnode.edge.http2 import frames
from lpnode.edge.http2.allowance import Allowance
from lpnode.edge.http2.frames import ConnectionFault, ErrorCode, StreamFault
from lpnode.edge.http2.head import HeadReader
from lpnode.edge.http2.hpack import FIELD_OVERHEAD
from lpnode.edge.http2.sender import Sender
from lpnode.edge.http2.stream import Stream
from lpnode.errors import ConfigError, PeerGone, ProtocolError, TooLarge

logger = logging.getLogger(__name__)


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
        handler: Handler,
        grpc: UnaryMethods,
        tasks: asyncio.TaskGroup,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._config = config
        self._handler = handler
        self._grpc = grpc
        self._tasks = tasks
        self._clock = clock
        self._heads = HeadReader(config.header_list_bytes)
        self._streams: dict[int, Stream] = {}
        self._num_running = 0
        self._last_id = 0
        self._buffer = bytearray()
        self._need = len(frames.PREFACE)
        self._has_preface = False
        self._waiting_since: float | None = None
        self._block: bytearray | None = None
        self._block_stream = 0
        self._block_flags = 0
        self._receive_window = config.connection_window_bytes
        self._unrefunded = 0
        self._allowance = Allowance(clock)
        self._is_closing = False
        self._is_draining = False
        self._peer = ""
        self._transport: asyncio.Transport
        self._sender: Sender
        self.idle_since: float | None = clock()
        self._on_frame = (
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
        buffer = self._buffer
        if buffer:
            buffer += data
            if len(buffer) < self._need:
                return
            data = bytes(buffer)
            buffer.clear()
        self._waiting_since = None
        self._sender.hold()
        try:
            used = self._parse(data)
        except ConnectionFault as fault:
            self._close(fault.code, str(fault))
            used = len(data)
        if used < len(data):
            buffer += data[used:]
        if buffer or self._block is not None:
            self._waiting_since = self._clock()
        self._sender.release()

    def eof_received(self) -> None:
        """HTTP/2 knows no half-closed connections: returning None closes the transport."""

    def connection_lost(self, exc: Exception | None) -> None:
        self._is_closing = True
        self._sender.fail()
        for stream in list(self._streams.values()):
            self._abandon(stream)

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
        for stream in list(self._streams.values()):
            is_late = now - stream.opened_s > config.grpc_timeout_s
            if stream.head.is_grpc and not stream.is_received and is_late:
                self._reply(stream, Reply.failure(4, "the request did not arrive in time"))

    def drain(self) -> None:
        """Takes no new streams; closes when the last one has ended."""
        if self._is_draining or self._is_closing:
            return
        self._is_draining = True
        self._transport.write(frames.go_away(self._last_id, ErrorCode.NO_ERROR))
        self._close_if_drained()

    # Frames.

    def _parse(self, data: bytes) -> int:
        pos = 0
        end = len(data)
        if not self._has_preface:
            size = len(frames.PREFACE)
            if data[:size] != frames.PREFACE[:end]:
                raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "not an HTTP/2 preface")
            if end < size:
                self._need = size
                return 0
            self._has_preface = True
            pos = size
        unpack = frames.FRAME_HEAD.unpack_from
        max_frame = self._config.max_frame_bytes
        while not self._is_closing:
            if end - pos < frames.FRAME_HEAD_BYTES:
                self._need = frames.FRAME_HEAD_BYTES
                break
            high, low, kind, flags, stream_id = unpack(data, pos)
            length = high << 8 | low
            if length > max_frame:
                raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, f"frame of {length} bytes")
            start = pos + frames.FRAME_HEAD_BYTES
            stop = start + length
            if stop > end:
                self._need = stop - pos
                break
            pos = stop
            if self._block is not None and kind != frames.CONTINUATION:
                raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "frame inside a header block")
            try:
                if kind <= frames.CONTINUATION:
                    self._on_frame[kind](flags, stream_id & 0x7FFFFFFF, data[start:stop])
                else:
                    self._allowance.spend(1)
            except StreamFault as fault:
                self._allowance.spend(10)
                self._reset(fault.stream_id, fault.code)
        return pos

    def _on_data(self, flags: int, stream_id: int, payload: bytes) -> None:
        size = len(payload)
        self._receive_window -= size
        if self._receive_window < 0:
            raise ConnectionFault(ErrorCode.FLOW_CONTROL_ERROR, "connection window overrun")
        stream = self._streams.get(stream_id)
        if stream is None or stream.is_received:
            self._check_is_past(stream_id)
            self._allowance.spend(1)
            self._refund_connection(size)
            if stream is not None:
                raise StreamFault(stream_id, ErrorCode.STREAM_CLOSED, "DATA after the end")
            return
        stream.receive_window -= size
        if stream.receive_window < 0:
            raise StreamFault(stream_id, ErrorCode.FLOW_CONTROL_ERROR, "stream window overrun")
        if flags & frames.PADDED:
            payload = _without_padding(payload)
            self.refund(stream, size - len(payload))
        has_ended = bool(flags & frames.END_STREAM)
        if payload:
            if stream.remaining >= 0:
                stream.remaining -= len(payload)
                if stream.remaining < 0:
                    raise StreamFault(stream_id, ErrorCode.PROTOCOL_ERROR, "body over its length")
            stream.feed(payload)
            if stream.head.is_grpc:
                self._on_grpc_piece(stream, len(payload))
        elif not has_ended:
            self._allowance.spend(1)
        if has_ended and not stream.is_gone:
            self._end_request(stream)

    def _on_headers(self, flags: int, stream_id: int, payload: bytes) -> None:
        if stream_id % 2 == 0:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, f"HEADERS on stream {stream_id}")
        if flags & frames.PADDED:
            payload = _without_padding(payload)
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
        if len(block) > self._config.header_list_bytes:
            raise ConnectionFault(ErrorCode.ENHANCE_YOUR_CALM, "header block over the limit")
        if flags & frames.END_HEADERS:
            self._block = None
            has_ended = bool(self._block_flags & frames.END_STREAM)
            self._on_block(stream_id, bytes(block), has_ended=has_ended)

    def _on_block(self, stream_id: int, block: bytes, *, has_ended: bool) -> None:
        stream = self._streams.get(stream_id)
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
            self._end_request(stream)

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
        is_full = max(len(self._streams), self._num_running) >= self._config.max_streams
        if is_full or self._is_draining:
            raise StreamFault(stream_id, ErrorCode.REFUSED_STREAM, "no more streams")
        stream = Stream(
            stream_id,
            head,
            self,
            self._config.stream_window_bytes,
            self._sender.initial_window,
            self._clock(),
        )
        self._streams[stream_id] = stream
        self.idle_since = None
        if head.is_grpc:
            stream.is_received = has_ended
            refusal = self._grpc.refusal(head.method, head.content_type)
            if refusal:
                self._sender.write_head(stream, refusal, end_stream=True)
                self._finish(stream)
                return
        else:
            self._start(stream, self._serve(stream))
        if has_ended:
            self._end_request(stream)

    def _end_request(self, stream: Stream) -> None:
        if stream.remaining > 0:
            raise StreamFault(stream.id, ErrorCode.PROTOCOL_ERROR, "body under its length")
        stream.end_body()
        if stream.head.is_grpc:
            self._call(stream)

    def _on_grpc_piece(self, stream: Stream, size: int) -> None:
        # The message is collected whole, so its bytes are handed back to the window at once.
        self.refund(stream, size)
        stream.received_bytes += size
        if stream.received_bytes > self._grpc.max_request_bytes:
            self._reply(stream, Reply.failure(8, self._grpc.too_large_text))

    def _on_priority(self, flags: int, stream_id: int, payload: bytes) -> None:
        if len(payload) != 5:
            raise StreamFault(stream_id, ErrorCode.FRAME_SIZE_ERROR, "PRIORITY of wrong size")
        self._allowance.spend(1)

    def _on_reset(self, flags: int, stream_id: int, payload: bytes) -> None:
        if len(payload) != 4:
            raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "RST_STREAM of wrong size")
        self._check_is_past(stream_id)
        self._allowance.spend(10)
        stream = self._streams.get(stream_id)
        if stream is not None:
            self._abandon(stream)

    def _on_settings(self, flags: int, stream_id: int, payload: bytes) -> None:
        if stream_id:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "SETTINGS on a stream")
        if len(payload) % 6 or (flags & frames.ACK and payload):
            raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "SETTINGS of wrong size")
        self._allowance.spend(5)
        if not flags & frames.ACK:
            self._sender.apply(frames.parse_settings(payload), self._streams.values())
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

    def _on_window_update(self, flags: int, stream_id: int, payload: bytes) -> None:
        if len(payload) != 4:
            raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "WINDOW_UPDATE of wrong size")
        increment = int.from_bytes(payload, "big") & frames.MAX_WINDOW
        if stream_id == 0:
            self._sender.grow(increment)
            return
        stream = self._streams.get(stream_id)
        if stream is not None:
            self._sender.grow_stream(stream, increment)
        else:
            self._check_is_past(stream_id)

    # Answers.

    def _call(self, stream: Stream) -> None:
        answer = self._grpc.answer(stream.head.path, b"".join(stream.pieces))
        stream.pieces.clear()
        if isinstance(answer, Reply):
            self._reply(stream, answer)
        else:
            self._start(stream, self._finish_call(stream, answer))

    def _reply(self, stream: Stream, reply: Reply) -> None:
        """Sends a unary answer: in one write if the windows have room, else by a task."""
        sender = self._sender
        if not reply.message or sender.has_room(stream, len(reply.message)):
            sender.write_unary(stream, reply.head, reply.message, reply.trailers)
            self._finish(stream)
        else:
            self._start(stream, self._finish_reply(stream, reply))

    async def _finish_call(self, stream: Stream, answer: Awaitable[Reply]) -> None:
        await self._finish_reply(stream, await answer)

    async def _finish_reply(self, stream: Stream, reply: Reply) -> None:
        sender = self._sender
        sender.write_head(stream, reply.head, end_stream=False)
        await sender.send(stream, reply.message, end_stream=False)
        sender.write_head(stream, reply.trailers, end_stream=True)

    async def _serve(self, stream: Stream) -> None:
        head = stream.head
        path, _, query = head.path.decode("latin-1").partition("?")
        fields = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in head.fields]
        if head.authority:
            fields.insert(0, ("host", head.authority.decode("latin-1")))
        request = Request(
            head.method.decode("latin-1"), path, query, Headers(fields), stream, "2", self._peer
        )
        response = await self._handler(request)
        block = frames.response_block(response.status, response.headers)
        sender = self._sender
        body = response.body
        if isinstance(body, bytes):
            has_body = bool(body) and request.method != "HEAD"
            if has_body and sender.has_room(stream, len(body)):
                sender.write_whole(stream, block, body)
                return
            sender.write_head(stream, block, end_stream=not has_body)
            if has_body:
                await sender.send(stream, body, end_stream=True)
            return
        async with closing_body(body) as pieces:
            if request.method == "HEAD":
                sender.write_head(stream, block, end_stream=True)
                return
            sender.write_head(stream, block, end_stream=False)
            async for piece in pieces:
                if piece:
                    await sender.send(stream, piece, end_stream=False)
            await sender.send(stream, b"", end_stream=True)

    def _start(self, stream: Stream, work: Coroutine[None, None, None]) -> None:
        self._num_running += 1
        stream.task = self._tasks.create_task(
            self._contain(stream, work), name=f"http2 {self._peer} stream {stream.id}"
        )

    async def _contain(self, stream: Stream, work: Coroutine[None, None, None]) -> None:
        code = ErrorCode.NO_ERROR
        try:
            await work
        except PeerGone:
            code = ErrorCode.CANCEL
        except asyncio.CancelledError:
            code = ErrorCode.CANCEL
            raise
        except Exception:
            logger.exception("answer to %s on stream %d failed", self._peer, stream.id)
            code = ErrorCode.INTERNAL_ERROR
        finally:
            self._num_running -= 1
            self._finish(stream, code)

    # The end of streams and of the connection.

    def refund(self, stream: Stream, num_bytes: int) -> None:
        """``num_bytes`` of the stream's body are no longer held: the peer may send as many more."""
        self._refund_connection(num_bytes)
        if stream.is_received or stream.is_gone:
            return
        stream.unrefunded += num_bytes
        if stream.unrefunded * 2 >= self._config.stream_window_bytes:
            self._sender.write(frames.window_update(stream.id, stream.unrefunded))
            stream.receive_window += stream.unrefunded
            stream.unrefunded = 0

    def _refund_connection(self, num_bytes: int) -> None:
        self._unrefunded += num_bytes
        if self._unrefunded * 2 >= self._config.connection_window_bytes and not self._is_closing:
            self._sender.write(frames.window_update(0, self._unrefunded))
            self._receive_window += self._unrefunded
            self._unrefunded = 0

    def _check_is_past(self, stream_id: int) -> None:
        if stream_id == 0 or stream_id % 2 == 0 or stream_id > self._last_id:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, f"frame on idle stream {stream_id}")

    def _finish(self, stream: Stream, code: ErrorCode = ErrorCode.NO_ERROR) -> None:
        """The answer is out, or never will be: forgets the stream and what it still holds."""
        if self._streams.pop(stream.id, None) is not None:
            has_answered = code == ErrorCode.NO_ERROR
            if not (has_answered and stream.is_received) and not self._is_closing:
                self._sender.write(frames.reset(stream.id, code))
            self._drop_body(stream)
        self._close_if_drained()

    def _abandon(self, stream: Stream) -> None:
        """The peer has reset the stream, or is to be told so: nobody waits for an answer."""
        self._streams.pop(stream.id, None)
        stream.vanish()
        self._drop_body(stream)
        self._close_if_drained()

    def _reset(self, stream_id: int, code: ErrorCode) -> None:
        self._sender.write(frames.reset(stream_id, code))
        stream = self._streams.get(stream_id)
        if stream is not None:
            self._abandon(stream)

    def _drop_body(self, stream: Stream) -> None:
        held = sum(map(len, stream.pieces))
        stream.pieces.clear()
        stream.is_gone = True
        if held and not stream.head.is_grpc:  # a gRPC body is refunded as it arrives
            self._refund_connection(held)
        if not self._streams:
            self.idle_since = self._clock()

    def _close(self, code: ErrorCode, text: str) -> None:
        if self._is_closing:
            return
        logger.debug("closing %s: %s", self._peer, text)
        self._sender.write(frames.go_away(self._last_id, code, text))
        self._is_closing = True
        self._sender.release()
        for stream in list(self._streams.values()):
            self._abandon(stream)
        self._transport.close()

    def _close_if_drained(self) -> None:
        if self._is_draining and not self._streams and not self._is_closing:
            self._is_closing = True
            self._sender.release()
            self._transport.close()


def _without_padding(payload: bytes) -> bytes:
    if not payload or payload[0] >= len(payload):
        raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "padding longer than its frame")
    return payload[1 : len(payload) - payload[0]]
