"""What does a frame of the shipped model cost on the processor, and what do streams save together?

A frame against the loop that StreamDiffusion is in short: the same modules of diffusers, called one
after the other, with equal pictures. Several streams in one UNet call against the same
streams one after the other. Two steps a frame, 128x128, every core; float32, and torch in bfloat16
beside it.
"""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture

from lpnode.model.diffusers_folder import load_folder
from lpnode.model.diffusion_model import Prediction
from lpnode.model.place import SHIPPED_FOLDER, SHIPPED_MODEL
from lpnode.pipeline.open_model import DiffusionConfig
from lpnode.pipeline.pipeline import FrameJob, FrameResult, StreamState
from lpnode.pipeline.stream_diffusion.offer import stream_diffusion
from lpnode.pipeline.stream_diffusion.pipeline import StreamDiffusion
from lpnode.pipeline.stream_diffusion.schedule import StepCoefficients
from lpnode.pipeline.stream_diffusion.stream import init_noise

SIDE = 128
WISH = {"prompt": "a red circle", "t_index_list": [16, 32], "seed": 5, "cfg_type": "none"}
NUM_FRAMES = 4
ALL_THREADS = torch.get_num_threads()
"""A backend that is not torch's leaves torch but one."""

Frame = Callable[[torch.Tensor], torch.Tensor]


def scenes(count: int) -> list[torch.Tensor]:
    """Smooth pictures in [-1, 1]."""
    generator = torch.Generator().manual_seed(9)
    coarse = torch.rand(count, 3, 8, 8, generator=generator) * 2 - 1
    fine = torch.nn.functional.interpolate(coarse, (SIDE, SIDE), mode="bilinear")
    return list(fine.contiguous())


@pytest.fixture(scope="module")
def engines(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("engines")


@pytest.fixture(params=["auto", "torch", "torch bf16"])
def pipeline(request: pytest.FixtureRequest, engines: Path) -> Iterator[StreamDiffusion]:
    backend, _, precision = request.param.partition(" ")
    config = DiffusionConfig(
        models_dir=engines, engines_dir=engines, backend=backend, precision=precision or "auto"
    )
    torch.set_num_threads(ALL_THREADS)
    made = stream_diffusion(SHIPPED_MODEL, config)("cpu")
    made.load()
    made.warm(made.parse(WISH))
    yield made
    made.unload()


def ours(pipeline: StreamDiffusion) -> Frame:
    stream = pipeline.prepare(pipeline.parse(WISH))
    buffer = pipeline.input_buffer(SIDE, SIDE)
    numbers = iter(range(10**9))

    def frame(image: torch.Tensor) -> torch.Tensor:
        buffer[0].copy_(image)
        (result,) = pipeline.run([FrameJob(stream, buffer[0], next(numbers))])
        return result.frame if isinstance(result, FrameResult) else image

    return frame


def straight_loop(pipeline: StreamDiffusion) -> Frame:
    """Modules, coefficients and a buffer of latents, as one would write it down first."""
    params = pipeline.parse(WISH)
    model = load_folder(SHIPPED_FOLDER, name="shapes")
    assert model.traits.prediction is Prediction.V
    k = StepCoefficients.of(
        params.t_index_list, params.num_inference_steps, is_one_step_turbo=False
    )
    a, b, timesteps = (t.float().view(-1, 1, 1, 1) for t in (k.a, k.b, k.timesteps))
    tokens = model.prompt_encoder.encode(["a red circle"]).tokens.repeat(len(a), 1, 1)
    group = pipeline._group(params)
    noise = init_noise(params, group.key.shape)
    carried = torch.zeros(1, *group.key.shape.latent)

    @torch.inference_mode()
    def frame(image: torch.Tensor) -> torch.Tensor:
        nonlocal carried
        latents = model.vae.encode(image[None]).latents  # type: ignore[operator]
        x = torch.cat([a[:1] * latents + b[:1] * noise[:1], carried])
        velocity = model.unet(x, timesteps.flatten(), tokens).sample
        clean = a * x - b * velocity
        carried = a[1:] * clean[:-1] + b[1:] * noise[1:]
        return model.vae.decode(clean[-1:]).sample[0]  # type: ignore[operator,no-any-return]

    return frame


@pytest.mark.benchmark(group="one frame, two steps, 128x128", warmup=True)
@pytest.mark.parametrize("make", [ours, straight_loop])
def bench_frame(
    benchmark: BenchmarkFixture,
    request: pytest.FixtureRequest,
    pipeline: StreamDiffusion,
    make: Callable[[StreamDiffusion], Frame],
) -> None:
    pictures = scenes(NUM_FRAMES)
    frame, reference = make(pipeline), straight_loop(pipeline)
    for _ in range(2):
        for image in pictures:
            got, expected = frame(image).clone(), reference(image)
    # The consistency step's c_skip of 5e-9 is what the loop leaves out; bfloat16 has eight bits.
    is_rounded = "bf16" in request.node.callspec.params["pipeline"]
    torch.testing.assert_close(got, expected, rtol=0, atol=0.1 if is_rounded else 2e-3)
    if make is straight_loop:
        torch.set_num_threads(ALL_THREADS)
    benchmark(frame, pictures[0])


def together(pipeline: StreamDiffusion, jobs: list[FrameJob]) -> None:
    pipeline.run(jobs)


def in_turn(pipeline: StreamDiffusion, jobs: list[FrameJob]) -> None:
    for job in jobs:
        pipeline.run([job])


@pytest.mark.benchmark(group="one frame of each of several streams", warmup=True)
@pytest.mark.parametrize("run", [together, in_turn])
@pytest.mark.parametrize("num_streams", [2, 4, 8])
def bench_streams(
    benchmark: BenchmarkFixture,
    pipeline: StreamDiffusion,
    num_streams: int,
    run: Callable[[StreamDiffusion, list[FrameJob]], None],
) -> None:
    streams: list[StreamState] = [
        pipeline.prepare(pipeline.parse({**WISH, "seed": seed})) for seed in range(num_streams)
    ]
    buffer = pipeline.input_buffer(SIDE, SIDE)
    for row, image in enumerate(scenes(num_streams)):
        buffer[row].copy_(image)
    jobs = [FrameJob(stream, buffer[row], 0) for row, stream in enumerate(streams)]
    run(pipeline, jobs)
    benchmark.extra_info["num_streams"] = num_streams
    benchmark(run, pipeline, jobs)
    # The first of two more frames is what comes out with the second, two steps being in flight.
    for pts_ticks in (1, 2):
        later = [FrameJob(job.state, job.frame, pts_ticks) for job in jobs]
        results = pipeline.run(later)
    for result in results:
        assert isinstance(result, FrameResult)
        assert result.pts_ticks == 1
        assert result.frame.isfinite().all()
    for stream in streams:
        pipeline.release(stream)
