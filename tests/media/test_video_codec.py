"""Decoder, encoder, pacing and segmenting on real H.264."""

import av
import numpy as np
import pytest
from coded_streams import CodedVideo, h264, moving_picture, mux_by_ffmpeg, whip_segments

from lpnode.errors import ConfigError, DecodeError, EncodeError, InvalidArgument
from lpnode.media.decoder import DecoderConfig, VideoDecoder
from lpnode.media.encoder import EncodedPacket, EncoderConfig, VideoEncoder
from lpnode.media.frame import Colour, Frame, Matrix
from lpnode.media.pacing import FramePacer
from lpnode.media.segmenter import Segmenter
from lpnode.media.transport_stream import (
    AccessUnit,
    TransportStreamReader,
    TransportStreamWriter,
)

BT601 = Colour(Matrix.BT601, False)


def units_of(video: CodedVideo) -> list[AccessUnit]:
    writer, reader = TransportStreamWriter(), TransportStreamReader()
    data = [writer.video(p.pts, p.dts, p, is_key=p.is_keyframe) for p in video.packets]
    return [unit for part in data for unit in reader.feed(part)] + reader.flush()


def decode(units: list[AccessUnit], decoder: VideoDecoder | None = None) -> list[Frame]:
    decoder = decoder or VideoDecoder()
    return [frame for unit in units for frame in decoder.decode(unit)]


def damaged(begin: int, video: CodedVideo) -> list[AccessUnit]:
    """The units of ``video``; from ``begin`` on, each slice names a parameter set there is not."""
    packets = list(video.packets)
    for index, packet in enumerate(packets[begin:], begin):
        nal = b"\x65" if packet.is_keyframe else b"\x41"
        packets[index] = _with_bytes(packet, b"\0\0\0\1" + nal + b"\xc0\x3f" + b"\xff" * 30)
    return units_of(CodedVideo(packets, video.width, video.height))


