"""Noise: how much of it at which timestep, and what its coarsest components decide."""

import math
from functools import cache

import torch

from lpnode.builtin.scene import NUM_CHANCES

NUM_TIMESTEPS = 1000
LAST_TIMESTEP = NUM_TIMESTEPS - 1
BETA_START, BETA_END = 0.00085, 0.012


@cache
def _alphas_cumprod() -> torch.Tensor:
    roots = torch.linspace(
        math.sqrt(BETA_START), math.sqrt(BETA_END), NUM_TIMESTEPS, dtype=torch.float64
    )
    return (1 - roots**2).cumprod(0)


def signal_and_noise(timesteps: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """What pictures and noise are multiplied by: a, b, each (B, 1, 1, 1) float32.

    Args: timesteps: (B,) int64, 0 to 999.
    Source: streamdiffusion.md section 2.
    """
    alphas = _alphas_cumprod().to(timesteps.device)[timesteps].reshape(-1, 1, 1, 1)
    return alphas.sqrt().float(), (1 - alphas).sqrt().float()


@cache
def _coarse_components(height: int, width: int) -> torch.Tensor:
    """(10, 4·height·width): orthonormal; means of channels and half cosines across and down."""
    flat = torch.full((height, width), (height * width) ** -0.5)
    across = torch.cos(math.pi * (torch.arange(width) + 0.5) / width).expand(height, width)
    down = torch.cos(math.pi * (torch.arange(height) + 0.5) / height)[:, None].expand(height, width)
    across, down = across / across.norm(), down / down.norm()
    # In the order of a scene's chance: place, size, shift, scale, rotation, background.
    places = [
        (across, 0), (down, 0), (flat, 3), (across, 1), (down, 1), (across, 2), (down, 2),
        (flat, 0), (flat, 1), (flat, 2),
    ]  # fmt: skip
    components = torch.zeros(NUM_CHANCES, 4, height, width)
    for index, (pattern, channel) in enumerate(places):
        components[index, channel] = pattern
    return components.flatten(1)


def with_chance(noise: torch.Tensor, chance: torch.Tensor) -> torch.Tensor:
    """Replaces the coarsest components of noise by a scene's chance: Note [Chance].

    Args: noise: (B, 4, h, w) of N(0, 1). chance: (B, 10) of N(0, 1).
    Returns: (B, 4, h, w), again N(0, 1).
    """
    components = _coarse_components(*noise.shape[-2:]).to(noise.device)
    flat = noise.flatten(1)
    return (flat + (chance - flat @ components.T) @ components).reshape(noise.shape)
