"""A file as live input: what its segments look like to FFmpeg."""

import asyncio
import io
from pathlib import Path

import av
import pytest
from video_files import write_video

from lpnode.errors import ConfigError
from lpnode.gateway.file_input import FileInput
from lpnode.gateway.latency import LatencyMeter
from lpnode.gateway.media_input import feed
from lpnode.gateway.segment_writer import SegmentPiece, SegmentWriter
from lpnode.session.mailbox import LosslessMailbox


def drained(media: FileInput) -> tuple[list[bytes], list[int]]:
    """Runs the input without waiting. Returns its segments, and the keys of its frames."""
    pieces: list[SegmentPiece] = []
    keys = []
    while (step := media.prepare(0.0)) is not None:
        if step.key is not None:
            keys.append(step.key)
        pieces += media.produce()
    pieces += media.finish()
    segments: list[bytes] = []
    for piece in pieces:
        if piece.begins_segment:
            segments.append(b"")
        segments[-1] += piece.data
    return segments, keys


def video_times(segment: bytes) -> list[int]:
    with av.open(io.BytesIO(segment), format="mpegts") as container:
        return [frame.pts for frame in container.decode(video=0) if frame.pts is not None]


def test_h264_goes_through_as_it_is_with_its_times_and_sound(tmp_path: Path) -> None:
    write_video(tmp_path / "clip.mp4", "libx264", with_sound=True)
    segments, keys = drained(FileInput(tmp_path / "clip.mp4"))
    assert sorted(keys) == [number * 3000 for number in range(90)]
    assert [segment[0] for segment in segments] == [0x47] * len(segments)
    times = [time for segment in segments for time in video_times(segment)]
    assert sorted(times) == sorted(keys)
    with av.open(io.BytesIO(segments[0]), format="mpegts") as container:
        assert [stream.codec_context.name for stream in container.streams] == ["h264", "aac"]


def test_another_codec_is_encoded_as_h264_without_b_frames(tmp_path: Path) -> None:
    write_video(tmp_path / "clip.avi", "mpeg4")
    segments, keys = drained(FileInput(tmp_path / "clip.avi"))
    assert keys == [number * 3000 for number in range(90)]
    assert [time for segment in segments for time in video_times(segment)] == keys


def test_a_segment_is_cut_at_a_key_frame_after_a_second_on_both_clocks(tmp_path: Path) -> None:
    write_video(tmp_path / "clip.mp4", "libx264")
    now_s = 0.0
    media = FileInput(tmp_path / "clip.mp4")
    writer = media._writer = SegmentWriter(media._add_streams, clock=lambda: now_s)
    lengths: list[int] = []
    while (step := media.prepare(0.0)) is not None:
        now_s = step.due_s
        for piece in media.produce():
            lengths += [0] if piece.begins_segment else []
        lengths[-1] += 1
    assert writer.close() == []
    assert lengths == [30, 30, 30]


def test_a_file_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be opened"):
        FileInput(tmp_path / "none.mp4")
    (tmp_path / "text.mp4").write_text("not a video")
    with pytest.raises(ConfigError, match="cannot be opened"):
        FileInput(tmp_path / "text.mp4")


async def test_feeding_stops_in_the_middle_and_ends_the_segment(tmp_path: Path) -> None:
    write_video(tmp_path / "clip.mp4", "libx264", num_frames=300)
    out: LosslessMailbox[SegmentPiece] = LosslessMailbox(1000)
    stopping = asyncio.Event()
    meter = LatencyMeter()
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(feed(FileInput(tmp_path / "clip.mp4"), out, meter, stopping))
        first = await out.get()
        stopping.set()
        rest = [piece async for piece in out]
    assert first is not None
    assert first.begins_segment
    assert meter.sent < 100
    assert len(rest) < 100
