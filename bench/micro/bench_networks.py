"""How long do a small model's networks take on each backend, against torch without compilation?

The model has random weights and about the size of the one that ships: a UNet of 64 and 128
channels on 16x16 latents, and TAESD's kind of autoencoder with 32 channels on 128x128 pictures.
Every backend has the threads that torch has; OMP_NUM_THREADS sets them. The groups are the three
networks; the figures in parentheses compare with the fastest of a group.
"""

from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture

from lpnode.model.diffusion_model import (
    DiffusionModel,
    Embedding,
    ModelFamily,
    ModelTraits,
)
from lpnode.pipeline.backend.agreement import SampleFrame, agreement
from lpnode.pipeline.backend.engine_key import NetworkKind
from lpnode.pipeline.backend.networks import Conditioning, Networks, NetworkShapes
from lpnode.pipeline.backend.onnx_trace import example_inputs
from lpnode.pipeline.backend.onnxruntime_networks import OnnxRuntimeNetworks
from lpnode.pipeline.backend.openvino_networks import OpenVinoNetworks
from lpnode.pipeline.backend.torch_networks import TorchNetworks

SIZE = (128, 128)
ROWS = 2
SHAPES = NetworkShapes(width=SIZE[0], height=SIZE[1], max_images=1, max_rows=ROWS)

BACKENDS = ["torch", "onnxruntime", "openvino"]


class NoTexts:
    """The networks are conditioned on random numbers."""

    def encode(self, texts: object) -> Embedding:
        raise NotImplementedError

    def unload(self) -> None:
        """Nothing is held."""


@cache
def small_model() -> DiffusionModel:
    from diffusers import AutoencoderTiny, UNet2DConditionModel

    with torch.random.fork_rng():
        torch.manual_seed(1)
        unet = UNet2DConditionModel(
            sample_size=SIZE[0] // 8,
            block_out_channels=(64, 128),
            layers_per_block=1,
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
            cross_attention_dim=128,
            attention_head_dim=32,
        )
        vae = AutoencoderTiny(
            encoder_block_out_channels=(32,) * 4, decoder_block_out_channels=(32,) * 4
        )
    return DiffusionModel(
        name="random",
        traits=ModelTraits(family=ModelFamily.SD15, num_text_tokens=16, text_width=128),
        unet=unet.eval().requires_grad_(False),
        vae=vae.eval().requires_grad_(False),
        prompt_encoder=NoTexts(),
        weights_sha256={},
        scheduler_config={},
    )


@pytest.fixture(params=BACKENDS)
def networks(request: pytest.FixtureRequest, tmp_path: Path) -> Networks:
    """A backend that is ready, and agrees with torch."""
    threads = torch.get_num_threads()
    backends: dict[str, Callable[[], Networks]] = {
        "torch": TorchNetworks,
        "onnxruntime": lambda: OnnxRuntimeNetworks(num_threads=threads),
        "openvino": lambda: OpenVinoNetworks(tmp_path, num_threads=threads),
    }
    ready, reference = backends[request.param](), TorchNetworks()
    for backend in (ready, reference):
        backend.load(small_model())
        backend.prepare(SHAPES)
    frame = SampleFrame(small_model(), SHAPES, ROWS)
    assert agreement(frame.run(ready), frame.run(reference)).is_good
    return ready


def inputs(kind: NetworkKind, rows: int) -> dict[str, torch.Tensor]:
    return example_inputs(small_model(), kind, size=SIZE, rows=rows)


@pytest.mark.benchmark(group=f"UNet, {ROWS} rows of 16x16 latents", warmup=True)
def bench_predict(benchmark: BenchmarkFixture, networks: Networks) -> None:
    given = inputs(NetworkKind.UNET, ROWS)
    conditioning = Conditioning(given["encoder_hidden_states"])
    benchmark(networks.predict, given["sample"], given["timestep"], conditioning)


@pytest.mark.benchmark(group="tiny encoder, one 128x128 picture", warmup=True)
def bench_encode(benchmark: BenchmarkFixture, networks: Networks) -> None:
    benchmark(networks.encode, inputs(NetworkKind.VAE_ENCODER, 1)["images"])


@pytest.mark.benchmark(group="tiny decoder, one 128x128 picture", warmup=True)
def bench_decode(benchmark: BenchmarkFixture, networks: Networks) -> None:
    benchmark(networks.decode, inputs(NetworkKind.VAE_DECODER, 1)["latent"])
