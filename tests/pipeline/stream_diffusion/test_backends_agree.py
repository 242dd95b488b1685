"""What streams show by each backend and precision, held against float32 in torch."""

import math
from pathlib import Path

import pytest
import torch
from diffusion_studio import MakeStudio
from tiny_diffusion_models import SIDE

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


def shipped(
    folder: Path, *, backend: str = "torch", precision: str = "auto", device: str = "cpu"
) -> StreamDiffusion:
    """The model that ships, loaded."""
    config = DiffusionConfig(
        models_dir=folder, engines_dir=folder, backend=backend, precision=precision
    )
    pipeline = stream_diffusion(SHIPPED_MODEL, config)(device)
    pipeline.load()
    return pipeline


@pytest.mark.parametrize(
    ("backend", "precision", "device", "least_db", "largest_error"),
    [
        ("onnxruntime", "fp32", "cpu", 100.0, 1e-4),
        ("openvino", "fp32", "cpu", 100.0, 1e-4),
        ("torch", "bf16", "cpu", LEAST_DB, 0.2),
        pytest.param("torch", "fp32", "cuda", 50.0, 0.05, marks=pytest.mark.gpu),
        pytest.param("torch", "fp16", "cuda", LEAST_DB, 0.2, marks=pytest.mark.gpu),
        pytest.param("torch", "bf16", "cuda", LEAST_DB, 0.2, marks=pytest.mark.gpu),
        pytest.param("compiled", "fp16", "cuda", LEAST_DB, 0.2, marks=pytest.mark.gpu),
    ],
)
def test_every_backend_draws_the_same_with_the_model_that_ships_and_again(
    tmp_path: Path,
    backend: str,
    precision: str,
    device: str,
    least_db: float,
    largest_error: float,
) -> None:
    """Levels are from -1 to 1; repeats with a seed are bit-identical."""
    reference = shipped(tmp_path)
    params = reference.parse({"prompt": "a blue star", "cfg_type": "full", "guidance_scale": 1.5})
    expected = pictures(reference, params)
    reference.unload()
    pipeline = shipped(tmp_path, backend=backend, precision=precision, device=device)
    drawn, again = pictures(pipeline, params), pictures(pipeline, params)
    pipeline.unload()
    assert torch.equal(drawn, again)
    drawn = drawn.float().cpu()
    worst_db = min(map(psnr_db, drawn, expected))
    error = float((drawn - expected).abs().max())
    print(f"{backend} {precision} on {device}: {worst_db:.1f} dB, at most {error:.2g} of 2")
    assert worst_db > least_db
    assert error < largest_error


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
