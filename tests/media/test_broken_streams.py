"""Broken input is skipped or ends in a clear error, and good input after it is decoded again."""

import resource
from functools import cache
from pathlib import Path

import pytest
from broken_streams import BROKEN, PMT_PID, crc32_mpeg, packets_of, pid_of, programme_map
from coded_streams import CodedVideo, h264, tone, whip_segments
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lpnode.errors import DecodeError, MediaError
from lpnode.media.decoder import VideoDecoder
from lpnode.media.transport_stream import Codec, TransportStreamReader

ENDS_THE_STREAM = {"video becomes hevc": "got HEVC"}


@cache
def clip() -> CodedVideo:
    return h264(100, gop=20)


@cache
def segments() -> list[bytes]:
    return whip_segments(clip())


def with_sound() -> bytes:
    return b"".join(whip_segments(h264(10, gop=5), tone("libopus", 0.3)))


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


class Input:
    """The receiving half of a session: reader and decoder in a row."""

    def __init__(self) -> None:
        self.reader = TransportStreamReader(max_unit_size=1 << 20)
        self.decoder = VideoDecoder()

    def take(self, data: bytes, step: int = 1316) -> list[int]:
        """Feeds ``data`` in pieces; returns the time stamps of the pictures."""
        units = []
        for begin in range(0, len(data), step):
            units += self.reader.feed(data[begin : begin + step])
        units += self.reader.flush()
        return [
            frame.pts_ticks
            for unit in units
            if unit.codec == Codec.H264
            for frame in self.decoder.decode(unit)
        ]


@pytest.mark.parametrize("name", sorted(BROKEN.keys() - ENDS_THE_STREAM.keys()))
def test_good_segments_are_decoded_after(name: str) -> None:
    stream = Input()
    stream.take(BROKEN[name](segments()))
    # Packets of another length, and a cut, may swallow the first tables that follow.
    pictures = [t for s in segments()[2:] for t in stream.take(s)]
    expected = [p.pts for p in clip().packets[40:]]
    assert [t % 2**33 for t in pictures][-40:] == expected[-40:]


@pytest.mark.parametrize("name", sorted(ENDS_THE_STREAM))
def test_what_cannot_go_on_says_why(name: str) -> None:
    with pytest.raises(DecodeError, match=ENDS_THE_STREAM[name]):
        Input().take(BROKEN[name](segments()))


