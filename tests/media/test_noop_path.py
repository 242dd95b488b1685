"""The whole media path without a network: bytes in, pictures through, bytes out (live.md 4)."""

import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import av
import numpy as np
import pytest
from coded_streams import CodedVideo, h264, mux_by_ffmpeg, opus_ticks, tone, whip_segments

from lpnode.media.audio import AudioPacket, AudioPath, audio_path
from lpnode.media.audio_gate import AudioGate
from lpnode.media.decoder import VideoDecoder, colour_of
from lpnode.media.encoder import EncoderConfig, VideoEncoder
from lpnode.media.frame import Frame
from lpnode.media.pacing import FramePacer
from lpnode.media.segmenter import Segmenter
from lpnode.media.test_source import MovingPicture, read_mark
from lpnode.media.transport_stream import (
    AccessUnit,
    Codec,
    TransportStreamReader,
    TransportStreamWriter,
)


@dataclass
class NoopPath:
    """Every stage in a row, one access unit at a time; the picture is scaled by FFmpeg."""

    width: int = 256
    height: int = 256
    reader: TransportStreamReader = field(default_factory=TransportStreamReader)
    decoder: VideoDecoder = field(default_factory=VideoDecoder)
    pacer: FramePacer = field(default_factory=FramePacer)
    segmenter: Segmenter = field(default_factory=Segmenter)
    segments: list[bytes] = field(default_factory=list)
    audio: AudioPath | None = None
    gate: AudioGate | None = None
    writer: TransportStreamWriter | None = None

    def __post_init__(self) -> None:
        self.encoder = VideoEncoder(EncoderConfig(width=self.width, height=self.height))

    def take(self, data: bytes) -> bytes:
        """Feeds ``data``; returns what is written at once."""
        return b"".join(self._on_unit(unit) for unit in self.reader.feed(data))

    def finish(self) -> None:
        """Ends the input."""
        for unit in self.reader.flush():
            self._on_unit(unit)
        self._on_frames(self.decoder.flush())

    def _on_unit(self, unit: AccessUnit) -> bytes:
        if self.writer is None:
            codec = self.reader.audio_codec
            self.audio = audio_path(codec, self.reader.opus_channels) if codec else None
            self.gate = AudioGate(has_video=bool(self.reader.has_video))
            self.writer = TransportStreamWriter(
                has_video=bool(self.reader.has_video),
                opus_channels=self.audio.opus_channels if self.audio else 0,
            )
        if unit.codec == Codec.H264:
            return self._on_frames(self.decoder.decode(unit))
        assert self.audio is not None
        assert self.gate is not None
        packets = [p for a in self.audio.convert(unit) for p in self.gate.on_audio(a)]
        return self._write_audio(packets)

    def _on_frames(self, frames: Sequence[Frame]) -> bytes:
        written = b""
        for frame in frames:
            if self.pacer.keeps(frame.pts_ticks):
                written += self._on_picture(frame)
        return written

    def _on_picture(self, frame: Frame) -> bytes:
        assert self.gate is not None
        assert self.writer is not None
        if not self.gate.admits_video(frame.pts_ticks):
            return b""
        picture = frame.picture.reformat(self.width, self.height, format="yuv420p")
        written = b""
        for packet in self.encoder.encode(picture, frame.pts_ticks, frame.colour):
            if self.segmenter.begins_segment(packet.pts_ticks, is_key=packet.is_key):
                self.segments.append(b"")
            data = self.writer.video(
                packet.pts_ticks, packet.dts_ticks, packet.payload, is_key=packet.is_key
            )
            self.segments[-1] += data
            written += data + self._write_audio(self.gate.on_video(packet.pts_ticks))
        return written

    def _write_audio(self, packets: Iterable[AudioPacket]) -> bytes:
        assert self.writer is not None
        written = b""
        for packet in packets:
            data = self.writer.audio(packet.pts_ticks, packet.payload)
            if not self.segments:
                self.segments.append(b"")
            self.segments[-1] += data
            written += data
        return written


def units_of(path: NoopPath, codec: Codec) -> list[AccessUnit]:
    reader = TransportStreamReader()
    units = reader.feed(b"".join(path.segments)) + reader.flush()
    return [unit for unit in units if unit.codec == codec]


def run(data: bytes, *, step: int = 1316, size: tuple[int, int] = (256, 256)) -> NoopPath:
    path = NoopPath(*size)
    for begin in range(0, len(data), step):
        path.take(data[begin : begin + step])
    path.finish()
    return path


def paced(video: CodedVideo) -> list[int]:
    pacer = FramePacer()
    return [t for t in sorted(p.pts for p in video.packets) if pacer.keeps(t)]


def test_whip_input_keeps_every_time_stamp_and_its_opus() -> None:
    """L11."""
    video, sound = h264(150, gop=60), tone("libopus", 4.9)
    path = run(b"".join(whip_segments(video, sound)))
    assert [u.pts_ticks for u in units_of(path, Codec.H264)] == paced(video)
    opus = units_of(path, Codec.OPUS)
    assert [bytes(u.payload) for u in opus] == [bytes(p) for p in sound[: len(opus)]]
    assert [u.pts_ticks for u in opus] == [opus_ticks(p) for p in sound[: len(opus)]]
    assert len(opus) > 240


