"""Audio beside the video, on real AAC and Opus."""

import io

import av
import numpy as np
import pytest
from coded_streams import h264, mux_by_ffmpeg, opus_ticks, tone, whip_segments

from lpnode.errors import ConfigError, DecodeError, EncodeError, InvalidArgument
from lpnode.media.audio import AacToOpus, AudioPacket, OpusPassthrough, audio_path
from lpnode.media.audio_gate import AudioGate, AudioGateConfig
from lpnode.media.transport_stream import (
    AccessUnit,
    Codec,
    TransportStreamReader,
    TransportStreamWriter,
)


def audio_units(data: bytes) -> list[AccessUnit]:
    reader = TransportStreamReader()
    units = reader.feed(data) + reader.flush()
    return [unit for unit in units if unit.codec != Codec.H264]


def aac_units(duration_s: float, *, rate: int = 48_000, first_ticks: int = 0) -> list[AccessUnit]:
    video = h264(2, first_ticks=first_ticks)
    sound = tone("aac", duration_s, rate=rate, layout="stereo")
    data = mux_by_ffmpeg(
        video,
        sound,
        audio_codec="aac",
        audio_rate=rate,
        audio_layout="stereo",
        audio_offset_ticks=first_ticks + 1024 * 90_000 // rate,
    )
    return audio_units(data)


def packet(pts_s: float) -> AudioPacket:
    return AudioPacket(b"\xf8", round(pts_s * 90_000))


def test_opus_passes_unmodified() -> None:
    """L11, audio."""
    sound = tone("libopus", 1.0)
    units = audio_units(b"".join(whip_segments(h264(60), sound, first_ticks=4500)))
    path = audio_path(Codec.OPUS, 2)
    packets = [p for unit in units for p in path.convert(unit)]
    assert path.opus_channels == 2
    assert [bytes(p.payload) for p in packets] == [bytes(p) for p in sound]
    assert [p.pts_ticks for p in packets] == [opus_ticks(p) + 4500 for p in sound]


@pytest.mark.parametrize("rate", [48_000, 44_100])
def test_aac_becomes_mono_opus_with_its_time_stamps(rate: int) -> None:
    """L12, audio."""
    path = audio_path(Codec.AAC, 0)
    units = aac_units(2.0, rate=rate, first_ticks=126_000)
    packets = [p for unit in units for p in path.convert(unit)]
    steps = np.diff([p.pts_ticks for p in packets])
    assert set(steps) == {1800}
    start_up_ticks = 585  # 312 samples at 48 kHz
    assert abs(packets[0].pts_ticks - (units[0].pts_ticks - start_up_ticks)) <= 1

    writer = TransportStreamWriter(has_video=False, opus_channels=path.opus_channels)
    data = b"".join(writer.audio(p.pts_ticks, p.payload) for p in packets)
    with av.open(io.BytesIO(data)) as container:
        stream = container.streams.audio[0]
        assert (stream.codec_context.sample_rate, stream.layout.name) == (48_000, "mono")
        decoded = np.concatenate([f.to_ndarray()[0] for f in container.decode(stream)])
    tail = decoded[24_000:72_000].astype(float)
    spectrum = np.abs(np.fft.rfft(tail * np.hanning(len(tail))))
    assert np.argmax(spectrum) == pytest.approx(440 * len(tail) / 48_000, abs=1)


@pytest.mark.parametrize("rate", [48_000, 44_100])
def test_sound_stays_where_it_was(rate: int) -> None:
    sound = tone("aac", 2.0, rate=rate, begins_s=1.0)
    data = mux_by_ffmpeg(
        h264(2), sound, audio_codec="aac", audio_rate=rate, audio_offset_ticks=90_000
    )
    path = AacToOpus()
    packets = [p for unit in audio_units(data) for p in path.convert(unit)]
    decoder = av.CodecContext.create("libopus", "r")
    decoder.layout = "mono"
    samples = [
        f.to_ndarray()[0] for p in packets for f in decoder.decode(av.Packet(bytes(p.payload)))
    ]
    level = np.abs(np.concatenate(samples).astype(float))
    onset = int(np.argmax(level > level.max() / 4))
    heard_s = packets[0].pts_ticks / 90_000 + onset / 48_000
    assert heard_s == pytest.approx(2.0, abs=0.003)


