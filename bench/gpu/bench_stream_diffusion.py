"""How long is a frame of StreamDiffusion on a GPU, and how much of the chip does it use?

Networks of SD-Turbo and SD 1.5 with random weights, TAESD, 512x512, float16; 1 and 4 steps; torch
eager, compiled, and TensorRT where it is installed, each as one CUDA graph a frame and, for eager,
without; 1 to 8 streams in one UNet call. Pictures go in and come out as YUV in page-locked memory.
Arithmetic is counted as performance.md section 3 does: 804 GFLOP a UNet row, 263 TAESD.

Goals on an H200: 280 frames per second at 1 step, 140 at 4, 450 in sum with 4 to 8 streams, p99
within 1.15 of p50, and at most 50 µs of the host's time a frame.
"""

import asyncio
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture

from lpnode.errors import NotBuilt
from lpnode.media.device_picture import PlaneLayout, page_locked_picture
from lpnode.media.frame import Colour, Frame, Matrix
from lpnode.pipeline.backend.engine_build import BuildPhase
from lpnode.pipeline.backend.engine_cache import EngineCache, EngineCacheConfig
from lpnode.pipeline.backend.networks import Networks, NetworkShapes
from lpnode.pipeline.backend.switchable_networks import SwitchableNetworks
from lpnode.pipeline.backend.torch_networks import TorchNetworks
from lpnode.pipeline.frame_runner import FrameRunner, FrameTask, Shown
from lpnode.pipeline.open_model import OpenModel
from lpnode.pipeline.stream_diffusion.pipeline import StreamDiffusion
from lpnode.pipeline.stream_diffusion.served_model import ServedModel

from .diffusion_models import SIZES, random_model

pytestmark = pytest.mark.gpu

DEVICE = torch.device("cuda", 0)
SIDE = 512
COLOUR = Colour(Matrix.BT709, is_full_range=False)
UNET_GFLOP, TAESD_GFLOP = 804.0, 263.0
NUM_WARM_UPS, NUM_FRAMES = 20, 200
STEPS = {1: [32], 4: [5, 15, 25, 40]}


def eager() -> Networks:
    return TorchNetworks(DEVICE, torch.float16)


def compiled() -> Networks:
    from lpnode.pipeline.backend.compiled_torch import CompiledTorchNetworks

    return CompiledTorchNetworks(DEVICE, torch.float16)


def tensorrt() -> Networks:
    from lpnode.pipeline.backend.tensorrt_networks import tensorrt_networks

    folder = Path(tempfile.gettempdir()) / "lpnode-bench-engines"
    return tensorrt_networks(eager(), EngineCache(EngineCacheConfig(folder=folder)))


async def until_built(networks: SwitchableNetworks) -> None:
    """Builds the engines that were asked for; minutes, unless an earlier run has built them."""
    async with asyncio.TaskGroup() as tasks:
        building = tasks.create_task(networks.run())
        ended = (BuildPhase.READY, BuildPhase.FAILED)
        while any(state.phase not in ended for state in networks.states.values()):  # noqa: ASYNC110
            await asyncio.sleep(0.2)  # the states are set by another thread
        building.cancel()
    for state in networks.states.values():
        assert state.phase is BuildPhase.READY, state.error


def make_pipeline(
    size: str, make: Callable[[], Networks], *, uses_graphs: bool, num_streams: int, num_steps: int
) -> StreamDiffusion:
    def open_model(choice: object, progress: object) -> OpenModel:
        model, networks = random_model(size, DEVICE, torch.float16), make()
        networks.load(model)
        networks.prepare(
            NetworkShapes(
                width=SIDE, height=SIDE, max_images=num_streams, max_rows=num_streams * num_steps
            )
        )
        if isinstance(networks, SwitchableNetworks):
            asyncio.run(until_built(networks))
        return OpenModel(model, networks)

    return StreamDiffusion(
        ServedModel(
            open_model=open_model,
            names=(size,),
            device="cuda:0",
            dtype=torch.float16,
            defaults={"t_index_list": STEPS[num_steps], "cfg_type": "none"},
            max_batch=num_streams,
            max_rows=num_streams * num_steps,
            uses_graphs=uses_graphs,
        )
    )


def noisy_picture(seed: int) -> Frame:
    picture = page_locked_picture(PlaneLayout(1280, 720))
    random = np.random.default_rng(seed)
    for plane in picture.planes:
        values = np.frombuffer(plane, np.uint8)
        values[:] = random.integers(16, 236, values.size, np.uint8)
    return Frame(picture, 0, COLOUR)


