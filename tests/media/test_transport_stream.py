"""Demuxer and muxer against FFmpeg's own."""

import io
import itertools

import av
import pytest
from broken_streams import programme_map, table_packet
from coded_streams import h264, mux_by_ffmpeg, opus_ticks, tone, whip_segments

from lpnode.errors import DecodeError, InvalidArgument
from lpnode.media.transport_stream import (
    AccessUnit,
    Codec,
    TransportStreamReader,
    TransportStreamWriter,
)

PACKET = 188


def read(data: bytes, *, step: int | None = None) -> list[AccessUnit]:
    reader = TransportStreamReader()
    units: list[AccessUnit] = []
    for begin in range(0, len(data), step or len(data)):
        units += reader.feed(data[begin : begin + (step or len(data))])
    return units + reader.flush()


def of(units: list[AccessUnit], codec: Codec) -> list[AccessUnit]:
    return [unit for unit in units if unit.codec == codec]


def packet_of(pid: int, payload: bytes, counter: int, *, starts_unit: bool) -> bytes:
    """One transport packet with up to 184 bytes of payload, stuffed as needed."""
    room = 184 - len(payload)
    field = b"" if room == 0 else bytes([room - 1]) + (b"\0" + b"\xff" * room)[: room - 1]
    flags = (0x30 if room else 0x10) | counter & 0x0F
    head = bytes([0x47, (0x40 if starts_unit else 0) | pid >> 8, pid & 0xFF, flags])
    return head + field + payload


def write(video: object, **kwargs: int) -> bytes:
    writer = TransportStreamWriter(**kwargs)
    return b"".join(writer.video(p.pts, p.dts, p, is_key=p.is_keyframe) for p in video.packets)


@pytest.mark.parametrize("step", [1, 7, 187, 188, 189, 1000, 32768])
def test_units_are_the_same_however_the_bytes_are_split(step: int) -> None:
    video = h264(12)
    units = read(write(video), step=step)
    assert [bytes(u.payload)[6:] for u in units] == [bytes(p) for p in video.packets]


def test_a_stream_by_ffmpeg_is_read_exactly() -> None:
    video = h264(40, b_frames=2, first_ticks=126_000, gop=20)
    units = of(read(mux_by_ffmpeg(video)), Codec.H264)
    assert [(u.pts_ticks, u.dts_ticks) for u in units] == [(p.pts, p.dts) for p in video.packets]
    assert [u.is_random_access for u in units] == [p.is_keyframe for p in video.packets]
    assert not any(u.has_discontinuity for u in units)


def test_a_picture_is_complete_with_its_last_packet_when_its_length_is_not_stated() -> None:
    """FFmpeg leaves the length open; the picture must not wait for the next one."""
    video = h264(30)
    data = mux_by_ffmpeg(video)
    reader = TransportStreamReader()
    at_once = reader.feed(data)
    assert len(at_once) == 30
    assert reader.flush() == []


def test_what_the_writer_makes_is_read_by_ffmpeg() -> None:
    video = h264(60, gop=30, first_ticks=5_000)
    sound = tone("libopus", 2.0)
    data = b"".join(whip_segments(video, sound))
    with av.open(io.BytesIO(data)) as container:
        packets = [(p.stream.type, p.pts, bytes(p)) for p in container.demux() if p.size]
        kinds = [stream.codec_context.name for stream in container.streams]
    assert kinds in (["h264", "opus"], ["h264", "libopus"])
    assert [pts for kind, pts, _ in packets if kind == "video"] == [p.pts for p in video.packets]
    sounds = [payload for kind, _, payload in packets if kind == "audio"]
    assert sounds == [bytes(p) for p in sound[: len(sounds)]]
    assert len(sounds) > 90


def test_each_key_frame_is_preceded_by_tables_and_carries_parameter_sets() -> None:
    video = h264(60, gop=30)
    writer = TransportStreamWriter()
    for packet in video.packets:
        data = writer.video(packet.pts, packet.dts, packet, is_key=packet.is_keyframe)
        if not packet.is_keyframe:
            continue
        pids = [int.from_bytes(data[i + 1 : i + 3], "big") & 0x1FFF for i in (0, 188, 376)]
        assert pids == [0x0000, 0x1000, 0x0100]
        assert data[376 + 5] & 0x40, "random access indicator"
        (unit,) = read(data)
        nals = [chunk[0] & 0x1F for chunk in bytes(unit.payload).split(b"\0\0\1")[1:] if chunk]
        assert nals[0] == 9
        assert nals.index(7) < nals.index(8) < nals.index(5)


