"""A model's three networks as engines for one size of pictures."""

from collections.abc import Mapping

import torch

from lpnode.model.diffusion_model import ModelTraits
from lpnode.pipeline.backend.engine_key import NetworkKind
from lpnode.pipeline.backend.networks import Conditioning, NetworkShapes
from lpnode.pipeline.backend.onnx_networks import GraphRunner, unet_inputs


class EngineNetworks:
    """``encode``, ``predict`` and ``decode`` of ``Networks``, for the shapes of the engines.

    Results lie in buffers of the most rows, whose addresses never change: a CUDA graph may contain
    these calls.
    """

    def __init__(
        self,
        traits: ModelTraits,
        shapes: NetworkShapes,
        runners: Mapping[NetworkKind, GraphRunner],
        *,
        device: torch.device,
        dtype: torch.dtype,
    ) -> None:
        self._traits = traits
        self._shapes = shapes
        self._runners = runners
        side = traits.pixels_per_latent
        latent = (traits.latent_channels, shapes.height // side, shapes.width // side)
        images = (3, shapes.height, shapes.width)

        def buffer(count: int, shape: tuple[int, ...]) -> torch.Tensor:
            return torch.zeros(count, *shape, device=device, dtype=dtype)

        self._outputs = {
            NetworkKind.UNET: buffer(shapes.max_rows, latent),
            NetworkKind.VAE_ENCODER: buffer(shapes.max_images, latent),
            NetworkKind.VAE_DECODER: buffer(shapes.max_images, images),
        }
        self._no_noise = None if traits.is_tiny_vae else buffer(shapes.max_images, latent)

    def takes(self, kind: NetworkKind, count: int) -> bool:
        """Whether so many pictures or rows fit into one call."""
        return count <= len(self._outputs[kind])

    def encode(self, images: torch.Tensor, noise: torch.Tensor | None = None) -> torch.Tensor:
        """See ``Networks.encode``."""
        inputs = {"images": images}
        if self._no_noise is not None:
            inputs["noise"] = self._no_noise[: len(images)] if noise is None else noise
        return self._run(NetworkKind.VAE_ENCODER, inputs, len(images))

    def predict(
        self, latents: torch.Tensor, timesteps: torch.Tensor, conditioning: Conditioning
    ) -> torch.Tensor:
        """See ``Networks.predict``."""
        inputs = unet_inputs(latents, timesteps, conditioning)
        return self._run(NetworkKind.UNET, inputs, len(latents))

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        """See ``Networks.decode``."""
        return self._run(NetworkKind.VAE_DECODER, {"latent": latents}, len(latents))

    def _run(
        self, kind: NetworkKind, inputs: Mapping[str, torch.Tensor], count: int
    ) -> torch.Tensor:
        output = self._outputs[kind][:count]
        contiguous = {name: value.contiguous() for name, value in inputs.items()}
        self._runners[kind].run(contiguous, output)
        return output
