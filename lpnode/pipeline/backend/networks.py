"""The interface between the frame loop and whatever runs a model's networks."""

from dataclasses import dataclass
from typing import Protocol

import torch

from lpnode.model.diffusion_model import DiffusionModel


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkShapes:
    """What networks are prepared for. Sizes in pixels, multiples of 8."""

    width: int
    height: int
    max_images: int
    """Most pictures one ``encode`` or ``decode`` may get."""
    max_rows: int
    """Most rows one ``predict`` may get."""


@dataclass(frozen=True, slots=True)
class Conditioning:
    """What the rows of one UNet call are conditioned on.

    ``tokens`` is (R, L, D); ``pooled`` (R, P) and ``size_ids`` (R, 6) are there for SDXL alone.
    """

    tokens: torch.Tensor
    pooled: torch.Tensor | None = None
    size_ids: torch.Tensor | None = None


class Networks(Protocol):
    """One backend with one model: ``load`` → ``prepare`` → run → ``update`` → ``unload``.

    Every method is called from one thread, blocks (on a CUDA device: enqueues on the current
    stream) and takes and gives contiguous tensors of ``dtype`` on ``device``. A result is valid
    until the next call of the same method; callers that keep it copy it.
    """

    @property
    def name(self) -> str:
        """Such as ``torch``, ``onnxruntime``, ``openvino``, ``tensorrt``."""

    @property
    def device(self) -> torch.device:
        """Where inputs must lie and outputs will."""

    @property
    def dtype(self) -> torch.dtype:
        """Of inputs and outputs; what is computed with inside is the backend's own affair."""

    @property
    def max_sizes(self) -> int | None:
        """Sizes of pictures that stay prepared side by side; None: any number.

        One more in use would be made anew at each frame, while every stream waits.
        """

    def serving(self, width: int, height: int) -> object:
        """What calls for pictures of this size run on now, to be compared by identity.

        Something else from one call to the next: a CUDA graph that was captured before is stale.
        """

    def load(self, model: DiffusionModel) -> None:
        """Takes a model's networks. Raises: HostError, OutOfDeviceMemory, NotBuilt."""

    def prepare(self, shapes: NetworkShapes) -> None:
        """Makes calls of these shapes as fast as they get; may take minutes.

        Fewer pictures and rows than prepared for are always allowed.
        """

    def encode(self, images: torch.Tensor, noise: torch.Tensor | None = None) -> torch.Tensor:
        """(S, 3, H, W) in [-1, 1] → scaled latents (S, 4, H/8, W/8).

        ``noise``, of the result's shape, samples a KL posterior (mean + std·noise); without it the
        mean is taken. A tiny VAE ignores it. Source: streamdiffusion.md section 10.
        """

    def predict(
        self, latents: torch.Tensor, timesteps: torch.Tensor, conditioning: Conditioning
    ) -> torch.Tensor:
        """The UNet's raw output for rows (R, 4, h, w) at timesteps (R,), of the latents' shape.

        What it means, noise or velocity, is the model's ``traits.prediction``.
        """

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        """Scaled latents (S, 4, h, w) → pictures (S, 3, 8h, 8w), about [-1, 1], not clamped."""

    def update(self, model: DiffusionModel) -> None:
        """Replaces the weights by another set for the same networks; what was prepared stays so."""

    def unload(self) -> None:
        """Returns the memory that ``load`` and ``prepare`` took."""
