"""A live session end to end: real H.264 through real channels. Checklist: live.md section 19."""

import asyncio
import io
import threading
from collections.abc import Iterator

import av
import numpy as np
import pytest
from coded_streams import h264, mux_by_ffmpeg, tone
from live_input import InputFrame, h264_input
from node_bench import KEY, NodeBench, Script, until

from lpnode.errors import DeviceError
from lpnode.session.output import Chunk, Output
from lpnode.session.stages import NUM_PICTURES
from lpnode.session.stop_reason import StopReason


@pytest.fixture
def script() -> Iterator[Script]:
    script = Script()
    yield script
    script.let_everything_go()


async def test_each_frame_is_readable_at_the_output_before_the_next_is_sent() -> None:
    """L11, L17: same PTS out as in, at once."""
    async with NodeBench().running() as bench:
        gateway = bench.start()
        frames = list(h264_input(48))
        await gateway.exchange(frames)
        gateway.input.close()
        await bench.ended()
    assert [picture.pts for picture in gateway.pictures()] == [f.pts_ticks for f in frames]


async def test_frames_that_arrive_together_all_come_back_from_an_idle_pipeline() -> None:
    """A picture that fills its last transport packet is known to end when the next one begins."""
    async with NodeBench().running() as bench:
        gateway = bench.start({"max_framerate": 60})
        frames = list(h264_input(20))
        await gateway.exchange(frames[:1])
        for first, second in zip(frames[1:-1:2], frames[2::2], strict=True):
            pair = InputFrame(first.data + second.data, first.pts_ticks, starts_segment=False)
            gateway.send(pair)
            for _ in range(2):
                assert await gateway.receive()
        gateway.input.close()
        await bench.ended()
    assert len(gateway.pictures()) == 19


async def test_frames_on_their_way_come_out_before_the_channels_close() -> None:
    """Source: live.md section 8.3."""
    frames = list(h264_input(6))
    async with NodeBench().running() as bench:
        gateway = bench.start()
        await gateway.exchange(frames[:5])
        gateway.send(frames[5])
        gateway.input.close()
        await gateway.receive_all()
        await bench.ended()
    assert [picture.pts for picture in gateway.pictures()] == [f.pts_ticks for f in frames]


async def test_opus_goes_around_the_pipeline_with_its_time_stamps() -> None:
    """L11, L21."""
    async with NodeBench().running() as bench:
        gateway = bench.start()
        reader = asyncio.create_task(gateway.receive_all())
        frames = list(h264_input(30, has_audio=True))
        for frame in frames:
            gateway.send(frame)
            await asyncio.sleep(0.01)
        gateway.input.close()
        await bench.ended()
        await reader
    with av.open(io.BytesIO(bytes(gateway.received)), format="mpegts") as container:
        packets = [(packet.stream.type, packet.pts) for packet in container.demux() if packet.size]
        kinds = sorted(stream.type for stream in container.streams)
    assert kinds == ["audio", "video"]
    audio = [pts for kind, pts in packets if kind == "audio"]
    assert audio == list(range(0, 1800 * len(audio), 1800))
    assert len(audio) >= 70


async def test_an_rtmp_style_stream_keeps_its_time_stamps_and_gets_opus() -> None:
    """L12: B-frames, AAC, a start at 1.4 s, one FFmpeg muxer."""
    video = h264(60, b_frames=2, first_ticks=126_000, gop=60, fps=20)
    sound = tone("aac", 3.0, rate=44_100, layout="stereo")
    data = mux_by_ffmpeg(
        video,
        sound,
        audio_codec="aac",
        audio_rate=44_100,
        audio_layout="stereo",
        audio_offset_ticks=126_000,
    )
    async with NodeBench().running() as bench:
        gateway = bench.start()
        segment = gateway.input.begin()
        step = len(data) // 60 // 188 * 188
        for begin in range(0, len(data), step):
            segment.write(data[begin : begin + step])
            await asyncio.sleep(0.015)
        segment.close()
        gateway.input.close()
        await gateway.receive_all()
        await bench.ended()
    sent = {packet.pts for packet in video.packets}
    pts = [picture.pts for picture in gateway.pictures()]
    assert set(pts) <= sent
    assert pts == sorted(pts)
    assert len(pts) > 30
    with av.open(io.BytesIO(bytes(gateway.received)), format="mpegts") as container:
        [opus] = container.streams.audio
        assert (opus.codec_context.name, opus.channels) in {("opus", 1), ("libopus", 1)}
        first = next(packet.pts for packet in container.demux(opus))
        assert abs(first - 126_000) < 9_000


