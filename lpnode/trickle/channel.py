"""One channel: a ring of segments, the write position, and who holds what."""

from collections.abc import Callable
from typing import Protocol

from lpnode.errors import EndOfChannel, InvalidArgument, NoSuchSegment
from lpnode.trickle.segment import Segment

NEXT = -1
"""Alias for the write position: the first segment whose data has not begun."""
CURRENT = -2
"""Alias for the segment begun last, complete or not."""


class ByteBudget(Protocol):
    """The bytes that all channels together may keep."""

    def take(self, num_bytes: int) -> None:
        """Counts bytes in. Raises: TooLarge: there is no room, nothing was counted."""

    def give_back(self, num_bytes: int) -> None:
        """Counts bytes out again."""


class Channel:
    """A named byte pipe with a ring of the latest segments.

    ``next`` is one past the segment begun last; it follows the publisher, also backwards.
    Everything happens on the event loop's thread and nothing here waits.

    Source: trickle.md sections 4 and 5.
    """

    def __init__(
        self,
        name: str,
        mime: str,
        *,
        ring_slots: int,
        max_segment_bytes: int,
        clock: Callable[[], float],
        budget: ByteBudget,
        forget: Callable[["Channel"], None],
    ) -> None:
        self.name = name
        self.mime = mime
        self.next = 0
        self.is_closed = False
        self.last_write_s = clock()
        self.num_subscribers = 0
        self._max_segment_bytes = max_segment_bytes
        self._clock = clock
        self._budget = budget
        self._forget = forget
        self._slots: list[Segment | None] = [None] * ring_slots

    def segments(self) -> list[Segment]:
        """The segments in the ring, by seq."""
        return sorted((s for s in self._slots if s is not None), key=lambda segment: segment.seq)

    def find(self, seq: int) -> Segment | None:
        """The segment if it is in the ring. Aliases are not resolved."""
        segment = self._slots[seq % len(self._slots)]
        return segment if segment is not None and segment.seq == seq else None

    def open_for_read(self, seq: int) -> Segment:
        """Finds a segment, or claims its slot if it is the next one to be written.

        Args:
            seq: 0 or more, NEXT or CURRENT.
        Raises:
            NoSuchSegment: it left the ring, or lies beyond the write position.
            EndOfChannel: the channel is closed and never had it.
        """
        if seq == NEXT:
            seq = self.next
        elif seq == CURRENT:
            seq = max(self.next - 1, 0)
        elif seq < 0:
            raise InvalidArgument(f"seq must be 0 or more, -1 or -2, got {seq}")
        segment = self.find(seq)
        if segment is not None and (segment.pieces or not self.is_closed):
            return segment
        if self.is_closed:
            raise EndOfChannel(f"channel {self.name} is closed")
        # Segment 1 may be awaited on a fresh channel: the publisher connects 0 and 1 together.
        if seq == self.next or (self.next == 0 and seq == 1):
            return self._take_slot(seq)
        raise NoSuchSegment(f"segment {seq} is not in the ring", latest=self.next)

    def open_for_write(self, seq: int, *, reset: bool = False) -> "SegmentWriter":
        """Takes hold of a segment for one publisher; taken again, its bytes are appended.

        A segment that is already closed gives a writer that is done: its body goes nowhere.

        Args:
            seq: 0 or more, or NEXT.
            reset: close every lower segment first (a publisher that starts anew).
        Raises: EndOfChannel: the channel is closed.
        """
        if self.is_closed:
            raise EndOfChannel(f"channel {self.name} is closed")
        if seq == NEXT:
            seq = self.next
        elif seq < 0:
            raise InvalidArgument(f"seq must be 0 or more, or -1, got {seq}")
        segment = self.find(seq) or self._take_slot(seq)
        if reset:
            for lower in self.segments():
                if lower.seq < seq:
                    self._end(lower)
        return SegmentWriter(self, segment)

    def close_segment(self, seq: int) -> bool:
        """Ends a segment in the ring on behalf of a publisher that disowns it.

        Returns: False if it is not in the ring.
        """
        segment = self.find(seq)
        if segment is None:
            return False
        self._end(segment)
        return True

    def close(self) -> None:
        """Ends the channel: the name is free again, then every segment is closed."""
        if self.is_closed:
            return
        # Before the segments: no watcher may see a closed segment with this flag still clear.
        self.is_closed = True
        self._forget(self)
        for segment in self.segments():
            self._budget.give_back(segment.size_bytes)
            segment.close()

    def drop_closed_segments(self) -> int:
        """Frees the ring of segments that are complete. Returns the bytes given back."""
        freed = 0
        for index, segment in enumerate(self._slots):
            if segment is not None and segment.is_closed and segment.num_writers == 0:
                self._slots[index] = None
                self._budget.give_back(segment.size_bytes)
                freed += segment.size_bytes
        return freed

    def precreate(self, seq: int) -> None:
        """Makes an empty segment that readers may already wait for."""
        if not self.is_closed and self.find(seq) is None:
            self._take_slot(seq)

    def _take_slot(self, seq: int) -> Segment:
        index = seq % len(self._slots)
        evicted = self._slots[index]
        segment = Segment(seq, max_bytes=self._max_segment_bytes)
        self._slots[index] = segment
        if evicted is not None:
            self._budget.give_back(evicted.size_bytes)
            evicted.close()
        return segment

    def _end(self, segment: Segment) -> None:
        # A claimed edge nobody writes would send readers round between an empty answer for it and
        # a refusal that points back at it (trickle.md 20.6).
        if segment.seq == self.next and not segment.pieces and segment.num_writers == 0:
            self.next = segment.seq + 1
        segment.close()

    def _advance(self, seq: int) -> None:
        self.next = seq + 1
        self.last_write_s = self._clock()

    def _begin(self, seq: int) -> None:
        self._advance(seq)
        # Readers of a segment whose publisher vanished need not wait for its slot to be reused
        # (trickle.md 20.4).
        for segment in self._slots:
            if (
                segment is not None
                and segment.seq < seq
                and not segment.is_closed
                and segment.num_writers == 0
            ):
                segment.close()

    def _append(self, segment: Segment, piece: bytes) -> None:
        is_counted = not self.is_closed and self.find(segment.seq) is segment
        if is_counted:
            self._budget.take(len(piece))
        try:
            segment.append(piece)
        except BaseException:  # whatever it is, the bytes were not kept
            if is_counted:
                self._budget.give_back(len(piece))
            raise