def without_vui(annexb: bytes) -> bytes:
    """Ends each sequence parameter set (Main profile, as x264 writes it) before its VUI."""
    nals = annexb.split(b"\0\0\1")
    for index, nal in enumerate(nals):
        if not nal or nal[0] & 0x1F != 7:
            continue
        bits = "".join(f"{byte:08b}" for byte in nal[1:].replace(b"\0\0\3", b"\0\0"))
        at = 24

        def skip_ue(at: int, bits: str = bits) -> int:
            zeros = bits.index("1", at) - at
            return at + 2 * zeros + 1

        assert nal[1] == 77, "Main profile"
        at = skip_ue(skip_ue(skip_ue(at)))  # id, log2_max_frame_num, pic_order_cnt_type
        at = skip_ue(skip_ue(at)) + 1  # log2_max_pic_order_cnt_lsb, num_ref_frames, gaps allowed
        at = skip_ue(skip_ue(at)) + 2  # width, height, frame_mbs_only, direct_8x8
        if bits[at] == "1":
            at = skip_ue(skip_ue(skip_ue(skip_ue(at + 1)))) - 1
        kept = bits[: at + 1] + "01"  # no VUI, then the stop bit
        kept += "0" * (-len(kept) % 8)
        payload = int(kept, 2).to_bytes(len(kept) // 8, "big")
        nals[index] = nal[:1] + payload.replace(b"\0\0\0", b"\0\0\3\0")
    return b"\0\0\1".join(nals)


def _with_bytes(packet: av.Packet, payload: bytes) -> av.Packet:
    changed = av.Packet(payload)
    changed.pts, changed.dts, changed.is_keyframe = packet.pts, packet.dts, packet.is_keyframe
    return changed


def encode(encoder: VideoEncoder, num_frames: int, fps: int = 24) -> list[EncodedPacket]:
    config = encoder.config
    packets = []
    for n in range(num_frames):
        picture = moving_picture(n, config.width, config.height)
        packets += encoder.encode(picture, n * 90_000 // fps, BT601)
    return packets


def test_each_frame_is_returned_with_its_own_unit() -> None:
    decoder = VideoDecoder()
    for unit in units_of(h264(20)):
        (frame,) = decoder.decode(unit)
        assert frame.pts_ticks == unit.pts_ticks


def test_b_frames_come_in_order_of_presentation_with_every_time_stamp() -> None:
    video = h264(60, b_frames=2, first_ticks=126_000)
    decoder = VideoDecoder()
    frames = decode(units_of(video), decoder) + decoder.flush()
    assert [f.pts_ticks for f in frames] == sorted(p.pts for p in video.packets)


def test_b_frames_that_are_not_announced_come_in_order_too() -> None:
    """Without a VUI the decoder cannot know the reordering depth."""
    video = h264(60, b_frames=2)
    packets = [_with_bytes(p, without_vui(bytes(p))) for p in video.packets]
    decoder = VideoDecoder()
    frames = decode(units_of(CodedVideo(packets, 320, 240)), decoder) + decoder.flush()
    assert [f.pts_ticks for f in frames] == sorted(p.pts for p in video.packets)


def test_decoding_begins_at_a_random_access_point() -> None:
    video = h264(60, gop=20)
    late = CodedVideo(video.packets[7:], video.width, video.height)
    assert decode(units_of(late))[0].pts_ticks == 20 * 3000


def test_pictures_that_miss_their_reference_are_not_shown() -> None:
    """A lost packet: output goes on at the next IDR (L19)."""
    video = h264(60, gop=20)
    segments = [
        b"".join(whip_segments(CodedVideo(video.packets[:30], 320, 240))),
    ]
    data = segments[0]
    begin = data.rindex(b"\x47\x41\x00", 0, len(data) * 3 // 4)
    lossy = data[: begin + 188] + data[begin + 2 * 188 :]
    rest = b"".join(whip_segments(CodedVideo(video.packets[40:], 320, 240)))
    reader = TransportStreamReader()
    units = reader.feed(lossy) + reader.flush() + reader.feed(rest) + reader.flush()
    shown = [f.pts_ticks // 3000 for f in decode(units)]
    assert reader.counters.num_continuity_errors >= 1
    assert shown == list(range(len(shown) - 20)) + list(range(40, 60))


def test_a_new_size_is_decoded_from_its_idr_on() -> None:
    """L18, the decoder's part."""
    units = units_of(h264(10)) + units_of(h264(10, width=640, height=480, first_ticks=30_000))
    sizes = [(f.width, f.height) for f in decode(units)]
    assert sizes == [(320, 240)] * 10 + [(640, 480)] * 10


def test_ten_errors_are_tolerated_and_good_frames_pay_them_back() -> None:
    video = h264(40, gop=40)
    units = units_of(video)
    decoder = VideoDecoder()
    bad = damaged(20, video)
    frames = decode(units[:20], decoder)
    decode(bad[20:30], decoder)
    assert (len(frames), decoder.num_errors, decoder.num_failures) == (20, 10, 0)


def test_the_eleventh_error_restarts_and_the_third_failure_ends_the_stream() -> None:
    """L19. Every picture is an IDR, so that nothing is skipped while waiting for one."""
    units = damaged(0, h264(33, gop=1))
    decoder = VideoDecoder(clock=lambda: 100.0)
    decode(units[:11], decoder)
    assert (decoder.num_errors, decoder.num_failures) == (0, 1)
    decode(units[11:32], decoder)
    assert (decoder.num_errors, decoder.num_failures) == (10, 2)
    with pytest.raises(DecodeError, match="failed 3 times"):
        decoder.decode(units[32])


def test_a_failure_is_forgotten_after_two_minutes() -> None:
    units = damaged(0, h264(33, gop=1))
    now = 100.0
    decoder = VideoDecoder(clock=lambda: now)
    decode(units[:22], decoder)
    assert decoder.num_failures == 2
    now += 121
    decode(units[22:33], decoder)
    assert decoder.num_failures == 1


def test_a_restarted_decoder_goes_on_at_the_next_idr() -> None:
    video = h264(60, gop=20)
    bad, good = damaged(25, video), units_of(video)
    decoder = VideoDecoder()
    frames = decode(good[:25] + bad[25:36] + good[36:], decoder)
    assert [f.pts_ticks // 3000 for f in frames] == [*range(25), *range(40, 60)]


def test_a_picture_larger_than_the_limit_is_an_error() -> None:
    decoder = VideoDecoder(DecoderConfig(max_pixels=320 * 200))
    assert decode(units_of(h264(5)), decoder) == []
    assert decoder.num_errors == 5


@pytest.mark.parametrize(
    ("colorspace", "color_range", "height", "colour"),
    [
        (2, 0, 240, Colour(Matrix.BT601, False)),
        (2, 0, 720, Colour(Matrix.BT709, False)),
        (1, 1, 240, Colour(Matrix.BT709, False)),
        (5, 2, 720, Colour(Matrix.BT601, True)),
        (6, 1, 240, Colour(Matrix.BT601, False)),
    ],
)
def test_matrix_and_range_are_read_from_each_frame(
    colorspace: int, color_range: int, height: int, colour: Colour
) -> None:
    video = h264(1, width=320, height=height, colorspace=colorspace, color_range=color_range)
    assert decode(units_of(video))[0].colour == colour


def test_decoded_planes_are_read_in_place() -> None:
    (frame,) = decode(units_of(h264(1)))
    luma = np.frombuffer(frame.picture.planes[0], np.uint8)
    before = int(luma[5])
    luma.setflags(write=False)
    writable = np.asarray(memoryview(frame.picture.planes[0]))
    writable[5] = (before + 1) % 256
    assert luma[5] == (before + 1) % 256


@pytest.mark.parametrize("pix_fmt", ["yuv422p", "yuv444p", "yuv420p10le"])
def test_other_sampling_and_depth_become_8_bit_420(pix_fmt: str) -> None:
    frames = decode(units_of(h264(3, pix_fmt=pix_fmt)))
    assert [f.pts_ticks for f in frames] == [0, 3000, 6000]
    assert {f.picture.format.name for f in frames} == {"yuv420p"}


def test_full_range_is_seen_whatever_the_format_is_called() -> None:
    (frame,) = decode(units_of(h264(1, color_range=2)))
    assert frame.colour.is_full_range
    assert frame.picture.format.name in ("yuv420p", "yuvj420p")


def test_each_picture_gives_one_packet_with_its_time_stamp() -> None:
    encoder = VideoEncoder(EncoderConfig(width=384, height=256))
    for n in range(10):
        (packet,) = encoder.encode(moving_picture(n, 384, 256), 7 + 3750 * n, BT601)
        assert (packet.pts_ticks, packet.dts_ticks) == (7 + 3750 * n, 7 + 3750 * n)


def test_key_frames_come_every_two_seconds_with_parameter_sets() -> None:
    packets = encode(VideoEncoder(EncoderConfig(width=128, height=128)), 24 * 7)
    keys = [p.pts_ticks for p in packets if p.is_key]
    assert keys == [0, 180_000, 360_000, 540_000]
    for packet in packets:
        nals = [n[0] & 0x1F for n in bytes(packet.payload).split(b"\0\0\1")[1:]]
        assert nals[0] == 9
        assert ({7, 8, 5} <= set(nals)) == packet.is_key


def test_a_picture_that_is_not_later_is_dropped() -> None:
    encoder = VideoEncoder(EncoderConfig(width=128, height=128))
    picture = encoder.picture()
    given = [0, 3000, 3000, 2000, 6000]
    kept = [p.pts_ticks for t in given for p in encoder.encode(picture, t, BT601)]
    assert (kept, encoder.num_dropped) == ([0, 3000, 6000], 2)


def test_a_forced_key_frame_does_not_move_the_rhythm() -> None:
    encoder = VideoEncoder(EncoderConfig(width=128, height=128))
    picture = encoder.picture()
    keys = [
        n
        for n in range(100)
        for p in encoder.encode(picture, n * 3750, BT601, force_key=n == 30)
        if p.is_key
    ]
    assert keys == [0, 30, 48, 96]


def test_the_colour_is_signalled_and_may_change() -> None:
    encoder = VideoEncoder(EncoderConfig(width=128, height=128))
    full709 = Colour(Matrix.BT709, True)
    packets = []
    for n, colour in enumerate([BT601, BT601, full709, full709]):
        packets += encoder.encode(moving_picture(n, 128, 128), n * 3000, colour)
    writer, reader = TransportStreamWriter(), TransportStreamReader()
    units = [
        unit
        for p in packets
        for unit in reader.feed(writer.video(p.pts_ticks, p.dts_ticks, p.payload, is_key=p.is_key))
    ]
    assert [f.colour for f in decode(units)] == [BT601, BT601, full709, full709]


def test_a_picture_may_be_written_again_after_encoding() -> None:
    encoder = VideoEncoder(EncoderConfig(width=64, height=64))
    picture, packets = encoder.picture(), []
    for n, level in enumerate([40, 200]):
        for plane, value in zip(picture.planes, (level, 128, 128), strict=True):
            np.asarray(memoryview(plane))[:] = value
        packets += encoder.encode(picture, n * 3000, BT601)
    codec = av.CodecContext.create("h264", "r")
    pictures = [f for p in packets for f in codec.decode(av.Packet(bytes(p.payload)))]
    pictures += codec.decode(None)
    levels = [int(np.frombuffer(f.planes[0], np.uint8)[:64].mean()) for f in pictures]
    assert levels == [pytest.approx(40, abs=4), pytest.approx(200, abs=4)]


def test_a_wrong_picture_is_refused_before_encoding() -> None:
    with pytest.raises(InvalidArgument, match="must be 128x128 yuv420p, got 64x64"):
        VideoEncoder(EncoderConfig(width=128, height=128)).encode(
            moving_picture(0, 64, 64), 0, BT601
        )


@pytest.mark.parametrize(
    "wrong", [{"width": 511}, {"codec": "vp8"}, {"bitrate_bps": 1}, {"num_threads": 0}]
)
def test_a_wrong_encoder_setting_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ConfigError):
        EncoderConfig(**wrong)


def reference_choice(pts: list[int], max_framerate: int) -> list[int]:
    """The rule of live.md 4.2 as the reference computes it, in double-precision seconds."""
    interval, due, kept = 1.0 / max_framerate, 0.0, []
    for ticks in pts:
        t = float(ticks) * 1 / 90_000
        if t < due:
            continue
        due = t + interval if t > due + interval else due + interval
        kept.append(ticks)
    return kept


@pytest.mark.parametrize("fps", [24, 25, 30, 50, 60])
@pytest.mark.parametrize("first", [0, 126_000, 2**33 - 5000, 77])
@pytest.mark.parametrize("cap", [24, 10, 60])
def test_the_frames_that_are_kept_are_the_reference_s(fps: int, first: int, cap: int) -> None:
    """L14."""
    pts = [first + n * 90_000 // fps for n in range(600)]
    pacer = FramePacer(cap)
    assert [t for t in pts if pacer.keeps(t)] == reference_choice(pts, cap)


def test_sixty_frames_a_second_become_twenty_four() -> None:
    pacer = FramePacer()
    assert sum(pacer.keeps(n * 1500) for n in range(600)) == 240


def test_a_gap_does_not_let_a_burst_through() -> None:
    pacer = FramePacer()
    kept = [n for n in [*range(60), *range(600, 660)] if pacer.keeps(n * 1500)]
    assert len([n for n in kept if n >= 600]) == 24


def test_a_frame_rate_out_of_range_is_refused() -> None:
    with pytest.raises(InvalidArgument, match="1 to 60"):
        FramePacer(61)


def test_segments_begin_at_the_first_key_frame_of_each_two_seconds() -> None:
    """L16: durations of 2 s, give or take a frame."""
    packets = encode(VideoEncoder(EncoderConfig(width=64, height=64)), 300, fps=23)
    segmenter = Segmenter()
    cuts = [p.pts_ticks for p in packets if segmenter.begins_segment(p.pts_ticks, is_key=p.is_key)]
    assert cuts[0] == 0
    lengths = np.diff(cuts) / 90_000
    assert np.all(np.abs(lengths - 2) <= 1 / 23)


def test_a_key_frame_too_early_does_not_cut() -> None:
    segmenter = Segmenter()
    keys = [0, 90_000, 180_000, 200_000, 2_000_000, 2_100_000]
    assert [segmenter.begins_segment(t, is_key=True) for t in keys] == [
        True, False, True, False, True, False,
    ]  # fmt: skip
    assert not segmenter.begins_segment(9_000_000, is_key=False)


def test_a_noop_round_trip_keeps_the_time_stamps_of_an_rtmp_stream() -> None:
    """L12, video: B-frames, time stamps from 1.4 s, 24 fps so that pacing keeps all."""
    video = h264(72, fps=24, b_frames=2, first_ticks=126_000, gop=24)
    reader, decoder = TransportStreamReader(), VideoDecoder()
    units = reader.feed(mux_by_ffmpeg(video)) + reader.flush()
    frames = decode(units, decoder) + decoder.flush()
    encoder = VideoEncoder(EncoderConfig(width=320, height=240))
    packets = [p for f in frames for p in encoder.encode(f.picture, f.pts_ticks, f.colour)]
    assert [p.pts_ticks for p in packets] == sorted(p.pts for p in video.packets)


def test_a_stream_with_intra_refresh_recovers_from_a_loss_without_an_idr() -> None:
    """Recovery points are random access points too."""
    video = h264(90, gop=20, x264_params="intra-refresh=1")
    assert sum(p.is_keyframe for p in video.packets) > 1
    packets = list(video.packets)
    idrs = [n for n, p in enumerate(packets) if 5 in _nal_types(bytes(p))]
    assert idrs == [0]
    reader, writer = TransportStreamReader(), TransportStreamWriter()
    parts = [writer.video(p.pts, p.dts, p, is_key=p.is_keyframe) for p in packets]
    units = [u for n, part in enumerate(parts) if n not in (30, 31) for u in reader.feed(part)]
    shown = [f.pts_ticks // 3000 for f in decode(units)]
    assert shown[:30] == list(range(30))
    assert shown[-20:] == list(range(70, 90))
    assert reader.counters.num_continuity_errors == 1


def _nal_types(annexb: bytes) -> set[int]:
    return {nal[0] & 0x1F for nal in annexb.split(b"\0\0\1")[1:] if nal}


@pytest.mark.gpu
def test_the_hardware_encoder_keeps_the_same_rules() -> None:
    try:
        packets = encode(VideoEncoder(EncoderConfig(width=512, height=512, codec="h264_nvenc")), 60)
    except EncodeError as error:
        pytest.skip(f"this device has no video encoder: {error}")
    assert [p.pts_ticks for p in packets] == [n * 3750 for n in range(60)]
    assert [p.pts_ticks for p in packets if p.is_key] == [0, 180_000]
