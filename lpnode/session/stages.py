"""The five stages of a live stream, each a coroutine over a bounded mailbox.

receive → decode → infer → encode → send

Note [Copies of a frame]
What the stages hand over are references; Python touches no pixel and no coded byte. From segment
in to segment out a frame is copied where its representation changes, and only there:
demux (packet payloads → one access unit, owned once), decode (coded, which libavcodec pads first,
→ planes), planes → tensor (colour, scale and range in one pass), tensor → planes of the picture to
encode (one pass), x264's own copy of the picture (it keeps reference frames), and mux (coded →
transport packets). For a model on a CUDA device see Note [Copies of a frame on a device] instead of
the two in the middle. The bytes objects of the input channel are the demuxer's input, and the
muxer's bytes object is what every subscriber of the output channel sends.

Note [Which frames are dropped]
Three places give frames up, always the older ones: whole segments when the reader is more than one
behind the publisher, coded pictures before the newest random-access picture when they span more
than a second, and decoded frames that a newer one overtook before the pipeline took them.
"""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import av

from lpnode.errors import EndOfChannel, HostError, MediaError
from lpnode.media.frame import Colour, Frame
from lpnode.media.transport_stream import AccessUnit
from lpnode.metrics import Metrics
from lpnode.pipeline.frame_runner import Shown
from lpnode.pipeline.params import BaseParams
from lpnode.protocol.live_event import Trace
from lpnode.session.clock import Clock
from lpnode.session.codec_thread import CodecThread
from lpnode.session.events import Events
from lpnode.session.ingest import MAX_WAITING_UNITS, Ingest, Tracks
from lpnode.session.mailbox import LatestMailbox, LosslessMailbox
from lpnode.session.output import Chunk, Output
from lpnode.session.vitals import Vitals
from lpnode.trickle.local import LocalPublisher, LocalSegment, LocalSubscriber

_log = logging.getLogger(__name__)

MAX_UNREAD_BYTES = 4 << 20
"""Input handed over and not yet demuxed: seconds of video, a fraction of a segment's limit."""
PICTURE_WEIGHT = 256
MAX_ENCODE_WEIGHT = 4 * PICTURE_WEIGHT
"""Four pictures, more than the pool lets wait, and seconds of audio beside them. Beyond that
loading frames wait, and audio is dropped: it must not hold up the video behind it."""
MAX_UNSENT_CHUNKS = 64
NUM_PICTURES = 4
"""One being written by the pipeline, one waiting, one being encoded, and the one encoded last,
which loading frames are drawn from."""


class Stream(Protocol):
    """A session's place on a model, as ``schedule.hosted_stream.HostedStream`` is one."""

    params: BaseParams
    """The full set in force."""

    @property
    def is_ready(self) -> bool:
        """Whether ``process`` would take a frame."""

    async def process(self, frame: Frame, picture: av.VideoFrame, colour: Colour) -> Shown | None:
        """Writes the result for ``frame`` into ``picture``; says which frame it shows."""


@dataclass(frozen=True, slots=True)
class ProcessedPicture:
    """A picture that the pipeline wrote, on loan from the pool."""

    picture: av.VideoFrame
    pts_ticks: int


@dataclass(frozen=True, slots=True)
class LoadingPicture:
    """Stands for an input frame while the pipeline reloads."""

    pts_ticks: int


Encodable = ProcessedPicture | LoadingPicture | AccessUnit | Tracks


def _encode_weight(item: Encodable) -> int:
    return PICTURE_WEIGHT if isinstance(item, ProcessedPicture | LoadingPicture) else 1


