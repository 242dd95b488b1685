"""TensorRT behind the interface that every backend has."""

import asyncio
import importlib.util
from pathlib import Path

import pytest
import torch
from tiny_diffusion_models import NUM_TOKENS, SIDE, TEXT_WIDTH, tiny_model

from lpnode._native import diffusion
from lpnode.errors import InvalidArgument
from lpnode.pipeline.backend.engine_build import BuildPhase
from lpnode.pipeline.backend.engine_cache import EngineCache, EngineCacheConfig
from lpnode.pipeline.backend.engine_key import Precision
from lpnode.pipeline.backend.networks import Conditioning, NetworkShapes
from lpnode.pipeline.backend.tensorrt_networks import tensorrt_networks
from lpnode.pipeline.backend.torch_networks import TorchNetworks

HAS_TENSORRT = diffusion.has_tensorrt() and importlib.util.find_spec("tensorrt") is not None


def cache_in(folder: Path) -> EngineCache:
    return EngineCache(EngineCacheConfig(folder=folder, spare_bytes=0))


def test_networks_on_a_processor_have_no_tensorrt(tmp_path: Path) -> None:
    with pytest.raises(InvalidArgument, match="runs on a CUDA device, the networks are on cpu"):
        tensorrt_networks(TorchNetworks(), cache_in(tmp_path))


@pytest.mark.gpu
@pytest.mark.skipif(not HAS_TENSORRT, reason="TensorRT is missing")
@pytest.mark.timeout(600)
@pytest.mark.parametrize("precision", [Precision.FP16, Precision.INT8, Precision.FP8])
async def test_engines_take_over_from_torch_and_agree_with_it(
    precision: Precision, tmp_path: Path
) -> None:
    if precision is Precision.FP8 and torch.cuda.get_device_capability() < (8, 9):
        pytest.skip("the GPU has no fp8")
    networks = tensorrt_networks(
        TorchNetworks("cuda", torch.float16), cache_in(tmp_path), precision=precision
    )
    networks.load(tiny_model())
    networks.prepare(NetworkShapes(width=SIDE, height=SIDE, max_images=2, max_rows=3))
    size = (SIDE, SIDE)
    latents = torch.randn(3, 4, SIDE // 8, SIDE // 8, device="cuda", dtype=torch.float16)
    tokens = torch.randn(3, NUM_TOKENS, TEXT_WIDTH, device="cuda", dtype=torch.float16)
    timesteps = torch.tensor([900.0, 500.0, 100.0], device="cuda")
    before = networks.predict(latents, timesteps, Conditioning(tokens)).clone()
    assert networks.name == "torch"
    async with asyncio.TaskGroup() as tasks:
        building = tasks.create_task(networks.run(), name="engines")
        while networks.states[size].phase not in (BuildPhase.READY, BuildPhase.FAILED):  # noqa: ASYNC110
            await asyncio.sleep(0.1)
        building.cancel()
    assert networks.states[size].phase is BuildPhase.READY, networks.states[size].error
    after = networks.predict(latents, timesteps, Conditioning(tokens))
    assert networks.name == "tensorrt"
    if precision is Precision.FP16:
        torch.testing.assert_close(after, before, rtol=2e-2, atol=2e-2)
    else:
        error = (after.float() - before.float()).square().mean().sqrt()
        assert error < 0.1 * before.float().square().mean().sqrt()
    networks.unload()
