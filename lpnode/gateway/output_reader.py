"""What comes back from a node: written to a file, decoded, and recognised frame by frame."""

import asyncio
import time
from collections.abc import Callable
from types import TracebackType
from typing import BinaryIO, Self

from lpnode.errors import DecodeError, MediaError
from lpnode.gateway.latency import LatencyMeter
from lpnode.media.decoder import VideoDecoder
from lpnode.media.frame import Frame
from lpnode.media.transport_stream import Codec, TransportStreamReader
from lpnode.session.codec_thread import CodecThread
from lpnode.session.mailbox import LosslessMailbox

_QUEUED_BYTES = 8 << 20
_CLOSE_S = 5.0

ReadKey = Callable[[Frame], int | None]
"""Finds out which sent frame this is; None if that cannot be told."""


class OutputReader:
    """Decodes on a thread of its own; use it as an async context manager around ``write``.

    Frames that ``read_key`` cannot tell (such as loading frames) are counted, not measured.
    """

    def __init__(
        self,
        meter: LatencyMeter,
        *,
        read_key: ReadKey,
        file: BinaryIO | None = None,
        on_frame: Callable[[int, Frame], None] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """``on_frame`` gets each frame with its key, on the event loop."""
        self._meter = meter
        self._read_key = read_key
        self._file = file
        self._on_frame = on_frame
        self._clock = clock
        self._received: LosslessMailbox[bytes] = LosslessMailbox(_QUEUED_BYTES, len)
        self._stream = TransportStreamReader()
        self._decoder = VideoDecoder()
        self._tasks = asyncio.TaskGroup()
        self.num_bytes = 0
        self.num_frames = 0
        self.num_unmarked = 0
        self.size: tuple[int, int] | None = None
        """Width and height of the last frame."""
        self.first_frame_at: float | None = None

    async def __aenter__(self) -> Self:
        await self._tasks.__aenter__()
        self._tasks.create_task(self._decode_all(), name="stream output decode")
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._received.close()
        await self._tasks.__aexit__(kind, error, trace)

    async def write(self, data: bytes) -> None:
        """Takes bytes of the output as they arrive."""
        self.num_bytes += len(data)
        if self._file is not None:
            self._file.write(data)
        await self._received.put(data)

    async def _decode_all(self) -> None:
        thread = CodecThread("stream output")
        try:
            async for data in self._received:
                self._take(await thread.run(self._decode, data))
            self._take(await thread.run(self._finish))
        except MediaError as error:
            raise DecodeError(f"the node's output cannot be decoded: {error}") from error
        finally:
            await thread.close(_CLOSE_S)

    def _decode(self, data: bytes) -> list[tuple[Frame, int | None, float]]:
        seen = []
        for unit in self._stream.feed(data):
            if unit.codec is Codec.H264:
                for frame in self._decoder.decode(unit):
                    at_s = self._clock()
                    seen.append((frame, self._read_key(frame), at_s))
        return seen

    def _finish(self) -> list[tuple[Frame, int | None, float]]:
        frames = [
            frame
            for unit in self._stream.flush()
            if unit.codec is Codec.H264
            for frame in self._decoder.decode(unit)
        ]
        at_s = self._clock()
        return [(frame, self._read_key(frame), at_s) for frame in frames + self._decoder.flush()]

    def _take(self, seen: list[tuple[Frame, int | None, float]]) -> None:
        for frame, key, at_s in seen:
            self.num_frames += 1
            self.size = frame.width, frame.height
            if self.first_frame_at is None:
                self.first_frame_at = at_s
            if key is None:
                self.num_unmarked += 1
                continue
            self._meter.mark_returned(key, at_s)
            if self._on_frame is not None:
                self._on_frame(key, frame)
