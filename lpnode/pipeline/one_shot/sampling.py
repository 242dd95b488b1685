"""From a request to its pictures: batches of rows through the UNet, step by step."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from lpnode.errors import HostError, JobCancelled
from lpnode.pipeline.backend.networks import Networks
from lpnode.pipeline.failures import as_lpnode_error
from lpnode.pipeline.one_shot.noise_source import NoiseSource
from lpnode.pipeline.one_shot.prompt_rows import EncodedPrompts
from lpnode.pipeline.one_shot.sampler import Sampler, make_sampler
from lpnode.pipeline.open_model import OpenModel


@dataclass(frozen=True, slots=True)
class Watch:
    """Who looks on while pictures are made; both are called from the thread that makes them.

    Attributes:
        on_step: told after each UNet call how many are done, and of how many.
        is_cancelled: asked before each UNet call, such as ``threading.Event.is_set``.
    """

    on_step: Callable[[int, int], None] = lambda done, total: None
    is_cancelled: Callable[[], bool] = lambda: False


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplingPlan:
    """What is to be made.

    Attributes:
        prompts: encoded; without negative ones there is no guidance.
        size: (width, height) in pixels of every picture.
        seeds: one a picture.
        num_steps: of the whole schedule.
        num_steps_left: the last ones of the schedule, which are made; all without ``image``.
        image: (1, 3, H, W) float32 in [-1, 1] to start from; None: from noise.
    """

    prompts: EncodedPrompts
    guidance_scale: float
    size: tuple[int, int]
    seeds: list[int]
    num_steps: int
    num_steps_left: int
    image: torch.Tensor | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Sample:
    """One picture as it comes out of the decoder.

    Attributes:
        rgb: (H, W, 3) uint8.
        elapsed_s: its share of the time that its batch took.
    """

    rgb: NDArray[np.uint8]
    seed: int
    elapsed_s: float


def sample(
    opened: OpenModel, plan: SamplingPlan, *, max_rows: int, watch: Watch
) -> Iterator[Sample]:
    """Makes the pictures of a plan, as many in one UNet call as fit into ``max_rows``.

    The networks must be prepared for the size and for ``max_rows`` pictures and rows. Noise is
    drawn on the processor, a generator a seed, so that a picture does not depend on the others.

    Raises: JobCancelled: ``watch`` said so. OutOfDeviceMemory, DeviceError: from the networks.
        HostError: the model gave numbers that are not finite, or has a scheduler nobody knows.
    Source: ai-http.md section 7; diffusers' StableDiffusionPipeline and
        StableDiffusionImg2ImgPipeline, whose pictures these are, to rounding.
    """
    per_batch = max(1, max_rows // plan.prompts.rows_per_picture)
    batches = [plan.seeds[i : i + per_batch] for i in range(0, len(plan.seeds), per_batch)]
    done = 0
    for number, seeds in enumerate(batches):
        started = time.perf_counter()
        batch = _Batch(opened, plan, seeds)
        total = done + batch.num_calls * (len(batches) - number)
        for _ in range(batch.num_calls):
            if watch.is_cancelled():
                raise JobCancelled(f"cancelled after {done} of {total} steps")
            batch.step()
            done += 1
            watch.on_step(done, total)
        if watch.is_cancelled():
            raise JobCancelled(f"cancelled after {done} of {total} steps")
        pictures = batch.decoded()
        elapsed_s = (time.perf_counter() - started) / len(seeds)
        for seed, rgb in zip(seeds, pictures, strict=True):
            yield Sample(rgb, seed, elapsed_s)


class _Batch:
    """Pictures that go through the UNet together."""

    def __init__(self, opened: OpenModel, plan: SamplingPlan, seeds: list[int]) -> None:
        self._networks: Networks = opened.networks
        self._plan = plan
        self._is_guided = plan.prompts.negative is not None
        self._name = opened.model.name
        device, traits = self._networks.device, opened.model.traits
        width, height = plan.size
        latent = (
            traits.latent_channels,
            height // traits.pixels_per_latent,
            width // traits.pixels_per_latent,
        )
        with _failures_named():
            self._noise = NoiseSource(seeds, latent, device)
            self._sampler: Sampler = make_sampler(opened.model, plan.num_steps, device)
            num_timesteps = len(self._sampler.timesteps)
            self._next = (plan.num_steps - plan.num_steps_left) * self._sampler.order
            if not plan.num_steps_left:
                self._next = num_timesteps  # PNDM has one more than there are steps
            self.num_calls = num_timesteps - self._next
            self._sampler.begin(self._next)
            self._conditioning = plan.prompts.conditioning(
                len(seeds), plan.size, device, self._networks.dtype
            )
            if plan.image is None:
                self._latents = self._noise.draw() * self._sampler.init_noise_sigma
            else:
                self._latents = self._encoded(plan.image, len(seeds), traits.is_tiny_vae)
                if self.num_calls:
                    noise = self._noise.draw()
                    self._latents = self._sampler.noised(self._latents, noise, self._next)

    @torch.inference_mode()
    def step(self) -> None:
        """One UNet call for every picture."""
        networks, sampler, step = self._networks, self._sampler, self._next
        with _failures_named():
            rows = sampler.scaled(self._latents, step)
            if self._is_guided:
                rows = torch.cat([rows, rows])
            timesteps = torch.full(
                (len(rows),), sampler.timesteps[step], dtype=torch.float32, device=networks.device
            )
            rows = rows.to(networks.dtype).contiguous()
            # Copied because some schedulers keep it beyond the next call.
            output = networks.predict(rows, timesteps, self._conditioning).to(
                torch.float32, copy=True
            )
            if self._is_guided:
                negative, positive = output.chunk(2)
                output = negative + self._plan.guidance_scale * (positive - negative)
            self._latents = sampler.stepped(output, step, self._latents, self._noise)
        self._next += 1

    @torch.inference_mode()
    def decoded(self) -> list[NDArray[np.uint8]]:
        """The pictures, (H, W, 3) RGB. Source: streamdiffusion.md section 10."""
        with _failures_named():
            pictures = self._networks.decode(self._latents.to(self._networks.dtype).contiguous())
            # Not a number would become black.
            if not bool(torch.isfinite(pictures).all()):
                raise HostError(
                    f"{self._name}: the model gave numbers that are not finite; its weights are "
                    f"damaged, or too large for {self._networks.dtype}"
                )
            levels = (pictures.float() / 2 + 0.5).clamp(0.0, 1.0).mul(255.0).round()
            return list(levels.to(torch.uint8).permute(0, 2, 3, 1).cpu().contiguous().numpy())

    @torch.inference_mode()
    def _encoded(self, image: torch.Tensor, num_pictures: int, is_tiny_vae: bool) -> torch.Tensor:
        networks = self._networks
        image = image.to(networks.device, networks.dtype)
        if is_tiny_vae:
            latents = networks.encode(image).to(torch.float32, copy=True)
            return latents.expand(num_pictures, -1, -1, -1)
        # Each picture samples the posterior with its own generator, before any other noise.
        images = image.expand(num_pictures, -1, -1, -1).contiguous()
        noise = self._noise.draw().to(networks.dtype)
        return networks.encode(images, noise).to(torch.float32, copy=True)


@contextmanager
def _failures_named() -> Iterator[None]:
    try:
        yield
    except Exception as error:
        raise as_lpnode_error(error) from error