def test_a_gap_in_aac_is_a_gap_in_opus() -> None:
    path = AacToOpus()
    units = aac_units(3.0)
    kept = units[:40] + units[90:]
    stamps = [p.pts_ticks for unit in kept for p in path.convert(unit)]
    gap = int(np.argmax(np.diff(stamps)))
    assert stamps[gap + 1] == units[90].pts_ticks - 585
    assert stamps == sorted(set(stamps))


def test_damaged_aac_is_skipped_until_it_is_too_much() -> None:
    path = AacToOpus(max_errors=3)
    reader = TransportStreamReader()
    good = aac_units(0.5)
    broken = bytearray(bytes(good[3].payload))
    broken[7:] = b"\xff" * (len(broken) - 7)
    sound = av.Packet(bytes(broken))
    sound.pts = 0
    (unit,) = [
        u
        for u in reader.feed(
            mux_by_ffmpeg(h264(1), [sound], audio_codec="aac", audio_layout="stereo")
        )
        + reader.flush()
        if u.codec == Codec.AAC
    ]
    for _ in range(3):
        assert path.convert(unit) == []
    assert [p for u in good for p in path.convert(u)]
    for _ in range(3):
        path.convert(unit)
    with pytest.raises(DecodeError, match="AAC"):
        path.convert(unit)


def test_a_codec_that_is_not_audio_is_refused() -> None:
    with pytest.raises(InvalidArgument, match="OPUS or AAC, got H264"):
        audio_path(Codec.H264, 0)
    assert OpusPassthrough(0).opus_channels == 1


def test_audio_waits_for_the_first_video_frame() -> None:
    gate = AudioGate(has_video=True)
    held = [packet(n * 0.02) for n in range(50)]
    assert [gate.on_audio(p) for p in held] == [[]] * 50
    assert gate.on_video(45_000) == held
    later = packet(1.0)
    assert gate.on_audio(later) == [later]
    assert gate.on_video(90_000) == []


def test_no_more_than_a_hundred_packets_are_held() -> None:
    gate = AudioGate(has_video=True)
    for n in range(130):
        gate.on_audio(packet(n * 0.02))
    assert [p.pts_ticks for p in gate.on_video(0)] == [n * 1800 for n in range(30, 130)]
    assert gate.num_dropped_audio == 30


def test_audio_more_than_two_seconds_before_the_video_is_dropped() -> None:
    gate = AudioGate(has_video=True)
    for n in range(50):
        gate.on_audio(packet(n * 0.1))
    sent = gate.on_video(4 * 90_000)
    assert sent[0].pts_ticks == 2 * 90_000
    assert gate.num_dropped_audio == 20


def test_a_first_audio_far_from_the_first_video_ends_the_stream() -> None:
    gate = AudioGate(has_video=True)
    gate.on_video(0)
    with pytest.raises(EncodeError, match=r"first audio is \+2\.5 s"):
        gate.on_audio(packet(2.5))


def test_video_far_behind_held_audio_is_dropped_and_too_much_of_it_ends_the_stream() -> None:
    gate = AudioGate(has_video=True)
    gate.on_audio(packet(10.0))
    assert gate.admits_video(round(8.0 * 90_000))
    assert not any(gate.admits_video(n * 3000) for n in range(100))
    with pytest.raises(EncodeError, match="100 dropped frames"):
        gate.admits_video(300_000)


def test_audio_that_stops_does_not_hold_video() -> None:
    """L21."""
    gate = AudioGate(has_video=True)
    gate.on_audio(packet(0.0))
    gate.on_video(0)
    assert all(gate.admits_video(n * 3000) for n in range(1000))
    assert all(gate.on_video(n * 3000) == [] for n in range(1000))


def test_audio_time_stamps_only_grow() -> None:
    gate = AudioGate(has_video=False)
    given = [0.0, 0.02, 0.02, 0.01, 0.04]
    sent = [p.pts_ticks for t in given for p in gate.on_audio(packet(t))]
    assert (sent, gate.num_dropped_audio) == ([0, 1800, 3600], 2)


def test_audio_alone_passes_from_the_start() -> None:
    """L13, the audio-only half."""
    gate = AudioGate(has_video=False)
    first = packet(100.0)
    assert gate.on_audio(first) == [first]


def test_wrong_limits_are_refused() -> None:
    with pytest.raises(ConfigError, match="max_skew_s must be positive"):
        AudioGateConfig(max_skew_s=0)
