"""The noise schedule that models are trained on, and the few timesteps a stream denoises at."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import torch

from lpnode.errors import InvalidArgument

NUM_TRAIN_TIMESTEPS = 1000
ORIGINAL_STEPS = 50
"""Steps of the grid that latent consistency models were distilled on."""
TIMESTEP_SCALING = 10.0
SIGMA_DATA = 0.5


@cache
def alphas_cumprod() -> torch.Tensor:
    """ᾱ of every training timestep, (1000,) float64. Source: streamdiffusion.md section 2."""
    first, last = 0.00085**0.5, 0.012**0.5
    betas = torch.linspace(first, last, NUM_TRAIN_TIMESTEPS, dtype=torch.float64) ** 2
    return torch.cumprod(1.0 - betas, dim=0)


def timestep_grid(num_inference_steps: int) -> list[int]:
    """The timesteps that ``t_index_list`` points into, noisiest first.

    More steps than the original grid has raise the grid itself to as many.

    Raises: InvalidArgument: fewer than one step or more than there are timesteps.
    Source: streamdiffusion.md section 2.
    """
    if not 1 <= num_inference_steps <= NUM_TRAIN_TIMESTEPS:
        raise InvalidArgument(
            f"num_inference_steps must be 1 to {NUM_TRAIN_TIMESTEPS}, got {num_inference_steps}"
        )
    original = max(ORIGINAL_STEPS, num_inference_steps)
    stride = NUM_TRAIN_TIMESTEPS // original
    origin = [stride * index - 1 for index in range(original, 0, -1)]
    return [origin[index * original // num_inference_steps] for index in range(num_inference_steps)]


@dataclass(frozen=True, slots=True)
class StepCoefficients:
    """What each denoising step multiplies with; every tensor is (n,) float64, noisiest first.

    Attributes:
        timesteps: τ, whole numbers.
        a, b: √ᾱ and √(1 - ᾱ), the parts of picture and noise at τ.
        c_skip, c_out: of the consistency step.
    """

    timesteps: torch.Tensor
    a: torch.Tensor
    b: torch.Tensor
    c_skip: torch.Tensor
    c_out: torch.Tensor

    @classmethod
    def of(
        cls, t_index_list: Sequence[int], num_inference_steps: int, *, is_one_step_turbo: bool
    ) -> "StepCoefficients":
        """The coefficients at ``t_index_list`` of the grid.

        ``is_one_step_turbo`` takes the picture as predicted: c_skip 0 and c_out 1, which is how
        one-step turbo models are sampled.

        Raises: InvalidArgument: an index outside the grid, or indices that decrease.
        Source: streamdiffusion.md sections 2 and 8.
        """
        grid = timestep_grid(num_inference_steps)
        indices = list(t_index_list)
        if not indices or min(indices) < 0 or max(indices) >= len(grid):
            raise InvalidArgument(
                f"t_index_list must have indices from 0 to {len(grid) - 1}, got {indices}"
            )
        if indices != sorted(indices):
            raise InvalidArgument(f"t_index_list must not decrease, got {indices}")
        timesteps = torch.tensor([grid[index] for index in indices], dtype=torch.float64)
        alpha = alphas_cumprod()[timesteps.long()]
        scaled = TIMESTEP_SCALING * timesteps
        variance = SIGMA_DATA**2
        c_skip = variance / (scaled**2 + variance)
        c_out = scaled / (scaled**2 + variance).sqrt()
        if is_one_step_turbo:
            c_skip, c_out = torch.zeros_like(c_skip), torch.ones_like(c_out)
        return cls(timesteps, alpha.sqrt(), (1.0 - alpha).sqrt(), c_skip, c_out)
