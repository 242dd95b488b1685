"""Frames come out whole and in order, however their bytes come in."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lpnode.edge.http2 import frames
from lpnode.edge.http2.frame_reader import FrameReader
from lpnode.edge.http2.frames import ConnectionFault, ErrorCode, frame

Seen = list[tuple[int, int, int, bytes]]

KINDS = st.integers(0, 255)
STREAM_IDS = st.integers(0, 2**31 - 1)
FRAMES = st.lists(st.tuples(KINDS, KINDS, STREAM_IDS, st.binary(max_size=40)), max_size=6)


def reader_into(seen: Seen, max_frame_bytes: int = 16_384) -> FrameReader:
    return FrameReader(max_frame_bytes, lambda *each: seen.append(each))


@given(sent=FRAMES, cuts=st.lists(st.integers(0, 400), max_size=12))
def test_any_split_gives_the_same_frames(sent: Seen, cuts: list[int]) -> None:
    data = frames.PREFACE + b"".join(frame(*each) for each in sent)
    seen: Seen = []
    reader = reader_into(seen)
    ends = sorted({0, len(data), *(cut for cut in cuts if cut < len(data))})
    for start, end in pairwise(ends):
        reader.feed(data[start:end])
    assert seen == sent
    assert not reader.is_inside_frame


def test_bytes_that_only_prolong_a_frame_are_told_apart() -> None:
    seen: Seen = []
    reader = reader_into(seen)
    begun = frames.PREFACE + frames.frame_head(3, frames.DATA, 0, 1)
    assert reader.feed(begun)
    assert reader.is_inside_frame
    assert not reader.feed(b"ab")
    assert reader.feed(b"c")
    assert seen == [(frames.DATA, 0, 1, b"abc")]


def test_nothing_comes_out_once_it_is_stopped() -> None:
    seen: Seen = []

    def take(kind: int, flags: int, stream_id: int, payload: bytes) -> None:
        seen.append((kind, flags, stream_id, payload))
        reader.stop()

    reader = FrameReader(16_384, take)
    ping = frame(frames.PING, 0, 0, bytes(8))
    reader.feed(frames.PREFACE + 3 * ping)
    assert len(seen) == 1


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        (b"GET", ErrorCode.PROTOCOL_ERROR),
        (frames.PREFACE + frames.frame_head(101, frames.DATA, 0, 1), ErrorCode.FRAME_SIZE_ERROR),
    ],
)
def test_what_is_no_frame_is_a_fault_as_soon_as_it_shows(sent: bytes, code: ErrorCode) -> None:
    seen: Seen = []
    with pytest.raises(ConnectionFault) as fault:
        reader_into(seen, max_frame_bytes=100).feed(sent)
    assert fault.value.code == code
    assert not seen
