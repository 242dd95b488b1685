"""A corpus of broken transport streams: what bad networks, bad encoders and bad peers send.

Each entry damages real segments (PAT, PMT and an IDR at the start of each) in one named way, always
the same. A reader may lose pictures, never its head: it skips, or ends with a clear error.
"""

import random
from collections.abc import Callable, Sequence

from lpnode.media.transport_stream import TransportStreamWriter

PACKET = 188
VIDEO_PID = 0x100
PMT_PID = 0x1000

Damage = Callable[[Sequence[bytes]], bytes]
BROKEN: dict[str, Damage] = {}
"""Name of the damage → the segments as one damaged stream."""


def _broken(damage: Damage) -> Damage:
    BROKEN[damage.__name__.removeprefix("_").replace("_", " ")] = damage
    return damage


def packets_of(data: bytes) -> list[bytes]:
    """The transport packets of whole segments."""
    return [data[i : i + PACKET] for i in range(0, len(data), PACKET)]


def pid_of(packet: bytes) -> int:
    """Packet identifier."""
    return int.from_bytes(packet[1:3], "big") & 0x1FFF


def crc32_mpeg(data: bytes) -> int:
    """CRC-32/MPEG-2, bit by bit: the reference for the table in the native code."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte << 24
        for _ in range(8):
            crc = (crc << 1 ^ (0x04C11DB7 if crc >> 31 else 0)) & 0xFFFFFFFF
    return crc


def table_packet(pid: int, body: bytes) -> bytes:
    """One packet with a section whose checksum is right; ``body`` lacks the checksum."""
    section = body + crc32_mpeg(body).to_bytes(4, "big")
    return (bytes([0x47, 0x40 | pid >> 8, pid & 0xFF, 0x10, 0]) + section).ljust(PACKET, b"\xff")


def programme_map(*entries: bytes, version: int = 0) -> bytes:
    """A PMT packet with the given stream entries."""
    streams = b"".join(entries)
    length = 9 + len(streams) + 4
    head = bytes([2, 0xB0 | length >> 8, length & 0xFF, 0, 1, 0xC1 | version << 1, 0, 0])
    return table_packet(PMT_PID, head + b"\xe1\x00\xf0\x00" + streams)


def _each(segments: Sequence[bytes], change: Callable[[int, bytes], bytes]) -> bytes:
    return b"".join(change(n, p) for n, p in enumerate(packets_of(b"".join(segments))))


def _of_video(change: Callable[[bytearray], None], every: int) -> Damage:
    def damage(segments: Sequence[bytes]) -> bytes:
        def apply(n: int, packet: bytes) -> bytes:
            if pid_of(packet) != VIDEO_PID or n % every:
                return packet
            altered = bytearray(packet)
            change(altered)
            return bytes(altered)

        return _each(segments, apply)

    return damage


@_broken
def _every_segment_cut_in_mid_packet(segments: Sequence[bytes]) -> bytes:
    return b"".join(segment[: len(segment) * 2 // 3 + 55] for segment in segments)


@_broken
def _a_segment_is_missing(segments: Sequence[bytes]) -> bytes:
    return segments[0] + b"".join(segments[2:])


@_broken
def _the_first_half_is_missing(segments: Sequence[bytes]) -> bytes:
    return segments[0][len(segments[0]) // 2 :] + b"".join(segments[1:])


@_broken
def _every_fiftieth_packet_lost(segments: Sequence[bytes]) -> bytes:
    return _each(segments, lambda n, p: b"" if n % 50 == 49 else p)


@_broken
def _every_packet_twice(segments: Sequence[bytes]) -> bytes:
    return _each(segments, lambda _n, p: p + p)


@_broken
def _neighbours_swapped(segments: Sequence[bytes]) -> bytes:
    packets = packets_of(b"".join(segments))
    for n in range(20, len(packets) - 1, 40):
        packets[n], packets[n + 1] = packets[n + 1], packets[n]
    return b"".join(packets)


@_broken
def _bits_flipped_at_random(segments: Sequence[bytes]) -> bytes:
    rng = random.Random(1)
    data = bytearray(b"".join(segments))
    for _ in range(len(data) // 2000):
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    return bytes(data)


@_broken
def _bytes_inserted_at_random(segments: Sequence[bytes]) -> bytes:
    rng = random.Random(2)
    return _each(
        segments,
        lambda _n, p: p + rng.randbytes(rng.randrange(1, 400)) if rng.random() < 0.02 else p,
    )


@_broken
def _sync_bytes_inserted(segments: Sequence[bytes]) -> bytes:
    return _each(segments, lambda n, p: b"\x47" * 77 + p if n % 60 == 59 else p)


@_broken
def _tables_never_sent(segments: Sequence[bytes]) -> bytes:
    return _each(segments, lambda _n, p: p if pid_of(p) == VIDEO_PID else b"")


@_broken
def _association_table_with_a_wrong_checksum(segments: Sequence[bytes]) -> bytes:
    return _each(segments, lambda _n, p: p[:12] + b"\x55" + p[13:] if pid_of(p) == 0 else p)


@_broken
def _programme_map_of_absurd_length(segments: Sequence[bytes]) -> bytes:
    return _each(segments, lambda _n, p: p[:6] + b"\xbf\xff" + p[8:] if pid_of(p) == PMT_PID else p)


@_broken
def _programme_map_entry_longer_than_the_map(segments: Sequence[bytes]) -> bytes:
    entry = b"\x1b\xe1\x00\xff\xff"
    return _each(segments, lambda _n, p: programme_map(entry) if pid_of(p) == PMT_PID else p)


@_broken
def _programme_map_on_the_pid_of_the_association_table(segments: Sequence[bytes]) -> bytes:
    pat = table_packet(0, b"\0\xb0\x0d\0\1\xc1\0\0\0\1\xe0\0")
    return _each(segments, lambda _n, p: pat if pid_of(p) == 0 else p)


@_broken
def _programme_map_that_keeps_changing(segments: Sequence[bytes]) -> bytes:
    video = b"\x1b\xe1\x00\xf0\x00"
    sound = b"\x06\xe1\x01\xf0\x0a\x05\x04Opus\x7f\x02\x80\x01"
    maps = [programme_map(video, version=1), programme_map(video, sound, version=2)]
    return _each(segments, lambda n, p: maps[n % 2] + p if n % 10 == 0 else p)


@_broken
def _video_becomes_hevc(segments: Sequence[bytes]) -> bytes:
    return segments[0] + segments[1].replace(
        packets_of(segments[1])[1], programme_map(b"\x24\xe1\x00\xf0\x00", version=1)
    )


@_broken
def _adaptation_field_longer_than_the_packet(segments: Sequence[bytes]) -> bytes:
    def change(packet: bytearray) -> None:
        packet[3] |= 0x20
        packet[4] = 0xFF

    return _of_video(change, 30)(segments)


@_broken
def _transport_error_indicated(segments: Sequence[bytes]) -> bytes:
    return _of_video(lambda p: p.__setitem__(1, p[1] | 0x80), 30)(segments)


@_broken
def _packets_scrambled(segments: Sequence[bytes]) -> bytes:
    return _of_video(lambda p: p.__setitem__(3, p[3] | 0x80), 30)(segments)


def _change_pes_header(offset: int, value: bytes) -> Damage:
    def damage(segments: Sequence[bytes]) -> bytes:
        def apply(n: int, packet: bytes) -> bytes:
            start = packet.find(b"\0\0\1\xe0")
            if n % 5 or pid_of(packet) != VIDEO_PID or not packet[1] & 0x40 or start < 0:
                return packet
            at = start + offset
            return packet[:at] + value + packet[at + len(value) :]

        return _each(segments, apply)

    return damage


BROKEN["start code prefix wrong"] = _change_pes_header(0, b"\1\1\1")
BROKEN["pes header longer than the pes"] = _change_pes_header(8, b"\xff")
BROKEN["pes without time stamps"] = _change_pes_header(7, b"\x00")
BROKEN["pes length too short"] = _change_pes_header(4, b"\x00\x20")
BROKEN["pes length too long"] = _change_pes_header(4, b"\xff\xff")
BROKEN["pes length not stated"] = _change_pes_header(4, b"\x00\x00")
BROKEN["time stamps at random"] = _change_pes_header(9, b"\x2f\x9d\x13\x77\x55")


@_broken
def _a_picture_that_never_ends(segments: Sequence[bytes]) -> bytes:
    head = segments[0][: 3 * PACKET]
    head = head.replace(head[head.index(b"\0\0\1\xe0") :][4:6], b"\0\0", 1)
    counter = head[2 * PACKET + 3] & 15
    parts = [head]
    for _ in range(60_000):
        counter = (counter + 1) & 15
        parts.append(bytes([0x47, 0x01, 0x00, 0x10 | counter]) + b"\x55" * 184)
    return b"".join(parts)


@_broken
def _packets_of_192_bytes(segments: Sequence[bytes]) -> bytes:
    return _each(segments, lambda _n, p: b"\0\0\0\0" + p)


@_broken
def _slices_of_garbage(segments: Sequence[bytes]) -> bytes:
    rng = random.Random(3)
    return _each(
        segments,
        lambda n, p: p[:100] + rng.randbytes(88) if pid_of(p) == VIDEO_PID and n % 7 == 0 else p,
    )


@_broken
def _parameter_sets_of_an_absurd_size(segments: Sequence[bytes]) -> bytes:
    # 32768 x 32768, Baseline: what matters is that nobody allocates a gigabyte for it.
    sps = b"\0\0\0\1\x67\x42\x00\x33\xf8\x08\x00\x08\x00\x00\x80\x00\x80\x80"
    writer = TransportStreamWriter()
    slices = b"\0\0\0\1\x68\xce\x38\x80\0\0\0\1\x65\x88\x84\x00\x10" + b"\x5a" * 400
    return b"".join(writer.video(n * 3000, n * 3000, sps + slices, is_key=True) for n in range(5))


@_broken
def _a_web_page(segments: Sequence[bytes]) -> bytes:
    return b"<html><head><title>502 Bad Gateway</title></head>Go, good gateway!</html>\n" * 500


@_broken
def _nothing_but_null_packets(segments: Sequence[bytes]) -> bytes:
    return (b"\x47\x1f\xff\x10" + b"\xff" * 184) * 500


@_broken
def _nothing_but_zeros(segments: Sequence[bytes]) -> bytes:
    return bytes(100_000)


@_broken
def _nothing_but_sync_bytes(segments: Sequence[bytes]) -> bytes:
    return b"\x47" * 100_001


@_broken
def _nothing_at_all(segments: Sequence[bytes]) -> bytes:
    return b""


@_broken
def _a_single_byte(segments: Sequence[bytes]) -> bytes:
    return b"\x47"