def test_a_missing_segment_costs_only_its_own_pictures() -> None:
    """L19."""
    stream = Input()
    pictures = [t // 3000 for t in stream.take(segments()[0] + b"".join(segments()[2:]))]
    assert pictures == [*range(20), *range(40, 100)]


def test_a_truncated_segment_costs_only_its_own_tail() -> None:
    """L19."""
    stream = Input()
    cut = segments()[1][: len(segments()[1]) * 9 // 10 + 40]
    pictures = [t // 3000 for t in stream.take(segments()[0] + cut + b"".join(segments()[2:]))]
    shown = [n for n in pictures if 20 <= n < 40]
    assert 0 < len(shown) < 20
    assert pictures == [*range(20 + len(shown)), *range(40, 100)]


def test_packets_sent_twice_lose_nothing() -> None:
    stream = Input()
    pictures = stream.take(BROKEN["every packet twice"](segments()))
    assert pictures == [p.pts for p in clip().packets]
    assert stream.reader.counters.num_continuity_errors == len(segments()) - 1  # the restarts


def test_garbage_between_packets_is_counted_and_costs_at_most_a_group() -> None:
    stream = Input()
    data = b"".join(s + b"garbage without meaning" * 11 for s in segments())
    assert stream.take(data) == [p.pts for p in clip().packets]
    assert stream.reader.counters.discarded_bytes == pytest.approx(5 * 253, abs=253)


def test_a_picture_that_never_ends_does_not_eat_the_memory() -> None:
    data = BROKEN["a picture that never ends"](segments())
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    reader = TransportStreamReader(max_unit_size=1 << 20)
    for begin in range(0, len(data), 65_536):
        assert reader.feed(data[begin : begin + 65_536]) == []
    grown_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown_kib < 8 * 1024
    assert reader.counters.num_lost_units == 1


def test_packets_after_the_end_of_a_table_are_not_kept() -> None:
    reader = TransportStreamReader()
    reader.feed(segments()[0])
    more = bytes([0x47, PMT_PID >> 8, PMT_PID & 0xFF, 0x10]) + b"\xff" * 184
    flood = more * 5000
    before = resident_bytes()
    for _ in range(64):
        reader.feed(flood)
    assert resident_bytes() - before < 16 << 20
    assert reader.has_video


def test_an_absurd_picture_size_is_an_error_and_not_an_allocation() -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    stream = Input()
    assert stream.take(BROKEN["parameter sets of an absurd size"](segments())) == []
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64 * 1024


def test_a_wrong_guess_about_the_end_of_a_picture_is_made_once() -> None:
    """Stuffing in mid-picture is legal; the shortcut is then switched off."""
    parts, counter = [], 0
    for packet in packets_of(b"".join(segments())):
        if pid_of(packet) != 0x100:
            parts.append(packet)
            continue
        if packet[1] & 0x40:
            at = packet.index(b"\0\0\1\xe0")
            packet = packet[: at + 4] + b"\0\0" + packet[at + 6 :]
        is_plain = not packet[3] & 0x20
        if not is_plain:
            parts.append(packet[:3] + bytes([packet[3] & 0xF0 | counter & 15]) + packet[4:])
            counter += 1
            continue
        for body in (packet[4:104], packet[104:188]):
            room = 184 - len(body)
            field = bytes([room - 1, 0]) + b"\xff" * (room - 2)
            parts.append(packet[:3] + bytes([0x30 | counter & 15]) + field + body)
            counter += 1
    pictures = [t // 3000 for t in Input().take(b"".join(parts))]
    assert pictures[-80:] == [*range(20, 100)]


def test_audio_that_is_not_opus_after_all_is_skipped() -> None:
    data = with_sound()
    packets = [
        p.replace(b"\x7f\xe0", b"\x12\x34", 1) if pid_of(p) == 0x101 else p
        for p in packets_of(data)
    ]
    reader = TransportStreamReader()
    units = reader.feed(b"".join(packets)) + reader.flush()
    assert {u.codec for u in units} == {Codec.H264}
    assert reader.counters.num_lost_units > 0


def test_an_opus_packet_larger_than_opus_allows_is_skipped() -> None:
    """So that nothing the writer refuses ever comes out of the reader."""
    size = 70_000
    body = b"\x7f\xe0" + b"\xff" * (size // 255) + bytes([size % 255]) + bytes(size)
    pes = b"\0\0\1\xbd\0\0\x84\x80\x05\x21\0\1\0\1" + body
    data = packets_of(with_sound())[0] + packets_of(with_sound())[1]
    for n, begin in enumerate(range(0, len(pes) // 184 * 184, 184)):
        flags = 0x41 if n == 0 else 0x01
        data += bytes([0x47, flags, 0x01, 0x10 | n & 15]) + pes[begin : begin + 184]
    reader = TransportStreamReader()
    assert reader.feed(data) + reader.flush() == []
    assert reader.counters.num_lost_units == 1


def test_a_map_without_anything_usable_is_refused() -> None:
    data = packets_of(segments()[0])[0] + programme_map(b"\x81\xe1\x00\xf0\x00")
    with pytest.raises(DecodeError, match=r"neither H\.264, AAC nor Opus; types: 0x81"):
        TransportStreamReader().feed(data)


def test_the_checksum_of_a_table_is_that_of_the_standard() -> None:
    pat = packets_of(segments()[0])[0]
    assert crc32_mpeg(pat[5 : 5 + 12]).to_bytes(4, "big") == pat[17:21]


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_no_bytes_whatever_crash_the_reader(data: st.DataObject) -> None:
    """Real packets, damaged and mixed with noise, split anywhere."""
    packets = packets_of(with_sound_cached())
    reader = TransportStreamReader(max_unit_size=100_000)
    for _ in range(data.draw(st.integers(1, 12))):
        begin = data.draw(st.integers(0, len(packets) - 1))
        piece = bytearray(b"".join(packets[begin : begin + data.draw(st.integers(1, 30))]))
        for _ in range(data.draw(st.integers(0, 8))):
            piece[data.draw(st.integers(0, len(piece) - 1))] = data.draw(st.integers(0, 255))
        piece += data.draw(st.binary(max_size=300))
        cut = data.draw(st.integers(0, len(piece)))
        try:
            units = reader.feed(piece[:cut]) + reader.feed(piece[cut:])
        except MediaError:
            continue
        for unit in units:
            assert len(unit.payload) <= 100_000
    reader.flush()


@cache
def with_sound_cached() -> bytes:
    return with_sound()


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(1, 5000), min_size=1, max_size=60))
def test_any_split_gives_the_same_units(sizes: list[int]) -> None:
    data = with_sound_cached()
    whole = TransportStreamReader()
    expected = [(u.codec, u.pts_ticks, bytes(u.payload)) for u in whole.feed(data) + whole.flush()]
    reader, units, at = TransportStreamReader(), [], 0
    for size in sizes:
        units += reader.feed(data[at : at + size])
        at += size
    units += reader.feed(data[at:]) + reader.flush()
    assert [(u.codec, u.pts_ticks, bytes(u.payload)) for u in units] == expected


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=5000))
def test_noise_gives_nothing(noise: bytes) -> None:
    reader = TransportStreamReader()
    assert reader.feed(noise) + reader.flush() == []


def test_video_may_move_to_another_pid() -> None:
    """A new programme map in mid-stream; what was begun on the old PID is not lost."""
    moved = [
        p if pid_of(p) != 0x100 else bytes([p[0], p[1] & 0xE0 | 0x02]) + p[2:]
        for p in packets_of(segments()[1])
        if pid_of(p) != 0x1000
    ]
    new_map = programme_map(b"\x1b\xe2\x00\xf0\x00", version=1)
    data = segments()[0] + moved[0] + new_map + b"".join(moved[1:])
    assert [t // 3000 for t in Input().take(data)] == list(range(40))
