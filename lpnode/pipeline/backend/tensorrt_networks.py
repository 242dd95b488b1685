"""A model's networks by torch, and by TensorRT from the moment that its engines are ready."""

import torch

from lpnode.errors import InvalidArgument
from lpnode.pipeline.backend.engine_build import EngineBuilder
from lpnode.pipeline.backend.engine_cache import EngineCache
from lpnode.pipeline.backend.engine_key import Precision
from lpnode.pipeline.backend.networks import Networks
from lpnode.pipeline.backend.switchable_networks import SwitchableNetworks
from lpnode.pipeline.backend.tensorrt_engine import (
    TensorRtCompiler,
    require_precision,
    tensorrt,
)


def tensorrt_networks(
    fallback: Networks,
    cache: EngineCache,
    *,
    precision: Precision = Precision.FP16,
    level: int = 3,
) -> SwitchableNetworks:
    """Networks that ``fallback`` serves until TensorRT's engines are there.

    Whoever has them runs ``SwitchableNetworks.run`` in a task, which builds.

    Args:
        fallback: on the CUDA device that engines are built for; float16 for every precision but
            fp32.
        precision: int8 and fp8 are the UNet's alone, see Note [Eight bits].
        level: see ``TensorRtCompiler``.
    Raises: NotBuilt: TensorRT is missing, and how to get it. InvalidArgument: the fallback is on no
        CUDA device, or of another type; or the GPU cannot compute in the precision.
    """
    device = fallback.device
    if device.type != "cuda":
        raise InvalidArgument(f"TensorRT runs on a CUDA device, the networks are on {device}")
    tensorrt()
    require_precision(precision, torch.cuda.get_device_capability(device))
    index = torch.cuda.current_device() if device.index is None else device.index
    compiler = TensorRtCompiler(device=index, level=level)
    builder = EngineBuilder(cache=cache, compiler=compiler, device=device, precision=precision)
    return SwitchableNetworks(fallback, builder)
