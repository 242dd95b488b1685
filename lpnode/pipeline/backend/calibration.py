"""Which layers of a UNet compute with 8 bits, and the ranges that those have to cover.

Note [Calibration]: ranges are measured in torch, on the device that the model is on, by watching
its own layers. ONNX Runtime's ``quantize_static`` would run the float graph on the processor,
where a UNet of 860 million weights takes seconds for a row, and holds several copies of its
weights, each of more than protobuf's 2 GiB. Here it costs 32 UNet calls of one row and one number
for each layer. What is watched is a copy of the modules that shares the weights: frames that are
served meanwhile, or captured in a CUDA graph, pass through the originals.

A range is the largest value seen. Ranges of least squared error made the shipped UNet's output
0.7 dB better with int8 and its pictures 0.9 dB worse, so they are not worth a histogram a layer.
"""

import copy
import re
import threading
from collections.abc import Callable
from typing import Any

import torch

from lpnode.errors import HostError
from lpnode.model.diffusion_model import DiffusionModel
from lpnode.pipeline.backend.denoising_samples import (
    PROMPTS,
    TIMESTEPS,
    denoising_samples,
)
from lpnode.pipeline.backend.engine_cache import BuildCancelled

CALIBRATION = 1
"""Counted up when samples, ranges or the choice of layers change: engines are others then."""
_NOISE_SEED = 1

# Ends of the network and what timesteps go through: they are sensitive and cost little. So do the
# projections of the text, 77 rows in which a few values are far larger than the others.
# Source: the layers that NVIDIA's examples for diffusers leave out, but for the text's.
_KEPT = re.compile(
    r"(^|\.)(conv_in|conv_out|time_embedding|time_emb_proj|add_embedding|class_embedding"
    r"|conv_shortcut|attn2\.to_k|attn2\.to_v)(\.|$)"
)


def eight_bit_layers(unet: torch.nn.Module) -> dict[str, torch.nn.Module]:
    """The convolutions and linear layers that compute with 8 bits, by name; the others stay.

    Norms, softmax and the products within attention have no weights, and stay too.
    """
    return {
        name: module
        for name, module in unet.named_modules()
        if isinstance(module, torch.nn.Conv2d | torch.nn.Linear) and not _KEPT.search(name)
    }


def measure_ranges(
    model: DiffusionModel,
    size: tuple[int, int],
    progress: Callable[[float], None],
    stop: threading.Event,
) -> dict[str, float]:
    """The largest absolute value that enters each of ``eight_bit_layers`` as the model denoises.

    See Note [Calibration]. The model goes on serving; its modules are neither moved nor changed.

    Args:
        size: (width, height) of pictures in pixels.
        progress: told how much is done, 0 to 1.
    Raises: BuildCancelled: ``stop`` was set. HostError: a value that is no number.
    """
    watched = copy.copy(model)
    watched.unet = _with_shared_weights(model.unet)
    largest: dict[str, torch.Tensor] = {}

    def watch(name: str, layer: torch.nn.Module) -> None:
        def observe(_: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
            # Stays on the device: reading it here would hold the calls up.
            value = inputs[0].detach().abs().amax().float()
            seen = largest.get(name)
            largest[name] = value if seen is None else torch.maximum(seen, value)

        layer.register_forward_pre_hook(observe)

    for name, layer in eight_bit_layers(watched.unet).items():
        watch(name, layer)
    num_calls = len(PROMPTS) * len(TIMESTEPS)
    samples = denoising_samples(watched, size, PROMPTS, _NOISE_SEED)
    for number, _ in enumerate(samples, 1):
        if stop.is_set():
            raise BuildCancelled("stopped while ranges for 8 bits were being measured")
        progress(number / num_calls)
    ranges = {name: float(value) for name, value in largest.items()}
    for name, value in ranges.items():
        if not value < float("inf"):
            raise HostError(f"{model.name}: what enters the UNet's {name} is {value}, no number")
    return ranges


def _with_shared_weights(network: torch.nn.Module) -> torch.nn.Module:
    memo: dict[int, Any] = {id(one): one for one in network.state_dict(keep_vars=True).values()}
    return copy.deepcopy(network, memo)
