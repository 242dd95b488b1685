"""One segment of a channel: bytes objects in order of arrival, and whoever waits for more."""

from typing import Protocol

from lpnode.errors import TooLarge


class SegmentWatcher(Protocol):
    """Someone who is told, synchronously and in order, what becomes of a segment.

    Both methods are called from inside the publisher's write: they must not block or raise.
    """

    def piece_appended(self, piece: bytes) -> None:
        """``piece`` is now the last of ``segment.pieces``."""

    def segment_closed(self) -> None:
        """Whoever has read to the end of ``segment.pieces`` has read the segment."""


class Segment:
    """An append-only list of the very bytes objects that arrived.

    Readers keep an index into ``pieces``; evicting the segment from its ring takes nothing away
    from them. Bytes may still be appended after the close by a publisher that had begun before.

    Source: trickle.md sections 5 and 13.
    """

    __slots__ = ("_readers", "_writers", "is_closed", "max_bytes", "pieces", "seq", "size_bytes")

    def __init__(self, seq: int, *, max_bytes: int) -> None:
        self.seq = seq
        self.max_bytes = max_bytes
        self.pieces: list[bytes] = []
        self.size_bytes = 0
        self.is_closed = False
        self._readers: dict[SegmentWatcher, None] = {}
        self._writers: dict[SegmentWatcher, None] = {}

    @property
    def num_writers(self) -> int:
        """Publishers that hold the segment now, whether they have sent bytes or not."""
        return len(self._writers)

    @property
    def num_readers(self) -> int:
        """Watchers that wait for bytes now."""
        return len(self._readers)

    def append(self, piece: bytes) -> None:
        """Adds ``piece`` without copying it and calls every reader.

        Raises: TooLarge: the segment would be over its limit; nothing was added.
        """
        if self.size_bytes + len(piece) > self.max_bytes:
            raise TooLarge(
                f"segment {self.seq} may have {self.max_bytes} bytes, "
                f"got {self.size_bytes + len(piece)}"
            )
        self.pieces.append(piece)
        self.size_bytes += len(piece)
        if self._readers:
            # A copy: a reader may leave from inside its call.
            for reader in tuple(self._readers):
                reader.piece_appended(piece)

    def close(self) -> None:
        """Ends the segment once; publishers learn it before readers.

        The order lets a released publisher move the channel's write position first, so that the
        readers are told the new one.
        """
        if self.is_closed:
            return
        self.is_closed = True
        for writer in tuple(self._writers):
            writer.segment_closed()
        readers = tuple(self._readers)
        self._readers.clear()
        for reader in readers:
            reader.segment_closed()

    def add_reader(self, reader: SegmentWatcher) -> None:
        """Calls ``reader`` from now on; what is already in ``pieces`` it takes itself."""
        self._readers[reader] = None

    def remove_reader(self, reader: SegmentWatcher) -> None:
        """Stops calling ``reader``; no error if it was not there."""
        self._readers.pop(reader, None)

    def add_writer(self, writer: SegmentWatcher) -> None:
        """Marks the segment as held by a publisher, which is told when it is closed."""
        self._writers[writer] = None

    def remove_writer(self, writer: SegmentWatcher) -> None:
        """Ends the hold; no error if there was none."""
        self._writers.pop(writer, None)
