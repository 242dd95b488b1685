"""What does MPEG-TS cost at both ends of a session, against FFmpeg's through PyAV?

Reading: 2 s of 720p30 H.264 with Opus, in the pieces in which a connection delivers it. FFmpeg gets
it as one file that is already complete, which is its best case: live, it would probe and wait.
Writing: the same pictures, one by one, each available as bytes at once.
"""

import io
from collections.abc import Callable
from fractions import Fraction
from functools import cache

import av
import pytest
from coded_streams import TIME_BASE, CodedVideo, h264, opus_ticks, tone, whip_segments
from pytest_benchmark.fixture import BenchmarkFixture

from lpnode.media.transport_stream import Codec, TransportStreamReader, TransportStreamWriter

PIECE = 16_384
NUM_FRAMES = 60


@cache
def clip() -> CodedVideo:
    return h264(NUM_FRAMES, width=1280, height=720, gop=NUM_FRAMES)


@cache
def stream() -> bytes:
    return b"".join(whip_segments(clip(), tone("libopus", 2.0)))


def read_by_us(data: bytes) -> list[tuple[int, int]]:
    reader = TransportStreamReader()
    units = []
    for begin in range(0, len(data), PIECE):
        units += reader.feed(data[begin : begin + PIECE])
    return [(u.pts_ticks, len(u.payload)) for u in units if u.codec == Codec.H264]


def read_by_ffmpeg(data: bytes) -> list[tuple[int, int]]:
    with av.open(io.BytesIO(data), format="mpegts") as container:
        packets = [p for p in container.demux() if p.size]
        return [(p.pts or 0, p.size) for p in packets if p.stream.type == "video"]


@pytest.mark.benchmark(group="read 2 s of 720p30 MPEG-TS")
@pytest.mark.parametrize("read", [read_by_us, read_by_ffmpeg])
def bench_read(benchmark: BenchmarkFixture, read: Callable[[bytes], list[tuple[int, int]]]) -> None:
    pictures = benchmark(read, stream())
    assert [pts for pts, _ in pictures] == [p.pts for p in clip().packets]


def write_by_us(video: CodedVideo) -> list[bytes]:
    writer = TransportStreamWriter(opus_channels=1)
    return [writer.video(p.pts, p.dts, p, is_key=p.is_keyframe) for p in video.packets]


def write_by_ffmpeg(video: CodedVideo) -> list[bytes]:
    written: list[bytes] = []
    target = io.BytesIO()
    with av.open(target, "w", format="mpegts", options={"flush_packets": "1"}) as container:
        out = container.add_stream("libx264", rate=30)
        out.width, out.height, out.pix_fmt = video.width, video.height, "yuv420p"
        out.time_base = Fraction(TIME_BASE)
        for packet in video.packets:
            copy = av.Packet(bytes(packet))
            copy.pts, copy.dts, copy.time_base = packet.pts, packet.dts, TIME_BASE
            copy.is_keyframe, copy.stream = packet.is_keyframe, out
            container.mux(copy)
            written.append(target.getvalue())
            target.seek(0)
            target.truncate()
    return written


@pytest.mark.benchmark(group="write 60 pictures of 720p as MPEG-TS, each at once")
@pytest.mark.parametrize("write", [write_by_us, write_by_ffmpeg])
def bench_write(benchmark: BenchmarkFixture, write: Callable[[CodedVideo], list[bytes]]) -> None:
    parts = benchmark(write, clip())
    assert len(parts) == NUM_FRAMES
    assert all(parts)
    assert [pts for pts, _ in read_by_ffmpeg(b"".join(parts))] == [p.pts for p in clip().packets]


def bench_write_audio(benchmark: BenchmarkFixture) -> None:
    sound = tone("libopus", 1.0)
    writer = TransportStreamWriter(opus_channels=1)
    writer.audio(0, sound[0])  # the tables

    def write() -> list[bytes]:
        return [writer.audio(opus_ticks(packet), packet) for packet in sound]

    assert {len(part) % 188 for part in benchmark(write)} == {0}
