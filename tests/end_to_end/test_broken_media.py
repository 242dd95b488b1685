"""Input that is broken or changes in mid-stream, published to a whole node over the network."""

import asyncio
import contextlib
import io
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import pytest
from broken_streams import BROKEN
from coded_streams import h264, mux_by_ffmpeg, tone, whip_segments
from end_to_end.clients import http1_tls
from end_to_end.gateway_peer import Job, live_job, run_good_session
from end_to_end.whole_node import SLOTS, until, whole_node
from live_input import InputFrame, h264_input

from lpnode.errors import ChannelError, PeerGone
from lpnode.media.decoder import VideoDecoder
from lpnode.node import Node
from lpnode.protocol.live_job import channel_names

TICKS_A_FRAME = 4500


def few_frames(count: int, first_frame: int = 0, **options: object) -> Iterator[InputFrame]:
    options = {"width": 320, "height": 240} | options
    return h264_input(count, first_frame=first_frame, **options)


def sizes(job: Job) -> set[tuple[int, int]]:
    """Of all pictures that came back, decoded."""
    decoder = VideoDecoder()
    frames = [frame for unit in job.video for frame in decoder.decode(unit)]
    assert len(frames) + len(decoder.flush()) == len(job.video)
    return {(frame.width, frame.height) for frame in frames}


async def test_a_change_of_resolution_goes_on_in_the_same_output_size(tmp_path: Path) -> None:
    async with whole_node(tmp_path) as node:
        async with live_job(node.service_uri) as job:
            at = 0
            for width, height in [(320, 240), (640, 360), (240, 320), (1280, 720), (130, 98)]:
                await job.exchange(few_frames(4, at, width=width, height=height))
                at += 4
            await job.stop()
        assert job.pts == [number * TICKS_A_FRAME for number in range(at)]
        assert sizes(job) == {(512, 512)}
        assert not job.events_of("error")
        await run_good_session(node.service_uri)