async def test_audio_alone_is_passed_on() -> None:
    """L13."""
    async with NodeBench().running() as bench:
        gateway = bench.start()
        for frame in h264_input(40, has_audio=True, has_video=False):
            gateway.send(frame)
            await asyncio.sleep(0)
        assert await gateway.receive()
        gateway.input.close()
        await gateway.receive_all()
        await bench.ended()
    assert gateway.session.stop_reason == StopReason.INPUT_ENDED


async def test_a_backlog_is_skipped_to_the_live_edge() -> None:
    """L22: five seconds at once; the newest frame comes out, most others are never decoded."""
    frames = list(h264_input(100))
    async with NodeBench().running() as bench:
        gateway = bench.start()
        for frame in frames:
            gateway.send(frame)
        async with asyncio.timeout(20):
            while not gateway.received or gateway.pictures()[-1].pts != frames[-1].pts_ticks:
                await gateway.receive()
        assert gateway.session.vitals.input_rate.total <= 40
        gateway.input.close()
        await bench.ended()


async def test_a_frame_does_not_grow_old_waiting_for_the_encoder(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    frames = list(h264_input(12))
    may_encode = threading.Event()
    encode = Output.video

    def wait_and_encode(
        self: Output, picture: av.VideoFrame, pts_ticks: int, now_s: float
    ) -> list[Chunk]:
        may_encode.wait()
        return encode(self, picture, pts_ticks, now_s)

    monkeypatch.setattr(Output, "video", wait_and_encode)
    async with NodeBench().running() as bench:
        gateway = bench.start()
        for number, frame in enumerate(frames, 1):
            gateway.send(frame)
            await until(lambda n=number: gateway.session.vitals.input_rate.total >= n - 1)
            await asyncio.sleep(0.02)
        may_encode.set()
        async with asyncio.timeout(20):
            while not gateway.received or gateway.pictures()[-1].pts != frames[-1].pts_ticks:
                await gateway.receive()
        gateway.input.close()
        await bench.ended()
    shown = [picture.pts for picture in gateway.pictures()]
    # What the pool has room for, then the newest, and nothing that waited in between.
    assert shown == [frame.pts_ticks for frame in (*frames[:NUM_PICTURES], frames[-1])]


async def test_a_change_of_resolution_keeps_the_output_resolution() -> None:
    """L18."""
    async with NodeBench().running() as bench:
        gateway = bench.start()
        await gateway.exchange(h264_input(10))
        await gateway.exchange(h264_input(10, first_frame=10, width=360, height=640))
        gateway.input.close()
        await bench.ended()
    assert {(p.width, p.height) for p in gateway.pictures()} == {(512, 512)}
    assert len(gateway.pictures()) == 20


async def test_output_resumes_at_the_next_key_frame_after_a_truncated_segment() -> None:
    """L19."""
    async with NodeBench().running() as bench:
        gateway = bench.start()
        await gateway.exchange(h264_input(10))
        for frame in list(h264_input(10, first_frame=10))[:1]:
            gateway.input.publish(frame.data[: len(frame.data) // 2 // 188 * 188])
        await gateway.exchange(h264_input(10, first_frame=20))
        gateway.input.close()
        await bench.ended()
    assert gateway.pictures()[-1].pts == 29 * 4500
    assert gateway.session.stop_reason == StopReason.INPUT_ENDED


@pytest.mark.parametrize(
    "garbage",
    [bytes(100_000), b"\x47" * 188 * 500, np.random.default_rng(1).bytes(200_000)],
    ids=["zeros", "sync bytes", "noise"],
)
async def test_garbage_is_survived(garbage: bytes) -> None:
    async with NodeBench().running() as bench:
        gateway = bench.start()
        gateway.input.publish(garbage)
        await gateway.exchange(h264_input(5))
        gateway.input.close()
        await bench.ended()
    assert gateway.session.stop_reason == StopReason.INPUT_ENDED


@pytest.mark.parametrize("num_frames_before", [0, 5])
async def test_video_that_is_not_h264_ends_the_session_with_a_reason(
    num_frames_before: int,
) -> None:
    """From the start, or after a change of codec in mid-stream."""
    sink = io.BytesIO()
    with av.open(sink, "w", format="mpegts") as container:
        stream = container.add_stream("mpeg2video", rate=25)
        stream.width, stream.height, stream.pix_fmt = 320, 240, "yuv420p"
        picture = av.VideoFrame(320, 240, "yuv420p")
        container.mux(stream.encode(picture))
        container.mux(stream.encode(None))
    async with NodeBench().running() as bench:
        gateway = bench.start()
        await gateway.exchange(h264_input(num_frames_before))
        gateway.input.publish(sink.getvalue())
        error = await gateway.next_event("error")
        await bench.ended()
    assert "video must be H.264" in error["message"]
    assert gateway.session.stop_reason == StopReason.MEDIA_FAILED


@pytest.mark.parametrize("channel", ["input", "control", "output"])
async def test_the_end_of_a_channel_ends_the_session_and_frees_everything(channel: str) -> None:
    """L28, L35."""
    async with NodeBench().running() as bench:
        gateway = bench.start()
        await gateway.exchange(h264_input(5))
        events = asyncio.create_task(gateway.remaining_events())
        {
            "input": gateway.input.channel,
            "control": gateway.control.channel,
            "output": gateway.output.channel,
        }[channel].close()
        async with asyncio.timeout(20):
            await gateway.receive_all()
            await events
            await bench.ended()
        assert bench.capacity.idle(KEY) == 1
        assert len(bench.channels) == 0


async def test_a_session_goes_on_when_only_its_events_channel_is_closed() -> None:
    """Source: live.md section 11.2."""
    async with NodeBench().running() as bench:
        gateway = bench.start()
        gateway.events.channel.close()
        await gateway.exchange(h264_input(5))
        gateway.input.close()
        await bench.ended()
    assert gateway.session.stop_reason == StopReason.INPUT_ENDED


async def test_a_session_that_is_never_fed_stops_after_a_minute() -> None:
    """L36."""
    async with NodeBench().running() as bench:
        gateway = bench.start()
        await gateway.next_event("status")
        bench.jumped_s += 59
        await asyncio.sleep(0.1)
        assert len(bench.sessions) == 1
        bench.jumped_s += 2
        await bench.ended()
    assert gateway.session.stop_reason == StopReason.NO_INPUT


async def test_a_stream_that_stops_coming_is_reported_and_then_stopped() -> None:
    """L34, L36."""
    async with NodeBench().running() as bench:
        gateway = bench.start()
        await gateway.exchange(h264_input(5))
        await gateway.next_event("status")
        for _ in range(5):
            bench.jumped_s += 10
            assert (await gateway.next_event("status"))["state"] == "DEGRADED_INPUT"
        bench.jumped_s += 11
        await bench.ended()
    assert gateway.session.stop_reason == StopReason.NO_INPUT


async def test_input_that_resumes_after_a_pause_is_no_failure_of_the_pipeline(
    script: Script,
) -> None:
    """Between the first frame and its output the last output is old; the health check may fall
    there."""
    frames = list(h264_input(4))
    async with NodeBench(script=script).running() as bench:
        gateway = bench.start()
        await gateway.exchange(frames[:2])
        bench.jumped_s += 30
        script.may_run.clear()
        gateway.send(frames[2])
        await asyncio.sleep(0.1)
        assert len(bench.sessions) == 1
        script.may_run.set()
        await gateway.receive()
        await gateway.exchange(frames[3:])
        gateway.input.close()
        await bench.ended()
    assert gateway.session.stop_reason == StopReason.INPUT_ENDED


async def test_a_failing_frame_is_reported_and_the_next_one_goes_through(script: Script) -> None:
    """L31."""
    async with NodeBench(script=script).running() as bench:
        gateway = bench.start()
        frames = list(h264_input(6))
        await gateway.exchange(frames[:1])
        bench.jumped_s += 30
        await gateway.exchange(frames[1:3])
        script.errors.append(DeviceError("kernel failed"))
        gateway.send(frames[3])
        error = await gateway.next_event("error")
        assert (error["pipeline"], error["message"]) == (
            "noop",
            "Error processing frame: kernel failed",
        )
        while (status := await gateway.next_event("status"))["state"] != "DEGRADED_INFERENCE":
            pass
        assert status["inference_status"]["last_error"] == error["message"]
        await gateway.exchange(frames[4:])
        gateway.input.close()
        await bench.ended()
    assert frames[3].pts_ticks not in [p.pts for p in gateway.pictures()]


async def test_a_hung_pipeline_ends_the_session_at_once_and_is_restarted(script: Script) -> None:
    """L37: channels closed although a call never returns; the slot comes back, the model too."""
    frames = list(h264_input(40))
    async with NodeBench(script=script).running() as bench:
        gateway = bench.start()
        events = asyncio.create_task(gateway.remaining_events())
        await gateway.exchange(frames[:1])
        bench.jumped_s += 30
        await gateway.exchange(frames[1:3])
        script.may_run.clear()
        for frame in frames[3:]:
            gateway.send(frame)
            await asyncio.sleep(0.05)
            if gateway.output.channel.is_closed:
                break
            bench.jumped_s += 0.5
        last_output_s = gateway.session.vitals.last_output_s
        assert last_output_s is not None
        assert 5 < bench.now_s() - last_output_s < 7
        await bench.ended()
        assert gateway.session.stop_reason == StopReason.PIPELINE_FAILED
        assert [e["state"] for e in await events if e["type"] == "status"][-1] == "ERROR"
        after = bench.start()
        script.may_run.set()
        await after.exchange(frames)
        assert after.session.vitals.restart_count == 1
        after.input.close()
        await bench.ended()
