"""What a gateway-side client sends: steps of a picture source or file, at their times.

A ``MediaInput`` blocks and belongs to one thread; ``feed`` runs it in real time from the event
loop.
"""

import asyncio
import time
from collections.abc import Callable
from typing import NamedTuple, Protocol

from lpnode.gateway.latency import LatencyMeter
from lpnode.gateway.segment_writer import SegmentPiece
from lpnode.session.codec_thread import CodecThread
from lpnode.session.mailbox import LosslessMailbox

_CLOSE_S = 5.0


class Step(NamedTuple):
    """What ``produce`` will give, and when. ``key`` is None when it is not a frame."""

    due_s: float
    key: int | None


class MediaInput(Protocol):
    """Makes segments, one frame or packet at a time."""

    def prepare(self, elapsed_s: float) -> Step | None:
        """Gets the next frame or packet ready. ``elapsed_s`` since the start of the stream.

        Returns: None at the end.
        """

    def produce(self) -> list[SegmentPiece]:
        """Encodes and muxes what was prepared."""

    def finish(self) -> list[SegmentPiece]:
        """Ends the last segment and gives everything back."""


async def feed(
    media: MediaInput,
    out: LosslessMailbox[SegmentPiece],
    meter: LatencyMeter,
    stopping: asyncio.Event,
    *,
    clock: Callable[[], float] = time.monotonic,
) -> None:
    """Puts the pieces of ``media`` into ``out`` in real time until its end or ``stopping``.

    Waits when ``out`` is full. Closes ``out`` in the end.
    """
    thread = CodecThread("stream input")
    try:
        start = clock()
        while not stopping.is_set():
            step = await thread.run(media.prepare, clock() - start)
            if step is None or await _is_set_within(stopping, start + step.due_s - clock()):
                break
            if step.key is not None:
                meter.mark_sent(step.key)
            for piece in await thread.run(media.produce):
                await out.put(piece)
        for piece in await thread.run(media.finish):
            await out.put(piece)
    finally:
        out.close()
        await thread.close(_CLOSE_S)


async def _is_set_within(event: asyncio.Event, seconds: float) -> bool:
    if seconds <= 0:
        return event.is_set()
    try:
        async with asyncio.timeout(seconds):
            return await event.wait()
    except TimeoutError:
        return False