async def test_audio_may_come_and_go(tmp_path: Path) -> None:
    async with whole_node(tmp_path) as node:
        async with live_job(node.service_uri) as job:
            for at, has_audio in ((0, False), (10, True), (20, False), (30, True)):
                await job.exchange(few_frames(10, at, has_audio=has_audio))
            await job.stop()
        assert job.pts == [number * TICKS_A_FRAME for number in range(40)]
        spoken = {unit.pts_ticks // (10 * TICKS_A_FRAME) for unit in job.audio}
        assert spoken == {1, 3}
        assert not job.events_of("error")


def ffmpeg_segment(codec: str, at_s: float, *, num_frames: int = 20) -> bytes:
    """A second of video of any codec by FFmpeg, or of silence if ``codec`` is one for audio."""
    if codec == "aac":
        return mux_by_ffmpeg(
            None, tone("aac", 1.0), audio_codec="aac", audio_offset_ticks=round(at_s * 90_000)
        )
    sink = io.BytesIO()
    with av.open(sink, "w", format="mpegts") as container:
        stream = container.add_stream(codec, rate=20)
        stream.width, stream.height, stream.pix_fmt = 320, 240, "yuv420p"
        stream.time_base = Fraction(1, 90_000)
        if codec == "libx265":
            stream.options = {"x265-params": "log-level=none:bframes=0", "preset": "ultrafast"}
        for number in range(num_frames):
            picture = av.VideoFrame(320, 240, "yuv420p")
            picture.pts = round(at_s * 90_000) + number * TICKS_A_FRAME
            picture.time_base = Fraction(1, 90_000)
            container.mux(stream.encode(picture))
        container.mux(stream.encode(None))
    return sink.getvalue()


@pytest.mark.parametrize("codec", ["libx265", "mpeg2video"])
async def test_another_video_codec_in_mid_stream_is_a_clear_end(tmp_path: Path, codec: str) -> None:
    if codec not in av.codecs_available:
        pytest.skip(f"this FFmpeg cannot encode with {codec}")
    async with whole_node(tmp_path) as node:
        async with live_job(node.service_uri) as job:
            await job.event("status")
            await job.exchange(few_frames(5))
            await job.publish(ffmpeg_segment(codec, 0.25))
            await job.ended()
        assert "H.264" in job.events_of("error")[-1]["message"]
        assert len(job.pts) == 5
        await node.sessions.wait_ended()
        await run_good_session(node.service_uri)


async def test_another_video_codec_from_the_start_is_told_before_the_end(tmp_path: Path) -> None:
    """Sooner than events go out otherwise."""
    async with whole_node(tmp_path) as node:
        async with live_job(node.service_uri) as job:
            events = node.channels.find(channel_names(job.answer.manifest_id).events)
            await until(lambda: events.num_subscribers > 0)
            await job.publish(ffmpeg_segment("mpeg2video", 0))
            await job.ended()
        assert job.events[0]["type"] == "error"
        assert "H.264" in job.events[0]["message"]
        await run_good_session(node.service_uri)


async def test_a_second_of_audio_alone_in_mid_stream_is_passed_over(tmp_path: Path) -> None:
    async with whole_node(tmp_path) as node:
        async with live_job(node.service_uri) as job:
            await job.exchange(few_frames(20))
            await job.publish(ffmpeg_segment("aac", 1.0))
            await job.exchange(few_frames(20, 40))
            await job.stop()
        assert job.pts == [n * TICKS_A_FRAME for n in (*range(20), *range(40, 60))]
        assert not job.events_of("error")


async def test_a_lost_segment_and_a_cut_one_are_gaps_and_no_more(tmp_path: Path) -> None:
    """L19."""
    async with whole_node(tmp_path) as node:
        async with live_job(node.service_uri) as job:
            await job.exchange(few_frames(10))
            # Frames 10 to 19 never arrive; of 20 to 29 the second half breaks off in a packet.
            cut = [frame.data for frame in few_frames(10, 20)]
            data = b"".join(cut[:5]) + cut[5][: len(cut[5]) // 2]
            await job.publish(data)
            await job.exchange(few_frames(10, 30))
            await job.stop()
        numbers = [pts // TICKS_A_FRAME for pts in job.pts]
        assert numbers[:10] == list(range(10))
        assert numbers[-10:] == list(range(30, 40))
        assert numbers == sorted(set(numbers))


async def test_a_segment_whose_publisher_dies_is_followed_by_the_next(tmp_path: Path) -> None:
    async with whole_node(tmp_path) as node:
        async with live_job(node.service_uri) as job:
            await job.exchange(few_frames(5))
            await job.end_segment()
            _, writer = await asyncio.open_connection(
                "127.0.0.1", node.listener.port, ssl=http1_tls()
            )
            manifest = job.answer.manifest_id
            writer.write(
                f"POST /ai/trickle/{manifest}/1 HTTP/1.1\r\nHost: node\r\n"
                "Content-Type: video/MP2T\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
            )
            for frame in few_frames(3, 5):
                writer.write(b"%x\r\n%b\r\n" % (len(frame.data), frame.data))
            await until(lambda: len(job.pts) >= 7)
            writer.transport.abort()
            await job.exchange(few_frames(5, 8))
            await job.stop()
        assert job.pts[-1] == 12 * TICKS_A_FRAME


async def goes_on(job: Job) -> bool:
    """Publishes good video, well after all damage, until some of it comes back or the job ends."""
    at, good = 400, set[int]()
    while not good & set(job.pts):
        if job.has_output_ended:
            return False
        with contextlib.suppress(ChannelError, PeerGone):
            good.update(await job.send(few_frames(2, at)))
        at += 2
        await asyncio.sleep(0.02)
    return True


async def test_every_broken_stream_ends_clearly_or_goes_on(tmp_path: Path) -> None:
    """Good video, then the damaged one, then good video again; a job that ends says why."""
    segments = whip_segments(h264(60, gop=20))
    slots = asyncio.Semaphore(SLOTS)

    async def try_damage(node: Node, name: str) -> None:
        async with slots:
            async with live_job(node.service_uri) as job:
                # What a job says in the instant of its start and end is not read by anybody.
                await job.event("status")
                await job.exchange(few_frames(2))
                await job.publish(BROKEN[name](segments))
                async with asyncio.timeout(20):
                    has_gone_on = await goes_on(job)
                if has_gone_on:
                    await job.stop()
                else:
                    await job.ended()
                    assert job.events_of("error"), name
            await until(lambda: job.answer.manifest_id not in node.channels)

    async with whole_node(tmp_path) as node:
        async with asyncio.TaskGroup() as tasks:
            for name in BROKEN:
                tasks.create_task(try_damage(node, name), name=name)
        await node.sessions.wait_ended()
        await run_good_session(node.service_uri)


async def test_time_may_jump_ahead_once_or_for_good(tmp_path: Path) -> None:
    far = 200_000
    async with whole_node(tmp_path) as node:
        async with live_job(node.service_uri) as job:
            await job.exchange(few_frames(3))
            await job.send(few_frames(1, far))
            await job.exchange(few_frames(3, 3))
            await job.send(few_frames(1, far))
            await job.exchange(few_frames(3, far + 1))
            await job.stop()
        assert job.pts == [n * TICKS_A_FRAME for n in (*range(6), *range(far + 1, far + 4))]
        assert not job.events_of("error")


async def test_time_that_goes_back_for_good_is_no_input(tmp_path: Path) -> None:
    """Times of the output only grow, and are those of the input: such a job can only end."""
    async with whole_node(tmp_path, live_input_timeout_s=2.0) as node:
        async with live_job(node.service_uri) as job:
            await job.exchange(few_frames(3, 300))
            at = 0
            while not job.has_output_ended:
                with contextlib.suppress(ChannelError, PeerGone):
                    await job.send(few_frames(1, at))
                at += 1
                await asyncio.sleep(0.05)
        await node.sessions.wait_ended()
        assert len(job.pts) == 3
        await run_good_session(node.service_uri)
