"""What does a node add to a pipeline's own time? One 1280x720 frame through noop at 512x512.

From the decoder's picture to the encoder's, threads and event loop included, against the usual way:
an executor job that makes an RGB array, scales and crops it as a tensor, and converts it back.
torch gets one thread, as it would with every core busy with a stream of its own.
"""

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import av
import numpy as np
import pytest
import torch
import torch.nn.functional as F
import uvloop
from pytest_benchmark.fixture import BenchmarkFixture

from lpnode.media.frame import Colour, Frame, Matrix
from lpnode.pipeline.catalog import built_in
from lpnode.schedule.local_host import LocalHost, LocalHostConfig

COLOUR = Colour(Matrix.BT601, is_full_range=False)
NUM_FRAMES = 5

Process = Callable[[Frame, av.VideoFrame], Coroutine[Any, Any, av.VideoFrame]]


@pytest.fixture
def runner() -> Iterator[asyncio.Runner]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        yield runner
    torch.set_num_threads(threads)


@pytest.fixture
def frame() -> Frame:
    """A smooth gradient, so that different ways of scaling agree."""
    y, x = np.mgrid[0:720, 0:1280]
    rgb = np.stack([x * 255 // 1280, y * 255 // 720, (x + y) * 255 // 2000], axis=-1)
    picture = av.VideoFrame.from_ndarray(rgb.astype(np.uint8), format="rgb24")
    return Frame(picture.reformat(format="yuv420p"), 0, COLOUR)


def hosted(runner: asyncio.Runner) -> tuple[Process, Callable[[], object]]:
    host = LocalHost(LocalHostConfig(models={"noop": True}), built_in())

    async def start() -> asyncio.Task[None]:
        running = asyncio.get_running_loop().create_task(host.run())
        await host.wait_warm()
        return running

    running = runner.run(start())
    stream = host.open_stream("noop", host.parse("noop", None))
    runner.run(stream.wait_ready())

    async def process(frame: Frame, out: av.VideoFrame) -> av.VideoFrame:
        await stream.process(frame, out, COLOUR)
        return out

    def stop() -> None:
        running.cancel()
        runner.run(_ended(running))

    return process, stop


async def _ended(running: asyncio.Task[None]) -> None:
    await asyncio.wait([running])


def executor(runner: asyncio.Runner) -> tuple[Process, Callable[[], object]]:
    threads = ThreadPoolExecutor(1)

    def convert(frame: Frame) -> av.VideoFrame:
        rgb = frame.picture.to_ndarray(format="rgb24")
        tensor = torch.from_numpy(rgb).permute(2, 0, 1)[None].float().contiguous() / 255
        scaled = F.interpolate(tensor, (512, 910), mode="bilinear")[:, :, :, 199:711]
        pixels = (scaled[0].permute(1, 2, 0) * 255).clamp(0, 255).byte().contiguous().numpy()
        return av.VideoFrame.from_ndarray(pixels, format="rgb24").reformat(format="yuv420p")

    async def process(frame: Frame, out: av.VideoFrame) -> av.VideoFrame:
        return await asyncio.get_running_loop().run_in_executor(threads, convert, frame)

    return process, threads.shutdown


@pytest.mark.benchmark(group=f"{NUM_FRAMES} frames through noop, 1280x720 to 512x512", warmup=True)
@pytest.mark.parametrize("make", [hosted, executor])
def bench_hosted_frame(
    benchmark: BenchmarkFixture,
    make: Callable[[asyncio.Runner], tuple[Process, Callable[[], object]]],
    runner: asyncio.Runner,
    frame: Frame,
) -> None:
    process, stop = make(runner)
    out = av.VideoFrame(512, 512, "yuv420p")

    async def frames() -> av.VideoFrame:
        for _ in range(NUM_FRAMES):
            shown = await process(frame, out)
        return shown

    shown = benchmark(lambda: runner.run(frames()))
    stop()
    expected = frame.picture.reformat(910, 512, interpolation="BILINEAR").to_ndarray(format="gray8")
    difference = shown.to_ndarray(format="gray8").astype(int) - expected[:, 199:711]
    assert np.abs(difference).mean() < 2