class Stages:
    """The frame path of one session.

    The coroutines ``receive`` … ``send`` each run once, in a task of the session. A stage that
    reaches the end closes its mailbox, so that the next one ends too, with nothing lost between.
    """

    def __init__(
        self,
        *,
        subscriber: LocalSubscriber,
        publisher: LocalPublisher,
        stream: Stream,
        ingest: Ingest,
        output: Output,
        decode_thread: CodecThread,
        encode_thread: CodecThread,
        vitals: Vitals,
        events: Events,
        clock: Clock,
        metrics: Metrics,
        may_go_on: Callable[[], bool] | None = None,
    ) -> None:
        """``may_go_on`` is asked before each piece of input is worked on; a no ends the input."""
        self._may_go_on = may_go_on
        self._subscriber = subscriber
        self._publisher = publisher
        self._stream = stream
        self._ingest = ingest
        self._output = output
        self._decode_thread = decode_thread
        self._encode_thread = encode_thread
        self._vitals = vitals
        self._events = events
        self._clock = clock
        self._unread = LosslessMailbox[bytes](MAX_UNREAD_BYTES, lambda piece: len(piece) or 1)
        self._frames = LatestMailbox[Frame]()
        self._to_encode = LosslessMailbox[Encodable](MAX_ENCODE_WEIGHT, _encode_weight)
        self._chunks = LosslessMailbox[Chunk](MAX_UNSENT_CHUNKS)
        self._idle_pictures = LosslessMailbox[av.VideoFrame](NUM_PICTURES + 1)
        self._last_picture: av.VideoFrame | None = None
        self._decode_seconds = metrics.stage_seconds.labels("decode")
        self._infer_seconds = metrics.stage_seconds.labels("infer")
        self._encode_seconds = metrics.stage_seconds.labels("encode")
        self._num_decoded = metrics.frames.labels("decoded")
        self._num_capped = metrics.frames.labels("capped")
        self._num_skipped = metrics.frames.labels("skipped")
        self._num_superseded = metrics.frames.labels("superseded")
        self._num_repeated = metrics.frames.labels("repeated")
        self._num_sent = metrics.frames.labels("sent")

    def end_input(self) -> None:
        """Makes the stages wind down one after the other, even if ``receive`` never began."""
        self._unread.close()

    async def receive(self) -> None:
        """Hands the pieces of the input channel on as they arrive; ``b""`` ends a segment."""
        try:
            while True:
                # A segment that is over before its reading began is no longer live; each one
                # starts with tables and a random-access picture, so the newest is as good.
                self._subscriber.jump_to_latest()
                segment = await self._subscriber.next_segment()
                while piece := await segment.read():
                    if self._may_go_on is not None and not self._may_go_on():
                        return
                    await self._unread.put(piece)
                await self._unread.put(b"")
                if segment.has_begun:
                    self._trace(Trace.RECEIVE_FIRST_INGEST_SEGMENT)
        except EndOfChannel:
            _log.debug("the input channel has ended")
        finally:
            self._unread.close()

    async def decode(self) -> None:
        """Feeds the decoder and leaves the newest frame for the pipeline."""
        num_waiting = 0
        try:
            while True:
                if num_waiting == 0:
                    pieces = await self._unread.get_all()
                    if not pieces:
                        break
                elif num_waiting < MAX_WAITING_UNITS:
                    pieces = self._unread.take_all()
                else:
                    pieces = []
                started_s = self._clock.now()
                decoded = await self._decode_thread.run(self._ingest.feed, pieces)
                num_waiting = decoded.num_waiting
                now_s = self._clock.now()
                if decoded.num_decoded:
                    self._num_decoded.inc(decoded.num_decoded)
                    self._num_capped.inc(decoded.num_decoded - len(decoded.frames))
                    self._decode_seconds.observe((now_s - started_s) / decoded.num_decoded)
                self._num_skipped.inc(decoded.num_skipped)
                if decoded.tracks is not None:
                    await self._to_encode.put(decoded.tracks)
                for message in decoded.errors:
                    self._vitals.saw_error(message, now_s)
                self._ingest.set_max_framerate(self._stream.params.max_framerate)
                for frame in decoded.frames:
                    self._vitals.saw_input(now_s)
                    if self._frames.put(frame) is not None:
                        self._num_superseded.inc()
                    # An idle pipeline takes the first of two that were decoded together.
                    await asyncio.sleep(0)
                for unit in decoded.audio:
                    self._to_encode.offer(unit)
        finally:
            self._frames.close()

    async def infer(self) -> None:
        """Has the pipeline process frames, always the newest there is."""
        for _ in range(NUM_PICTURES):
            await self._idle_pictures.put(self._output.picture())
        try:
            # A picture first: a frame that was taken already would grow old waiting for one.
            picture = await self._idle_picture()
            async for frame in self._frames:
                if self._stream.is_ready:
                    if await self._infer_one(frame, picture):
                        picture = await self._idle_picture()
                elif self._stream.params.show_reloading_frame:
                    await self._to_encode.put(LoadingPicture(frame.pts_ticks))
        finally:
            self._to_encode.close()

    async def _idle_picture(self) -> av.VideoFrame:
        picture = await self._idle_pictures.get()
        assert picture is not None  # the pool is never closed
        return picture

    async def _infer_one(self, frame: Frame, picture: av.VideoFrame) -> bool:
        """Returns: whether ``picture`` was used and is on its way."""
        started_s = self._clock.now()
        try:
            shown = await self._stream.process(frame, picture, self._output.colour)
        except (HostError, MediaError) as error:
            # One frame is lost; whether the pipeline as a whole has failed is the guardian's call.
            self._vitals.saw_error(f"Error processing frame: {error}", self._clock.now())
            shown = None
        if shown is None:
            return False
        if shown.is_repeat:
            self._num_repeated.inc()
        now_s = self._clock.now()
        self._vitals.saw_output(now_s)
        self._infer_seconds.observe(now_s - started_s)
        await self._to_encode.put(ProcessedPicture(picture, shown.pts_ticks))
        return True

    async def encode(self) -> None:
        """Encodes and muxes what the pipeline gives, with the audio beside it."""
        run = self._encode_thread.run
        try:
            async for item in self._to_encode:
                started_s = self._clock.now()
                match item:
                    case ProcessedPicture(picture, pts_ticks):
                        chunks = await run(self._output.video, picture, pts_ticks, started_s)
                        await self._keep_last(picture)
                        self._encode_seconds.observe(self._clock.now() - started_s)
                    case LoadingPicture(pts_ticks):
                        chunks = await run(self._output.loading, pts_ticks, started_s)
                    case AccessUnit():
                        chunks = await run(self._output.audio, item)
                    case Tracks():
                        chunks = await run(self._output.set_tracks, item)
                for chunk in chunks:
                    await self._chunks.put(chunk)
        finally:
            self._chunks.close()

    async def _keep_last(self, picture: av.VideoFrame) -> None:
        last, self._last_picture = self._last_picture, picture
        if last is not None:
            await self._idle_pictures.put(last)

    async def send(self) -> None:
        """Writes transport packets to the output channel as soon as they exist.

        Raises: EndOfChannel: someone closed the output channel.
        """
        segment: LocalSegment | None = None
        async for chunk in self._chunks:
            if segment is None or chunk.starts_segment:
                segment = self._publisher.begin()
            segment.write(chunk.data)
            if chunk.is_video:
                self._num_sent.inc()
                # The first output is on its way long before the first input segment, of about two
                # seconds, is complete; gateways expect the milestones in this order.
                self._trace(Trace.RECEIVE_FIRST_INGEST_SEGMENT)
                self._trace(Trace.SEND_FIRST_PROCESSED_SEGMENT)

    def _trace(self, trace: Trace) -> None:
        self._events.trace(trace, self._clock.wall_ms(self._clock.now()))