def test_tables_are_repeated_every_100_ms() -> None:
    writer = TransportStreamWriter()
    packet = h264(1).packets[0]
    with_tables = [
        n
        for n in range(60)
        if writer.video(n * 3000, n * 3000, packet, is_key=False)[1:3] == b"\x40\x00"
    ]
    assert with_tables == list(range(0, 60, 3))


def test_the_audio_entry_of_the_map_names_opus_and_its_channels() -> None:
    data = TransportStreamWriter(opus_channels=1).audio(0, b"\xf8\xff\xfe")
    assert b"\x06\xe1\x01\xf0\x0a\x05\x04Opus\x7f\x02\x80\x01" in data
    reader = TransportStreamReader()
    (unit,) = reader.feed(data)
    assert (reader.has_video, reader.audio_codec, reader.opus_channels) == (True, Codec.OPUS, 1)
    assert bytes(unit.payload) == b"\xf8\xff\xfe"


def test_video_without_audio_gives_a_map_without_audio() -> None:
    reader = TransportStreamReader()
    reader.feed(write(h264(3)))
    assert (reader.has_video, reader.audio_codec) == (True, None)


@pytest.mark.parametrize("size", [1, 100, 254, 255, 256, 1275])
def test_opus_packets_of_every_size_survive(size: int) -> None:
    packet = b"\xf8" + bytes(size - 1)
    writer = TransportStreamWriter(has_video=False, opus_channels=2)
    data = writer.audio(900, packet) + writer.audio(2700, packet)
    units = read(data)
    assert [(u.pts_ticks, bytes(u.payload)) for u in units] == [(900, packet), (2700, packet)]


def test_several_opus_packets_in_one_pes_get_successive_time_stamps() -> None:
    sound = [p for p in tone("libopus", 0.2) if p.size < 255]
    body = b"".join(b"\x7f\xe0" + bytes([p.size]) + bytes(p) for p in sound)
    header = b"\0\0\1\xbd" + (len(body) + 8).to_bytes(2, "big") + b"\x84\x80\x05"
    pes = header + b"\x21\x00\x01\x00\x01" + body
    data = TransportStreamWriter(opus_channels=1).audio(0, b"\xf8")[: 2 * PACKET]
    for counter, begin in enumerate(range(0, len(pes), 184)):
        data += packet_of(0x101, pes[begin : begin + 184], counter, starts_unit=begin == 0)
    assert [u.pts_ticks for u in read(data)] == [1800 * n for n in range(len(sound))]


def test_adts_frames_get_a_time_stamp_each() -> None:
    sound = tone("aac", 1.0, layout="stereo")
    data = mux_by_ffmpeg(
        h264(30), sound, audio_codec="aac", audio_layout="stereo", audio_offset_ticks=1920
    )
    units = of(read(data), Codec.AAC)
    assert len(units) == len(sound)
    assert [u.pts_ticks for u in units] == [1920 * n for n in range(len(sound))]
    assert all(bytes(u.payload[:2]) == b"\xff\xf1" for u in units)


@pytest.mark.parametrize("pes_size", [150, 401, 1000])
def test_adts_frames_may_straddle_pes_packets(pes_size: int) -> None:
    """A PES's time stamp is that of the first frame that begins in it."""
    sound = tone("aac", 0.5)
    whole = of(
        read(mux_by_ffmpeg(h264(15), sound, audio_codec="aac", audio_offset_ticks=1920)), Codec.AAC
    )
    frames = [bytes(u.payload) for u in whole]
    begins = list(itertools.accumulate(map(len, frames), initial=0))
    stream, counter = b"".join(frames), 0
    data = table_packet(0, b"\0\xb0\x0d\0\1\xc1\0\0\0\1\xf0\0")
    data += programme_map(b"\x0f\xe1\x01\xf0\x00")
    for begin in range(0, len(stream), pes_size):
        first = next(n for n, at in enumerate(begins) if at >= begin)
        ticks = 1920 * first
        high, low = ticks >> 14 & 0xFE | 1, ticks << 1 & 0xFE | 1
        stamp = bytes([0x21 | ticks >> 29 & 0xE, ticks >> 22 & 0xFF, high, ticks >> 7 & 0xFF, low])
        body = stream[begin : begin + pes_size]
        head = b"\0\0\1\xc0" + (len(body) + 8).to_bytes(2, "big") + b"\x84\x80\x05"
        pes = head + stamp + body
        for at in range(0, len(pes), 184):
            data += packet_of(0x101, pes[at : at + 184], counter, starts_unit=at == 0)
            counter += 1
    units = read(data)
    assert [bytes(u.payload) for u in units] == frames
    assert [u.pts_ticks for u in units] == [1920 * n for n in range(len(frames))]


