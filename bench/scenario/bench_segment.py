"""From segment in to segment out with ``passthrough``: 2 s of 1280x720 at 30 fps to 512x512.

Ours is a live session with its channels, threads and mailboxes, each frame published when the last
but one has come back, so that none is dropped. The usual way is what an AI runner does around its
model: FFmpeg's demuxer on the complete segment → RGBA → PIL → RGB → crop → float32 tensor → bytes
→ PIL → YUV → x264 (same preset) → FFmpeg's MPEG-TS muxer.

Times are for the whole segment; ``cpu_ms_per_frame`` is the process's CPU time, and
``first_output_ms`` is from the first input byte to the first output byte: the usual way cannot
begin before the segment is complete, which in real time is 2 s later and not counted here.
"""

import asyncio
import io
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from fractions import Fraction

import av
import numpy as np
import pytest
import torch
import uvloop
from PIL import Image
from pytest_benchmark.fixture import BenchmarkFixture

from lpnode.admission.admit import Admission
from lpnode.gateway.live_encoder import LiveEncoder
from lpnode.gateway.segment_writer import SegmentWriter
from lpnode.media.frame import TICKS_PER_SECOND
from lpnode.media.test_source import MovingPicture
from lpnode.metrics import Metrics
from lpnode.pipeline.catalog import built_in
from lpnode.protocol.ethereum import ZERO_ADDRESS
from lpnode.protocol.live_job import LiveJob
from lpnode.schedule.capacity import Capacity, ModelKey
from lpnode.schedule.local_host import LocalHost, LocalHostConfig
from lpnode.session.live import LiveConfig
from lpnode.session.live_sessions import LiveSessions
from lpnode.trickle.channels import Channels, TrickleConfig
from lpnode.trickle.local import LocalPublisher, LocalSubscriber, SegmentReader

MODEL = "passthrough"
FPS = 30
NUM_FRAMES = 2 * FPS
NUM_SEGMENTS = 4
SOURCE_SIZE = (1280, 720)
SIZE = (512, 512)
TIME_BASE = Fraction(1, TICKS_PER_SECOND)

InputSegment = list[bytes]
"""The transport packets of one frame each."""