def test_rtmp_input_keeps_its_time_stamps_and_gets_opus() -> None:
    """L12."""
    video = h264(96, fps=24, gop=48, b_frames=2, first_ticks=126_000)
    sound = tone("aac", 3.9, layout="stereo")
    data = mux_by_ffmpeg(
        video,
        sound,
        audio_codec="aac",
        audio_layout="stereo",
        audio_offset_ticks=126_000,
    )
    path = run(data)
    assert [u.pts_ticks for u in units_of(path, Codec.H264)] == paced(video)
    with av.open(io.BytesIO(b"".join(path.segments))) as container:
        (stream,) = container.streams.audio
        assert stream.codec_context.name in ("opus", "libopus")
        assert stream.layout.name == "mono"
    assert {int(d) for d in np.diff([u.pts_ticks for u in units_of(path, Codec.OPUS)])} == {1800}


def test_video_alone_gives_a_map_without_audio() -> None:
    """L13."""
    path = run(b"".join(whip_segments(h264(30))))
    with av.open(io.BytesIO(b"".join(path.segments))) as container:
        assert [s.type for s in container.streams] == ["video"]


def test_audio_alone_passes_through() -> None:
    """L13."""
    sound = tone("libopus", 1.0)
    writer = TransportStreamWriter(has_video=False, opus_channels=1)
    path = run(b"".join(writer.audio(opus_ticks(p), p) for p in sound))
    assert [bytes(u.payload) for u in units_of(path, Codec.OPUS)] == [bytes(p) for p in sound]


def test_sixty_frames_a_second_leave_as_twenty_four() -> None:
    """L14."""
    video = h264(180, fps=60)
    path = run(b"".join(whip_segments(video)))
    stamps = [u.pts_ticks for u in units_of(path, Codec.H264)]
    assert stamps == paced(video)
    assert len(stamps) == 72


def test_each_segment_can_be_decoded_alone_and_lasts_two_seconds() -> None:
    """L16."""
    video = h264(270, gop=45)
    path = run(b"".join(whip_segments(video)))
    starts = []
    for segment in path.segments:
        pids = [int.from_bytes(segment[i + 1 : i + 3], "big") & 0x1FFF for i in (0, 188, 376)]
        assert pids == [0, 0x1000, 0x100]
        reader, decoder = TransportStreamReader(), VideoDecoder()
        units = reader.feed(segment) + reader.flush()
        assert units[0].is_random_access
        frames = [f for u in units for f in decoder.decode(u)]
        assert len(frames) == len(units)
        starts.append(frames[0].pts_ticks / 90_000)
    assert np.diff(starts) == pytest.approx(2.0, abs=1 / 24)


@pytest.mark.parametrize("is_by_ffmpeg", [True, False], ids=["ffmpeg muxer", "own muxer"])
def test_a_frame_leaves_before_the_next_one_comes(is_by_ffmpeg: bool) -> None:
    """L17: without the next frame, the end of the segment, or a time-out."""
    video = h264(24, fps=20)
    data = mux_by_ffmpeg(video) if is_by_ffmpeg else b"".join(whip_segments(video))
    begins = [i for i in range(0, len(data), 188) if data[i + 1 : i + 3] == b"\x41\x00"]
    path = NoopPath()
    path.take(data[: begins[0]])
    for packet, begin, end in zip(video.packets, begins, [*begins[1:], len(data)], strict=True):
        written = path.take(data[begin:end])
        (unit,) = TransportStreamReader().feed(path.segments[0][: 2 * 188] + written)
        assert unit.pts_ticks == packet.pts


def test_a_new_input_size_keeps_the_output_size() -> None:
    """L18."""
    small = h264(48, fps=20, gop=24)
    large = h264(48, fps=20, gop=24, width=640, height=360, first_ticks=48 * 4500)
    path = run(b"".join(whip_segments(small) + whip_segments(large)))
    decoder = VideoDecoder()
    frames = [f for u in units_of(path, Codec.H264) for f in decoder.decode(u)]
    assert {(f.width, f.height) for f in frames} == {(256, 256)}
    assert len(frames) == 96


def test_time_stamps_survive_the_wrap() -> None:
    """L20."""
    first = 2**33 - 36 * 4500
    video = h264(72, fps=20, gop=24, first_ticks=first)
    sound = tone("libopus", 2.0)
    path = run(b"".join(whip_segments(video, sound, first_ticks=first)))
    assert [u.pts_ticks for u in units_of(path, Codec.H264)] == [p.pts for p in video.packets]
    audio = [u.pts_ticks for u in units_of(path, Codec.OPUS)]
    assert audio == [first + opus_ticks(p) for p in sound[: len(audio)]]
    assert len(audio) > 90


def test_video_goes_on_when_audio_stops() -> None:
    """L21: every frame still leaves at once."""
    video, sound = h264(96, fps=20, gop=48), tone("libopus", 1.0)
    path = run(b"".join(whip_segments(video, sound)))
    assert len(units_of(path, Codec.H264)) == 96
    assert len(units_of(path, Codec.OPUS)) == len(sound)


def test_the_mark_of_the_test_picture_can_be_read_at_the_far_end() -> None:
    source = MovingPicture(512, 512)
    encoder = VideoEncoder(EncoderConfig(width=512, height=512))
    writer, path = TransportStreamWriter(), NoopPath(512, 512)
    picture = encoder.picture()
    for n in range(30):
        source.draw(1000 + n, picture)
        for p in encoder.encode(picture, n * 4500, colour_of(picture)):
            path.take(writer.video(p.pts_ticks, p.dts_ticks, p.payload, is_key=p.is_key))
    path.finish()
    decoder = VideoDecoder()
    frames = [f for u in units_of(path, Codec.H264) for f in decoder.decode(u)]
    assert [read_mark(f.picture) for f in frames] == list(range(1000, 1030))