def test_restarting_counters_do_not_lose_a_picture() -> None:
    video = h264(90, gop=30)
    reader = TransportStreamReader()
    units = [unit for segment in whip_segments(video) for unit in reader.feed(segment)]
    assert [u.pts_ticks for u in units] == [p.pts for p in video.packets]
    assert reader.counters.num_lost_units == 0


def test_time_stamps_go_on_past_33_bits() -> None:
    video = h264(20, first_ticks=2**33 - 9 * 3000)
    units = read(write(video))
    assert [u.pts_ticks for u in units] == [p.pts for p in video.packets]
    with av.open(io.BytesIO(write(video))) as container:
        assert sum(1 for p in container.demux() if p.size) == 20


def test_negative_time_stamps_are_written_wrapped() -> None:
    packet = h264(1).packets[0]
    (unit,) = read(TransportStreamWriter().video(-900, -900, packet, is_key=True))
    assert unit.pts_ticks == 2**33 - 900


def test_a_large_picture_without_stated_length_ends_with_a_stuffed_packet() -> None:
    """So that a reader that knows need not wait for the next picture."""
    for extra in range(184):
        annexb = b"\0\0\0\1\x09\xf0\0\0\1\x65" + b"\x55" * (66_000 + extra)
        data = TransportStreamWriter().video(0, 0, annexb, is_key=True)
        reader = TransportStreamReader()
        (unit,) = reader.feed(data)
        assert bytes(unit.payload).rstrip(b"\0") == annexb
        assert len(unit.payload) <= len(annexb) + 1


def test_a_map_with_other_video_is_refused_by_name() -> None:
    data = bytearray(write(h264(1)))
    video_type = data.index(b"\x1b\xe1\x00")
    data[video_type] = 0x24
    section = data[193 : 193 + 3 + 18]
    crc = 0xFFFFFFFF
    for byte in section[:-4]:
        for bit in range(7, -1, -1):
            crc = (crc << 1 ^ (0x04C11DB7 if (crc >> 31) ^ (byte >> bit & 1) else 0)) & 0xFFFFFFFF
    data[193 + 17 : 193 + 21] = crc.to_bytes(4, "big")
    with pytest.raises(DecodeError, match=r"got HEVC \(0x24\)"):
        TransportStreamReader().feed(bytes(data))


def test_a_stream_the_map_lacks_is_refused() -> None:
    with pytest.raises(InvalidArgument, match="no audio"):
        TransportStreamWriter().audio(0, b"\xf8")
    with pytest.raises(InvalidArgument, match="no video"):
        TransportStreamWriter(has_video=False, opus_channels=1).video(0, 0, b"12345", is_key=True)
    with pytest.raises(InvalidArgument, match="needs video or audio"):
        TransportStreamWriter(has_video=False, opus_channels=0)


def test_a_payload_outlives_its_reader_and_unit() -> None:
    video = h264(2)
    payloads = [unit.payload for unit in read(write(video))]
    assert [bytes(p)[6:] for p in payloads] == [bytes(p) for p in video.packets]
    assert payloads[0].readonly


def test_audio_joins_the_map_with_a_new_version() -> None:
    video, sound = h264(2), tone("libopus", 0.1)
    writer = TransportStreamWriter()
    first, second = video.packets
    data = writer.video(first.pts, first.dts, first, is_key=True)
    writer.set_streams(has_video=True, opus_channels=1)
    data += writer.audio(opus_ticks(sound[1]), sound[1])
    data += writer.video(second.pts, second.dts, second, is_key=False)
    units = read(data)
    assert [u.codec for u in units] == [Codec.H264, Codec.OPUS, Codec.H264]
    assert not units[2].has_discontinuity


def test_a_picture_that_fills_its_last_packet_waits_for_a_flush() -> None:
    """The one case in which nothing tells that it is whole, if its length is not stated."""
    pes_header, clock = 14, 8
    annexb = b"\0\0\0\1\x09\xf0\0\0\1\x65".ljust(3 * 184 - pes_header - clock, b"\x55")
    data = TransportStreamWriter().video(0, 0, annexb, is_key=True)
    at = data.index(b"\0\0\1\xe0") + 4
    reader = TransportStreamReader()
    assert reader.feed(data[:at] + b"\0\0" + data[at + 2 :]) == []
    (unit,) = reader.flush()
    assert bytes(unit.payload) == annexb