@dataclass
class Costs:
    cpu_s: list[float] = field(default_factory=list)
    first_output_s: list[float] = field(default_factory=list)

    def report(self, benchmark: BenchmarkFixture) -> None:
        cpu_s, first_s = sorted(self.cpu_s), sorted(self.first_output_s)
        benchmark.extra_info["cpu_ms_per_frame"] = round(
            1000 * cpu_s[len(cpu_s) // 2] / NUM_FRAMES, 3
        )
        benchmark.extra_info["first_output_ms"] = round(1000 * first_s[len(first_s) // 2], 2)


@pytest.fixture(scope="module")
def segments() -> list[InputSegment]:
    """Consecutive segments of one stream, as a gateway makes them."""
    encoder = LiveEncoder(*SOURCE_SIZE, FPS)
    source = MovingPicture(*SOURCE_SIZE)
    picture = av.VideoFrame(*SOURCE_SIZE, "yuv420p")
    made = []
    for number in range(NUM_SEGMENTS):
        writer = SegmentWriter(lambda container: [encoder.add_stream(container)])
        pieces = []
        for frame in range(number * NUM_FRAMES, (number + 1) * NUM_FRAMES):
            source.draw(frame, picture)
            (packet,) = encoder.encode(picture, frame * TICKS_PER_SECOND // FPS)
            pieces.append(b"".join(p.data for p in writer.write(packet, 0, may_cut=False)))
        pieces[-1] += b"".join(p.data for p in writer.close())
        made.append(pieces)
    return made


def usual_way(segment: bytes, begun_s: float, costs: Costs) -> bytes:
    """Decodes, converts both ways and encodes one MPEG-TS segment."""
    target = io.BytesIO()
    with (
        av.open(io.BytesIO(segment), format="mpegts") as source,
        av.open(target, "w", format="mpegts", options={"flush_packets": "1"}) as output,
    ):
        stream = output.add_stream(
            "libx264", rate=FPS, options={"preset": "superfast", "tune": "zerolatency"}
        )
        assert isinstance(stream, av.VideoStream)
        stream.width, stream.height, stream.pix_fmt = *SIZE, "yuv420p"
        stream.codec_context.time_base = TIME_BASE
        stream.codec_context.thread_count = 1
        is_first = True
        for frame in source.decode(video=0):
            picture = _to_picture(_to_tensor(frame))
            picture.pts, picture.time_base = frame.pts, frame.time_base
            output.mux(stream.encode(picture))
            if is_first and target.tell():
                costs.first_output_s.append(time.perf_counter() - begun_s)
                is_first = False
        output.mux(stream.encode())
    return target.getvalue()


def _to_tensor(frame: av.VideoFrame) -> torch.Tensor:
    width, height = SIZE
    scale = max(width / frame.width, height / frame.height)
    scaled = int(frame.width * scale) // 2 * 2, int(frame.height * scale) // 2 * 2
    image = Image.fromarray(frame.reformat(*scaled, "rgba").to_ndarray()).convert("RGB")
    left, top = (scaled[0] - width) // 2, (scaled[1] - height) // 2
    image = image.crop((left, top, left + width, top + height))
    return torch.tensor(np.asarray(image).astype(np.float32) / 255.0).unsqueeze(0)


def _to_picture(tensor: torch.Tensor) -> av.VideoFrame:
    pixels = (tensor[0] * 255).byte().numpy()
    return av.VideoFrame.from_image(Image.fromarray(pixels)).reformat(format="yuv420p")


class LiveSegments:
    """One running live session, fed in step with what comes out of it."""

    def __init__(self, runner: asyncio.Runner) -> None:
        self._runner = runner
        self._channels = Channels(TrickleConfig())
        self._host = LocalHost(LocalHostConfig(models={MODEL: True}), built_in())
        self._sessions = LiveSessions(
            LiveConfig(),
            channels=self._channels,
            capacity=Capacity({ModelKey(35, MODEL): 1}),
            host=self._host,
            metrics=Metrics(node_id="bench"),
        )
        runner.run(self._start())

    async def _start(self) -> None:
        loop = asyncio.get_running_loop()
        self._tasks = [loop.create_task(self._host.run()), loop.create_task(self._sessions.run())]
        await self._host.wait_warm()
        job = LiveJob(
            model_id=MODEL,
            params={"max_framerate": 60},
            stream_id="bench",
            request_id="bench",
            received_ms=0,
        )
        with self._sessions.reserve(MODEL) as place:
            sender = Admission(sender=ZERO_ADDRESS, session_id="", manifest_id=place.manifest_id)
            name = self._sessions.start(place, job, sender).id
        self._input = LocalPublisher(self._channels.find(name))
        self._output = LocalSubscriber(self._channels.find(f"{name}-out"), 0)
        self._reader: SegmentReader = await self._output.next_segment()

    def close(self) -> None:
        self._runner.run(self._stop())

    async def _stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def process(self, frames: InputSegment, begun_s: float, costs: Costs) -> bytes:
        return self._runner.run(self._process(frames, begun_s, costs))

    async def _process(self, frames: InputSegment, begun_s: float, costs: Costs) -> bytes:
        segment = self._input.begin()
        received = []
        for number, frame in enumerate(frames):
            segment.write(frame)
            if number == 0:
                received.append(await self._next_piece())
                costs.first_output_s.append(time.perf_counter() - begun_s)
            elif number > 1:
                # Two are on their way at a time: the end of a picture that fills its last
                # transport packet shows only when the next one begins.
                received.append(await self._next_piece())
        segment.close()
        received.append(await self._next_piece())
        return b"".join(received)

    async def _next_piece(self) -> bytes:
        while not (piece := await self._reader.read()):
            self._reader = await self._output.next_segment()
        return piece


@pytest.fixture
def live() -> Iterator[LiveSegments]:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        live = LiveSegments(runner)
        yield live
        live.close()


@pytest.mark.benchmark(group="segment in to segment out, 60 frames 1280x720 to 512x512")
@pytest.mark.parametrize("way", ["lpnode", "usual"])
def bench_segment(
    benchmark: BenchmarkFixture,
    way: str,
    segments: list[InputSegment],
    live: LiveSegments,
) -> None:
    """A whole segment; every frame must come back, recognisable."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    costs = Costs()
    left = iter(segments)
    usual: Callable[[InputSegment, float, Costs], bytes] = lambda frames, begun, costs: usual_way(  # noqa: E731
        b"".join(frames), begun, costs
    )
    process = live.process if way == "lpnode" else usual

    def run() -> bytes:
        frames = next(left)
        begun_s, cpu_s = time.perf_counter(), time.process_time()
        output = process(frames, begun_s, costs)
        costs.cpu_s.append(time.process_time() - cpu_s)
        return output

    run()  # warm-up: codecs open on the first frame
    costs.cpu_s.clear()
    costs.first_output_s.clear()
    output = benchmark.pedantic(run, rounds=NUM_SEGMENTS - 1, iterations=1)
    torch.set_num_threads(threads)
    costs.report(benchmark)
    with av.open(io.BytesIO(output), format="mpegts") as container:
        frames = list(container.decode(video=0))
    assert len(frames) == NUM_FRAMES
    assert (frames[-1].width, frames[-1].height) == SIZE