class SegmentWriter:
    """One publisher's hold on one segment, from its request head to the end of its body.

    ``is_done`` once there is nothing left to do: finished, abandoned, or let go because someone
    else closed the segment before this publisher's first byte; ``on_release`` tells of the last.
    """

    __slots__ = ("_channel", "has_begun", "is_done", "on_release", "segment")

    def __init__(self, channel: Channel, segment: Segment) -> None:
        self._channel = channel
        self.segment = segment
        self.on_release: Callable[[], None] | None = None
        self.has_begun = False
        self.is_done = segment.is_closed
        if self.is_done:
            channel._advance(segment.seq)
        else:
            segment.add_writer(self)

    def write(self, piece: bytes) -> None:
        """Appends; the first byte moves the channel's write position and every byte its idle clock.

        Bytes for a segment that was closed after this publisher had begun are still kept, those
        for one that was closed before are dropped.

        Raises: TooLarge: over the segment's or the process's limit.
        """
        if self.is_done or not piece:
            return
        channel = self._channel
        if not self.has_begun:
            self.has_begun = True
            channel._begin(self.segment.seq)
        else:
            channel.last_write_s = channel._clock()
        channel._append(self.segment, piece)

    def finish(self) -> None:
        """Ends the segment normally; without any byte it becomes an empty one."""
        if self.is_done:
            return
        self._leave()
        if not self.has_begun:
            self._channel._advance(self.segment.seq)
        self.segment.close()

    def abandon(self) -> None:
        """The publisher is gone: the segment stays open as it is, for another to go on."""
        if not self.is_done:
            self._leave()

    def piece_appended(self, piece: bytes) -> None:
        """Writers are not told of bytes; part of the watcher's shape."""

    def segment_closed(self) -> None:
        """Someone else closed the segment; a publisher that has sent nothing is let go."""
        if self.has_begun or self.is_done:
            return
        self._leave()
        self._channel._advance(self.segment.seq)
        if self.on_release is not None:
            self.on_release()

    def _leave(self) -> None:
        self.is_done = True
        self.segment.remove_writer(self)
