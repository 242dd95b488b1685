"""A channel's ring under any order of operations, against what trickle.md says in a few lines."""

from dataclasses import dataclass, field

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from lpnode.errors import NoSuchSegment, TooLarge
from lpnode.trickle import Channel, Channels, Segment, SegmentWriter, TrickleConfig

SLOTS = 5
SEQS = st.integers(0, 12)


@dataclass(eq=False)
class Reader:
    """Collects what it is told, as a connection that keeps up does."""

    segment: Segment
    received: list[bytes] = field(default_factory=list)
    num_ends: int = 0

    def __post_init__(self) -> None:
        self.received.extend(self.segment.pieces)
        if self.segment.is_closed:
            self.num_ends = 1
        else:
            self.segment.add_reader(self)

    def piece_appended(self, piece: bytes) -> None:
        assert self.segment.pieces[-1] is piece
        assert self.num_ends == 0
        self.received.append(piece)

    def segment_closed(self) -> None:
        self.num_ends += 1


class Ring(RuleBasedStateMachine):
    """``next`` is modelled apart; the rest are properties of what is seen."""

    channels: Channels
    channel: Channel

    @initialize()
    def start(self) -> None:
        self.channels = Channels(TrickleConfig(ring_slots=SLOTS), clock=lambda: 0.0)
        self.channel = self.channels.create("ch", "")
        self.writers: list[SegmentWriter] = []
        self.readers: list[Reader] = []
        self.written: dict[int, list[bytes]] = {}

    @rule(seq=SEQS | st.just(-1), reset=st.booleans())
    def publisher_connects(self, seq: int, reset: bool) -> None:
        if self.channel.is_closed:
            return
        wanted = self.channel.next if seq == -1 else seq
        writer = self.channel.open_for_write(seq, reset=reset)
        assert writer.segment.seq == wanted
        assert self.channel.find(wanted) is writer.segment
        if reset:
            assert all(s.is_closed for s in self.channel.segments() if s.seq < wanted)
        if writer.is_done:
            assert self.channel.next == wanted + 1
        else:
            self.writers.append(writer)

    @precondition(lambda self: self.writers)
    @rule(data=st.data(), piece=st.binary(min_size=1, max_size=4))
    def publisher_writes(self, data: st.DataObject, piece: bytes) -> None:
        writer = data.draw(st.sampled_from(self.writers))
        is_first = not writer.has_begun
        was_done = writer.is_done
        before = list(writer.segment.pieces)
        writer.write(piece)
        assert writer.segment.pieces == (before if was_done else [*before, piece])
        if is_first and not was_done:
            assert self.channel.next == writer.segment.seq + 1
            for segment in self.channel.segments():
                assert segment.seq >= writer.segment.seq or (
                    segment.is_closed or segment.num_writers
                )

    @precondition(lambda self: self.writers)
    @rule(data=st.data(), finishes=st.booleans())
    def publisher_ends(self, data: st.DataObject, finishes: bool) -> None:
        writer = data.draw(st.sampled_from(self.writers))
        self.writers.remove(writer)
        was_closed = writer.segment.is_closed
        if finishes:
            writer.finish()
            assert writer.segment.is_closed
        else:
            writer.abandon()
            assert writer.segment.is_closed == was_closed
        assert writer not in writer.segment._writers

    @rule(seq=SEQS | st.sampled_from((-1, -2)))
    def subscriber_asks(self, seq: int) -> None:
        if self.channel.is_closed:
            return
        latest = self.channel.next
        wanted = {-1: latest, -2: max(latest - 1, 0)}.get(seq, seq)
        is_there = self.channel.find(wanted) is not None
        is_edge = wanted == latest or (latest == 0 and wanted == 1)
        if not (is_there or is_edge):
            with pytest.raises(NoSuchSegment) as missing:
                self.channel.open_for_read(seq)
            assert missing.value.latest == latest
            return
        segment = self.channel.open_for_read(seq)
        assert segment.seq == wanted
        self.readers.append(Reader(segment))

    @rule(seq=SEQS)
    def segment_is_deleted(self, seq: int) -> None:
        segment = self.channel.find(seq)
        assert self.channel.close_segment(seq) == (segment is not None)
        assert segment is None or segment.is_closed

    @rule()
    def channel_is_closed_and_made_anew(self) -> None:
        closed = self.channel
        closed.close()
        assert all(segment.is_closed for segment in closed.segments())
        assert self.channels.buffered_bytes == 0
        self.channel = self.channels.create("ch", "")
        assert self.channel is not closed
        assert self.channel.next == 0

    @invariant()
    def each_segment_is_in_its_slot(self) -> None:
        if not hasattr(self, "channel"):
            return
        seqs = [segment.seq for segment in self.channel.segments()]
        assert len({seq % SLOTS for seq in seqs}) == len(seqs)
        assert all(
            segment is None or segment.seq % SLOTS == index
            for index, segment in enumerate(self.channel._slots)
        )

    @invariant()
    def bytes_are_counted_exactly(self) -> None:
        if hasattr(self, "channel"):
            total = sum(len(p) for s in self.channel.segments() for p in s.pieces)
            assert self.channels.buffered_bytes == total

    @invariant()
    def readers_see_every_byte_up_to_the_end_once(self) -> None:
        for reader in getattr(self, "readers", []):
            segment = reader.segment
            assert reader.num_ends == (1 if segment.is_closed else 0)
            assert reader.received == segment.pieces[: len(reader.received)]
            if not segment.is_closed:
                assert len(reader.received) == len(segment.pieces)

    @invariant()
    def nobody_waits_for_a_segment_outside_the_ring(self) -> None:
        for reader in getattr(self, "readers", []):
            if not reader.segment.is_closed:
                assert self.channel.find(reader.segment.seq) is reader.segment


TestRing = Ring.TestCase
TestRing.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


def test_the_process_limit_takes_complete_segments_longest_unwritten_first() -> None:
    now = [0.0]
    channels = Channels(TrickleConfig(max_buffered_bytes=100), clock=lambda: now[0])
    old, new = channels.create("old", ""), channels.create("new", "")
    for channel in (old, new):
        now[0] += 1
        writer = channel.open_for_write(0)
        writer.write(b"x" * 40)
        writer.finish()
    writer = new.open_for_write(1)
    writer.write(b"y" * 40)
    assert old.find(0) is None
    assert new.find(0) is not None
    assert channels.buffered_bytes == 80
    writer.write(b"y" * 60)
    assert new.find(0) is None
    assert channels.buffered_bytes == 100
    with pytest.raises(TooLarge):
        writer.write(b"y")
    assert channels.buffered_bytes == 100