class Streams:
    """Several streams on one pipeline, from YUV to YUV, on the calling thread."""

    def __init__(self, pipeline: StreamDiffusion, num_streams: int) -> None:
        self._runner = FrameRunner(pipeline)
        self._runner.enter_thread()
        self._pipeline = pipeline
        pipeline.load()
        params = pipeline.parse({})
        self._states = [pipeline.prepare(params) for _ in range(num_streams)]
        self._frames = [noisy_picture(seed) for seed in range(num_streams)]
        self._pictures: list[av.VideoFrame] = [
            page_locked_picture(PlaneLayout(SIDE, SIDE)) for _ in range(num_streams)
        ]
        self._number = 0
        self.host_s: list[float] = []

    def frame(self) -> None:
        """One frame of each stream."""
        self._number += 1
        tasks = [
            FrameTask(state, Frame(frame.picture, self._number, COLOUR), picture, COLOUR)
            for state, frame, picture in zip(
                self._states, self._frames, self._pictures, strict=True
            )
        ]
        busy_s = time.thread_time()
        outcomes = self._runner.run(tasks)
        self.host_s.append(time.thread_time() - busy_s)
        assert all(outcome is None or isinstance(outcome, Shown) for outcome in outcomes), outcomes

    def close(self) -> None:
        for state in self._states:
            self._pipeline.release(state)
        self._pipeline.unload()


@pytest.fixture(scope="session")
def peak_tflops() -> float:
    """What a large float16 product reaches on this chip."""
    a = torch.randn(8192, 8192, dtype=torch.float16, device=DEVICE)
    for _ in range(3):
        a @ a
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    begin.record()
    for _ in range(10):
        a @ a
    end.record()
    end.synchronize()
    return 10 * 2 * 8192**3 / (begin.elapsed_time(end) * 1e-3) / 1e12


BACKENDS: dict[str, tuple[Callable[[], Networks], bool]] = {
    "eager": (eager, False),
    "eager, one graph": (eager, True),
    "compiled, one graph": (compiled, True),
    "TensorRT, one graph": (tensorrt, True),
}


@pytest.fixture(autouse=True)
def own_stream() -> Iterator[None]:
    with torch.cuda.stream(torch.cuda.Stream()):
        yield
    torch.cuda.synchronize()
    torch.cuda.empty_cache()


@pytest.mark.parametrize("num_streams", [1, 2, 4, 8])
@pytest.mark.parametrize("num_steps", list(STEPS))
@pytest.mark.parametrize("backend", list(BACKENDS))
@pytest.mark.parametrize("size", SIZES)
def bench_frame(
    benchmark: BenchmarkFixture,
    peak_tflops: float,
    size: str,
    backend: str,
    num_steps: int,
    num_streams: int,
) -> None:
    benchmark.group = f"{size}, {num_steps} steps, {num_streams} streams"
    make, uses_graphs = BACKENDS[backend]
    torch.cuda.reset_peak_memory_stats()
    try:
        pipeline = make_pipeline(
            size, make, uses_graphs=uses_graphs, num_streams=num_streams, num_steps=num_steps
        )
        streams = Streams(pipeline, num_streams)
    except NotBuilt as error:
        pytest.skip(str(error))
    for _ in range(NUM_WARM_UPS):
        streams.frame()
    streams.host_s.clear()
    taken_s = []
    for _ in range(NUM_FRAMES):
        began_s = time.perf_counter()
        streams.frame()
        taken_s.append(time.perf_counter() - began_s)
    p50, p99 = np.percentile(taken_s, [50, 99])
    gflop = num_streams * (num_steps * UNET_GFLOP + TAESD_GFLOP)
    benchmark.extra_info |= {
        "device": torch.cuda.get_device_name(DEVICE),
        "weights": "random",
        "p50_ms": round(p50 * 1e3, 3),
        "p99_ms": round(p99 * 1e3, 3),
        "frames_per_second": round(num_streams / p50, 1),
        "host_us_a_frame": round(float(np.median(streams.host_s)) * 1e6 / num_streams, 1),
        "share_of_measured_peak": round(gflop / p50 / 1e3 / peak_tflops, 3),
        "measured_peak_tflops": round(peak_tflops, 1),
        "vram_mib": torch.cuda.max_memory_allocated() >> 20,
    }
    benchmark.pedantic(streams.frame, rounds=20)
    streams.close()
