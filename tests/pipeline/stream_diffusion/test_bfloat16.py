"""Streams whose networks compute in bfloat16 on the processor, held against float32."""

import math
from pathlib import Path

import pytest
import torch
from diffusion_studio import SIDE, MakeStudio

from lpnode.model.place import SHIPPED_MODEL
from lpnode.pipeline.open_model import DiffusionConfig
from lpnode.pipeline.pipeline import FrameJob, FrameResult
from lpnode.pipeline.stream_diffusion.offer import stream_diffusion
from lpnode.pipeline.stream_diffusion.params import StreamDiffusionParams
from lpnode.pipeline.stream_diffusion.pipeline import StreamDiffusion

NUM_FRAMES = 5
LEAST_DB = 40.0
"""PSNR of every picture, of the range from -1 to 1."""


def pictures(pipeline: StreamDiffusion, params: StreamDiffusionParams) -> torch.Tensor:
    """What becomes of a few smooth scenes, clamped as the conversion to YUV does."""
    generator = torch.Generator().manual_seed(9)
    coarse = torch.rand(NUM_FRAMES, 3, 8, 8, generator=generator) * 2 - 1
    size = (params.height, params.width)
    scenes = torch.nn.functional.interpolate(coarse, size, mode="bilinear")
    stream = pipeline.prepare(params)
    buffer = pipeline.input_buffer(params.width, params.height)
    shown = []
    for number, scene in enumerate(scenes):
        buffer[0].copy_(scene)
        (result,) = pipeline.run([FrameJob(stream, buffer[0], number)])
        if isinstance(result, FrameResult):
            shown.append(result.frame.clamp(-1.0, 1.0).clone())
    pipeline.release(stream)
    return torch.stack(shown)


def psnr_db(picture: torch.Tensor, expected: torch.Tensor) -> float:
    return 10 * math.log10(4.0 / float((picture - expected).square().mean()))


@pytest.fixture
def shipped(tmp_path: Path) -> dict[str, StreamDiffusion]:
    """The model that ships, by precision."""
    made = {}
    for precision in ("fp32", "bf16"):
        config = DiffusionConfig(
            models_dir=tmp_path, engines_dir=tmp_path, backend="torch", precision=precision
        )
        made[precision] = stream_diffusion(SHIPPED_MODEL, config)("cpu")
        made[precision].load()
    return made


@pytest.mark.parametrize("wish", [{}, {"cfg_type": "full", "guidance_scale": 1.5}], ids=str)
def test_the_model_that_ships_draws_in_bfloat16_what_it_draws_in_float32(
    shipped: dict[str, StreamDiffusion], wish: dict[str, object]
) -> None:
    drawn = {
        precision: pictures(pipeline, pipeline.parse({"prompt": "a blue star", "seed": 3, **wish}))
        for precision, pipeline in shipped.items()
    }
    assert {one.dtype for one in drawn.values()} == {torch.float32}
    assert not torch.equal(drawn["bf16"], drawn["fp32"])
    assert min(map(psnr_db, drawn["bf16"], drawn["fp32"])) > LEAST_DB
    for pipeline in shipped.values():
        pipeline.unload()


@pytest.mark.parametrize("is_tiny_vae", [True, False])
@pytest.mark.parametrize("wish", [{}, {"use_denoising_batch": False}], ids=str)
def test_bfloat16_is_near_float32_and_bit_identical_with_the_same_seed(
    make_studio: MakeStudio, is_tiny_vae: bool, wish: dict[str, object]
) -> None:
    def drawn(weights_dtype: torch.dtype) -> torch.Tensor:
        studio = make_studio(is_tiny_vae=is_tiny_vae, weights_dtype=weights_dtype)
        return pictures(studio.pipeline, studio.params(seed=3, **wish))

    expected, first = drawn(torch.float32), drawn(torch.bfloat16)
    assert first.shape == (len(first), 3, SIDE, SIDE)
    assert torch.equal(first, drawn(torch.bfloat16))
    assert min(map(psnr_db, first, expected)) > LEAST_DB
