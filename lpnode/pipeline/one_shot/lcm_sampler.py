"""The few steps of a latent consistency model."""

import math
from collections.abc import Mapping
from typing import Any

import torch

from lpnode.model.diffusion_model import Prediction
from lpnode.pipeline.one_shot.noise_source import NoiseSource
from lpnode.pipeline.stream_diffusion.schedule import (
    NUM_TRAIN_TIMESTEPS,
    ORIGINAL_STEPS,
    SIGMA_DATA,
    TIMESTEP_SCALING,
)

_DEFAULTS: dict[str, Any] = {
    "num_train_timesteps": NUM_TRAIN_TIMESTEPS,
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "trained_betas": None,
    "original_inference_steps": ORIGINAL_STEPS,
    "clip_sample": False,
    "thresholding": False,
    "timestep_scaling": TIMESTEP_SCALING,
    "rescale_betas_zero_snr": False,
}
_FIXED = ("beta_schedule", "trained_betas", "clip_sample", "thresholding", "rescale_betas_zero_snr")


class LcmSampler:
    """See ``Sampler``; equal to diffusers' LCMScheduler.

    More steps than the model's original grid has make the grid finer, where diffusers gives up:
    the contract's default for image-to-image is 100.

    Source: streamdiffusion.md sections 2 and 7.
    """

    init_noise_sigma = 1.0
    order = 1

    def __init__(self, config: Mapping[str, Any], num_steps: int, prediction: Prediction) -> None:
        """``config`` is one that ``is_plain`` finds so."""
        values = {**_DEFAULTS, **config}
        num_train = int(values["num_train_timesteps"])
        first, last = float(values["beta_start"]) ** 0.5, float(values["beta_end"]) ** 0.5
        betas = torch.linspace(first, last, num_train, dtype=torch.float64) ** 2
        alphas = torch.cumprod(1.0 - betas, dim=0)

        original = max(int(values["original_inference_steps"]), num_steps)
        stride = num_train // original
        origin = [stride * index - 1 for index in range(original, 0, -1)]
        self._whole = [origin[index * original // num_steps] for index in range(num_steps)]
        self.timesteps = [float(timestep) for timestep in self._whole]
        self._prediction = prediction
        self._scaling = float(values["timestep_scaling"])
        self._a = [float(alphas[timestep].sqrt()) for timestep in self._whole]
        self._b = [float((1.0 - alphas[timestep]).sqrt()) for timestep in self._whole]

    @staticmethod
    def is_plain(config: Mapping[str, Any]) -> bool:
        """Whether a scheduler's configuration asks for nothing but what is done here."""
        return all(config.get(name, _DEFAULTS[name]) == _DEFAULTS[name] for name in _FIXED)

    def begin(self, first_step: int) -> None:
        """See ``Sampler.begin``; the steps know their place by their number."""

    def noised(self, latents: torch.Tensor, noise: torch.Tensor, step: int) -> torch.Tensor:
        """See ``Sampler.noised``."""
        return self._a[step] * latents + self._b[step] * noise

    def scaled(self, latents: torch.Tensor, step: int) -> torch.Tensor:
        """See ``Sampler.scaled``: nothing to do."""
        return latents

    def stepped(
        self, output: torch.Tensor, step: int, latents: torch.Tensor, noise: NoiseSource
    ) -> torch.Tensor:
        """See ``Sampler.stepped``."""
        a, b = self._a[step], self._b[step]
        if self._prediction is Prediction.V:
            predicted = a * latents - b * output
        else:
            predicted = (latents - b * output) / a
        s = self._scaling * self._whole[step]
        variance = SIGMA_DATA**2
        c_skip, c_out = variance / (s**2 + variance), s / math.sqrt(s**2 + variance)
        clean = c_out * predicted + c_skip * latents
        if step + 1 == len(self._whole):
            return clean
        return self._a[step + 1] * clean + self._b[step + 1] * noise.draw()
