"""Publishing and subscribing inside the process: the very bytes objects change hands."""

import asyncio

from lpnode.errors import NoSuchSegment, TooLarge
from lpnode.trickle.channel import Channel, SegmentWriter
from lpnode.trickle.segment import Segment


class LocalSegment:
    """A segment being written by this process, until its ``close`` or the next ``begin``."""

    __slots__ = ("_writer",)

    def __init__(self, writer: SegmentWriter) -> None:
        self._writer = writer

    @property
    def seq(self) -> int:
        return self._writer.segment.seq

    def write(self, data: bytes) -> None:
        """Hands ``data`` to every subscriber now, without copying it. The caller must not keep it
        writable. Dropped if a peer has closed the segment before its first byte.

        Raises: TooLarge: the segment is over its limit.
        """
        self._writer.write(data)

    def close(self) -> None:
        """Ends the segment; a second call does nothing."""
        self._writer.finish()


class LocalPublisher:
    """Writes a channel's segments one after the other, counting seq itself from 0.

    A seq that a peer has already used is passed over. Source: trickle.md section 18.
    """

    def __init__(self, channel: Channel) -> None:
        self.channel = channel
        self._seq = 0
        self._open: LocalSegment | None = None

    def begin(self) -> LocalSegment:
        """Starts the next segment, ending the one before if it is still open.

        Raises: EndOfChannel: the channel is closed.
        """
        if self._open is not None:
            self._open.close()
        channel = self.channel
        taken = channel.find(self._seq)
        while taken is not None and (taken.is_closed or taken.pieces):
            self._seq += 1
            taken = channel.find(self._seq)
        writer = channel.open_for_write(self._seq)
        self._seq += 1
        channel.precreate(self._seq)
        self._open = LocalSegment(writer)
        return self._open

    def publish(self, data: bytes) -> None:
        """Writes ``data`` as one whole segment. Raises: EndOfChannel; TooLarge."""
        segment = self.begin()
        segment.write(data)
        segment.close()

    def close(self) -> None:
        """Ends the segment being written and the channel with it."""
        # The channel first: readers of a segment without bytes are to see the end of the stream.
        self.channel.close()
        if self._open is not None:
            self._open.close()


class SegmentReader:
    """One reader's place in one segment. Bytes come as they arrive, as the objects they came in."""

    __slots__ = ("_channel", "_index", "_segment", "_waiting")

    def __init__(self, channel: Channel, segment: Segment) -> None:
        self._channel = channel
        self._segment = segment
        self._index = 0
        self._waiting: asyncio.Future[None] | None = None

    @property
    def seq(self) -> int:
        return self._segment.seq

    @property
    def is_closed(self) -> bool:
        """No more bytes will come beyond those that are there to be read."""
        return self._segment.is_closed

    @property
    def has_begun(self) -> bool:
        """At least one byte has arrived, read or not."""
        return bool(self._segment.pieces)

    @property
    def segments_behind(self) -> int:
        """How many later segments have begun; 0 at the live edge."""
        return max(0, self._channel.next - 1 - self._segment.seq)

    @property
    def bytes_behind(self) -> int:
        """Bytes of this segment that have arrived and are not yet read."""
        return sum(map(len, self._segment.pieces[self._index :]))

    async def read(self) -> bytes:
        """Returns the next piece, waiting for it; ``b""`` at the end. One caller at a time."""
        segment = self._segment
        while self._index >= len(segment.pieces):
            if segment.is_closed:
                return b""
            self._waiting = asyncio.get_running_loop().create_future()
            segment.add_reader(self)
            try:
                await self._waiting
            finally:
                segment.remove_reader(self)
                self._waiting = None
        piece = segment.pieces[self._index]
        self._index += 1
        return piece

    async def read_all(self, max_bytes: int) -> bytes:
        """Returns the rest of the segment when it has ended. Raises: TooLarge."""
        pieces: list[bytes] = []
        room = max_bytes
        while piece := await self.read():
            room -= len(piece)
            if room < 0:
                raise TooLarge(f"segment {self.seq} may have {max_bytes} bytes here")
            pieces.append(piece)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def piece_appended(self, piece: bytes) -> None:
        """Called by the segment while ``read`` waits."""
        self._wake()

    def segment_closed(self) -> None:
        """Called by the segment while ``read`` waits."""
        self._wake()

    def _wake(self) -> None:
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(None)


class LocalSubscriber:
    """Follows a channel segment by segment.

    Whole segments that are still in the ring when the channel closes are delivered before the end
    is raised. A reader that fell out of the ring goes on at the write position.
    """

    def __init__(self, channel: Channel, start: int = -1) -> None:
        self.channel = channel
        self.skipped = 0
        self._seq = start

    async def next_segment(self) -> SegmentReader:
        """Returns a reader at once, also for a segment whose first byte is still to come.

        Raises: EndOfChannel: the channel is closed and everything was delivered.
        """
        try:
            segment = self.channel.open_for_read(self._seq)
        except NoSuchSegment as gone:
            if self._seq >= 0:
                self.skipped += max(0, gone.latest - self._seq)
            segment = self.channel.open_for_read(gone.latest)
        self._seq = segment.seq + 1
        return SegmentReader(self.channel, segment)

    def jump_to_latest(self) -> None:
        """Makes ``next_segment`` give the segment begun last; those between count as skipped."""
        latest = max(self.channel.next - 1, 0)
        if self._seq < latest:
            if self._seq >= 0:
                self.skipped += latest - self._seq
            self._seq = latest
