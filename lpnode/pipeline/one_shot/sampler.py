"""From noise to a latent: the steps between two calls of the UNet."""

import inspect
from collections.abc import Sequence
from typing import Any, Protocol

import torch

from lpnode.errors import HostError
from lpnode.model.diffusion_model import DiffusionModel
from lpnode.pipeline.one_shot.lcm_sampler import LcmSampler
from lpnode.pipeline.one_shot.model_rules import scheduler_class
from lpnode.pipeline.one_shot.noise_source import NoiseSource


class Sampler(Protocol):
    """The schedule of one batch, from its noisiest timestep to its last; used once.

    Latents are (N, C, h, w) float32. Steps are numbered from 0 in ``timesteps``.
    """

    @property
    def timesteps(self) -> Sequence[float]:
        """What the UNet is told at each step."""

    @property
    def init_noise_sigma(self) -> float:
        """What noise is multiplied with to be a latent at the first timestep."""

    @property
    def order(self) -> int:
        """UNet calls that one inference step takes."""

    def begin(self, first_step: int) -> None:
        """Says where the steps begin, before any is made."""

    def noised(self, latents: torch.Tensor, noise: torch.Tensor, step: int) -> torch.Tensor:
        """Latents of a picture with as much noise as there is at a step."""

    def scaled(self, latents: torch.Tensor, step: int) -> torch.Tensor:
        """What the UNet gets for latents."""

    def stepped(
        self, output: torch.Tensor, step: int, latents: torch.Tensor, noise: NoiseSource
    ) -> torch.Tensor:
        """The latents of the next step, from the UNet's guided output for these."""


class DiffusersSampler:
    """See ``Sampler``: one of diffusers' schedulers, driven as its own pipelines drive it."""

    def __init__(self, model: DiffusionModel, num_steps: int, device: torch.device) -> None:
        self._scheduler: Any = _scheduler(model)
        self._scheduler.set_timesteps(num_steps, device=device)
        self._timesteps: torch.Tensor = self._scheduler.timesteps
        self.timesteps: list[float] = self._timesteps.tolist()
        self.init_noise_sigma = float(self._scheduler.init_noise_sigma)
        self.order = int(self._scheduler.order)
        self._takes_generator = "generator" in inspect.signature(self._scheduler.step).parameters

    def begin(self, first_step: int) -> None:
        """See ``Sampler.begin``."""
        if first_step and hasattr(self._scheduler, "set_begin_index"):
            self._scheduler.set_begin_index(first_step)

    def noised(self, latents: torch.Tensor, noise: torch.Tensor, step: int) -> torch.Tensor:
        """See ``Sampler.noised``."""
        timesteps = self._timesteps[step].repeat(len(latents))
        noised: torch.Tensor = self._scheduler.add_noise(latents, noise, timesteps)
        return noised

    def scaled(self, latents: torch.Tensor, step: int) -> torch.Tensor:
        """See ``Sampler.scaled``."""
        scaled: torch.Tensor = self._scheduler.scale_model_input(latents, self._timesteps[step])
        return scaled

    def stepped(
        self, output: torch.Tensor, step: int, latents: torch.Tensor, noise: NoiseSource
    ) -> torch.Tensor:
        """See ``Sampler.stepped``."""
        extra = {"generator": noise.generators} if self._takes_generator else {}
        stepped: torch.Tensor = self._scheduler.step(
            output, self._timesteps[step], latents, **extra, return_dict=False
        )[0]
        return stepped


def make_sampler(model: DiffusionModel, num_steps: int, device: torch.device) -> Sampler:
    """The sampler that the model's scheduler configuration names.

    Raises: HostError: it names none that diffusers has.
    """
    config = model.scheduler_config
    if scheduler_class(model) == "LCMScheduler" and LcmSampler.is_plain(config):
        return LcmSampler(config, num_steps, model.traits.prediction)
    return DiffusersSampler(model, num_steps, device)


def _scheduler(model: DiffusionModel) -> Any:
    import diffusers  # takes seconds; whoever has a model in memory has paid already

    name = scheduler_class(model)
    scheduler: Any = getattr(diffusers, name, None) if name.endswith("Scheduler") else None
    if scheduler is None:
        raise HostError(
            f"{model.name}: scheduler_config.json must name a scheduler of diffusers as "
            f"_class_name, got {name!r}"
        )
    prediction = str(model.traits.prediction)
    return scheduler.from_config(dict(model.scheduler_config), prediction_type=prediction)
