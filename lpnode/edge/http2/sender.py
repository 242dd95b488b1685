"""The sending half of an HTTP/2 connection: windows, back-pressure, and few writes."""

import asyncio
from collections.abc import Iterable

from lpnode.edge.http2 import frames
from lpnode.edge.http2.frames import ConnectionFault, ErrorCode, StreamFault
from lpnode.edge.http2.stream import Stream
from lpnode.errors import PeerGone

# One turn of a long body: enough to keep a fast peer busy, small enough to be fair to others.
_TURN_BYTES = 1 << 18
_MAX_FRAME_BYTES = 1 << 16
# A peer that lets answers to its control frames pile up is not read until it takes them.
_UNREAD_LIMIT_BYTES = 1 << 20


class Sender:
    """Writes frames. Between ``hold`` and ``release`` they are collected into one write."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self.initial_window = frames.DEFAULT_WINDOW
        self.max_frame = frames.DEFAULT_FRAME_BYTES
        self._window = frames.DEFAULT_WINDOW
        self._transport = transport
        self._out: list[bytes] = []
        self._is_held = False
        self._is_paused = False
        self._has_paused_reading = False
        self._has_failed = False
        self._must_shrink_table = False
        self._blocked: set[Stream] = set()

    def hold(self) -> None:
        """Collects what is written from now on."""
        self._is_held = True

    def release(self) -> None:
        """Writes what was collected."""
        self._is_held = False
        if self._out:
            out = self._out
            data = out[0] if len(out) == 1 else b"".join(out)
            out.clear()
            self._transport.write(data)
            self._check_backlog()

    def write(self, data: bytes) -> None:
        """Writes whole frames that no window limits."""
        if self._has_failed:
            return
        if self._is_held:
            self._out.append(data)
        else:
            self._transport.write(data)
            self._check_backlog()

    def write_block(self, stream_id: int, block: bytes, *, end_stream: bool) -> None:
        """Writes a header block. A peer that shrank its table is told that ours is empty."""
        if self._must_shrink_table:
            self._must_shrink_table = False
            block = b"\x20" + block
        self.write(frames.header_frames(stream_id, block, self.max_frame, end_stream=end_stream))

    def write_head(self, stream: Stream, block: bytes, *, end_stream: bool) -> None:
        """Writes the response's head or trailers.

        Raises: PeerGone: nobody waits for them.
        """
        if stream.is_gone:
            raise PeerGone("the peer ended the request before its answer")
        self.write_block(stream.id, block, end_stream=end_stream)

    def has_room(self, stream: Stream, size: int) -> bool:
        """Whether ``size`` bytes of body can be written now, in one frame."""
        return (
            size <= self._window
            and size <= stream.send_window
            and size <= self.max_frame
            and not self._is_paused
        )

    def write_unary(self, stream: Stream, head: bytes, body: bytes, trailers: bytes) -> None:
        """Writes a whole answer with trailers, for which there is room. ``head`` may be empty
        if ``body`` is: then the trailers are all there is."""
        if head:
            self.write_block(stream.id, head, end_stream=False)
            self._take(stream, len(body))
            stream_id = stream.id
            self.write(frames.frame_head(len(body), frames.DATA, 0, stream_id) + body)
        self.write_block(stream.id, trailers, end_stream=True)

    def write_whole(self, stream: Stream, block: bytes, body: bytes) -> None:
        """Writes head and body, for which there is room, in one piece.

        Raises: PeerGone: nobody waits for them.
        """
        was_held = self._is_held
        self._is_held = True
        try:
            self.write_head(stream, block, end_stream=False)
            self._take(stream, len(body))
            self.write(frames.frame(frames.DATA, frames.END_STREAM, stream.id, body))
        finally:
            self._is_held = was_held
            if not was_held:
                self.release()

    async def send(self, stream: Stream, data: bytes, *, end_stream: bool) -> None:
        """Sends body bytes as the windows and the transport allow.

        Raises: PeerGone: the stream was reset or the connection lost.
        """
        view = memoryview(data)
        while True:
            await self._wait_for_room(stream, needs_window=bool(view))
            turn = min(len(view), self._window, stream.send_window, _TURN_BYTES)
            parts: list[bytes | memoryview] = []
            for start in range(0, turn, self.max_frame):
                piece = view[start : min(start + self.max_frame, turn)]
                is_last = end_stream and start + len(piece) == len(view)
                flags = frames.END_STREAM if is_last else 0
                parts.append(frames.frame_head(len(piece), frames.DATA, flags, stream.id))
                parts.append(piece)
            self._take(stream, turn)
            view = view[turn:]
            if parts:
                self.write(b"".join(parts))
            elif end_stream:
                self.write(frames.frame_head(0, frames.DATA, frames.END_STREAM, stream.id))
            if not view:
                return

    def apply(self, settings: list[tuple[int, int]], streams: Iterable[Stream]) -> None:
        """Takes over the peer's settings.

        Raises: ConnectionFault: a value is out of range.
        """
        for key, value in settings:
            if key == frames.SETTING_INITIAL_WINDOW_SIZE:
                if value > frames.MAX_WINDOW:
                    raise ConnectionFault(ErrorCode.FLOW_CONTROL_ERROR, f"window of {value}")
                change = value - self.initial_window
                self.initial_window = value
                for stream in streams:
                    stream.send_window += change
                    if stream.send_window > frames.MAX_WINDOW:
                        raise ConnectionFault(ErrorCode.FLOW_CONTROL_ERROR, "window overflow")
            elif key == frames.SETTING_MAX_FRAME_SIZE:
                if not frames.DEFAULT_FRAME_BYTES <= value < 1 << 24:
                    raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, f"frame size of {value}")
                self.max_frame = min(value, _MAX_FRAME_BYTES)
            elif key == frames.SETTING_ENABLE_PUSH and value > 1:
                raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, f"ENABLE_PUSH of {value}")
            elif key == frames.SETTING_HEADER_TABLE_SIZE:
                self._must_shrink_table = True
        self._wake_all()

    def grow(self, increment: int) -> None:
        """The peer takes more on the connection.

        Raises: ConnectionFault: an increment of 0, or a window beyond 2**31 - 1.
        """
        if increment == 0:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "WINDOW_UPDATE of 0")
        self._window += increment
        if self._window > frames.MAX_WINDOW:
            raise ConnectionFault(ErrorCode.FLOW_CONTROL_ERROR, "connection window overflow")
        self._wake_all()

    def grow_stream(self, stream: Stream, increment: int) -> None:
        """The peer takes more on one stream.

        Raises: StreamFault: as ``grow``.
        """
        if increment == 0:
            raise StreamFault(stream.id, ErrorCode.PROTOCOL_ERROR, "WINDOW_UPDATE of 0")
        stream.send_window += increment
        if stream.send_window > frames.MAX_WINDOW:
            raise StreamFault(stream.id, ErrorCode.FLOW_CONTROL_ERROR, "window overflow")
        stream.wake_sender()

    def pause(self) -> None:
        """The transport's buffer is full."""
        self._is_paused = True

    def resume(self) -> None:
        """The transport's buffer has drained."""
        self._is_paused = False
        if self._has_paused_reading:
            self._has_paused_reading = False
            self._transport.resume_reading()
        self._wake_all()

    def fail(self) -> None:
        """The connection is lost or closing; nothing is written any more."""
        self._has_failed = True
        self._out.clear()

    def _take(self, stream: Stream, size: int) -> None:
        self._window -= size
        stream.send_window -= size

    def _check_backlog(self) -> None:
        if (
            self._is_paused
            and not self._has_paused_reading
            and self._transport.get_write_buffer_size() > _UNREAD_LIMIT_BYTES
        ):
            self._has_paused_reading = True
            self._transport.pause_reading()

    async def _wait_for_room(self, stream: Stream, *, needs_window: bool) -> None:
        while True:
            if stream.is_gone or self._has_failed:
                raise PeerGone("the peer ended the request before its answer")
            has_window = self._window > 0 and stream.send_window > 0
            if not self._is_paused and (has_window or not needs_window):
                return
            stream.send_waiter = asyncio.get_running_loop().create_future()
            self._blocked.add(stream)
            try:
                await stream.send_waiter
            finally:
                stream.send_waiter = None
                self._blocked.discard(stream)

    def _wake_all(self) -> None:
        for stream in self._blocked:
            stream.wake_sender()
