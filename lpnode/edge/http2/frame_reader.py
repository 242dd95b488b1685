"""Cuts frames out of the bytes of a connection."""

from collections.abc import Callable

from lpnode.edge.http2 import frames
from lpnode.edge.http2.frames import ConnectionFault, ErrorCode

_STREAM_ID = 0x7FFFFFFF

TakeFrame = Callable[[int, int, int, bytes], None]
"""Gets kind, flags, stream id and payload of a frame."""


class FrameReader:
    """Checks a client's preface, then hands out each frame once it is whole."""

    __slots__ = ("_buffer", "_has_preface", "_is_stopped", "_max_frame_bytes", "_need", "_take")

    def __init__(self, max_frame_bytes: int, take: TakeFrame) -> None:
        self._max_frame_bytes = max_frame_bytes
        self._take = take
        self._buffer = bytearray()
        self._need = len(frames.PREFACE)
        self._has_preface = False
        self._is_stopped = False

    @property
    def is_inside_frame(self) -> bool:
        """Something has begun whose end has not come."""
        return bool(self._buffer)

    def feed(self, data: bytes) -> bool:
        """Takes bytes as they come.

        Returns: False if they only prolong what has begun before and still has no end.
        Raises: ConnectionFault: not a preface, or a frame too large; and whatever ``take`` raises.
        """
        buffer = self._buffer
        if buffer:
            buffer += data
            if len(buffer) < self._need:
                return False
            data = bytes(buffer)
            buffer.clear()
        used = self._cut(data)
        if used < len(data):
            buffer += data[used:]
        return True

    def stop(self) -> None:
        """Hands out no more frames, not even of bytes that are being taken."""
        self._is_stopped = True

    def _cut(self, data: bytes) -> int:
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
        while not self._is_stopped:
            if end - pos < frames.FRAME_HEAD_BYTES:
                self._need = frames.FRAME_HEAD_BYTES
                break
            high, low, kind, flags, stream_id = unpack(data, pos)
            length = high << 8 | low
            if length > self._max_frame_bytes:
                raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, f"frame of {length} bytes")
            start = pos + frames.FRAME_HEAD_BYTES
            stop = start + length
            if stop > end:
                self._need = stop - pos
                break
            pos = stop
            self._take(kind, flags, stream_id & _STREAM_ID, data[start:stop])
        return pos
