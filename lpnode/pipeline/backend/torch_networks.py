"""A model's networks run by torch itself, on the processor or a GPU."""

from typing import Any

import torch

from lpnode.errors import HostError
from lpnode.model.diffusion_model import DiffusionModel
from lpnode.pipeline.backend.networks import Conditioning, NetworkShapes


class TorchNetworks:
    """``Networks`` without compilation: the reference that every other backend is held against.

    Convolutions run channels-last and attention through torch's fused kernel, which is what
    xformers was for. Inputs and outputs are of ``dtype``, as the weights are.
    """

    name = "torch"

    def __init__(
        self, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32
    ) -> None:
        self.device = torch.device(device)
        self.dtype = dtype
        self._model: DiffusionModel | None = None

    def load(self, model: DiffusionModel) -> None:
        """See ``Networks.load``; the model's own modules are moved, not copied."""
        for network in (model.unet, model.vae):
            # Not diffusers' own, which warns of modules to be kept in float32 where there are none.
            torch.nn.Module.to(  # type: ignore[call-overload]
                network, self.device, self.dtype, memory_format=torch.channels_last
            )
            network.eval().requires_grad_(False)
        self._model = model

    def prepare(self, shapes: NetworkShapes) -> None:
        """Nothing depends on shapes here."""

    @torch.inference_mode()
    def encode(self, images: torch.Tensor, noise: torch.Tensor | None = None) -> torch.Tensor:
        """See ``Networks.encode``."""
        model = self._loaded()
        vae: Any = model.vae
        encoded = vae.encode(_channels_last(images))
        if model.traits.is_tiny_vae:
            latents = encoded.latents
        else:
            posterior = encoded.latent_dist
            latents = posterior.mean if noise is None else posterior.mean + posterior.std * noise
        return _scaled(latents, model.traits.latent_scale)

    @torch.inference_mode()
    def predict(
        self, latents: torch.Tensor, timesteps: torch.Tensor, conditioning: Conditioning
    ) -> torch.Tensor:
        """See ``Networks.predict``."""
        added = None
        if conditioning.pooled is not None:
            added = {"text_embeds": conditioning.pooled, "time_ids": conditioning.size_ids}
        output: torch.Tensor = self._loaded().unet(
            _channels_last(latents),
            timesteps,
            conditioning.tokens,
            added_cond_kwargs=added,
            return_dict=False,
        )[0]
        return output.contiguous()

    @torch.inference_mode()
    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        """See ``Networks.decode``."""
        model = self._loaded()
        scaled = _scaled(latents, 1.0 / model.traits.latent_scale)
        vae: Any = model.vae
        decoded: torch.Tensor = vae.decode(_channels_last(scaled), return_dict=False)[0]
        return decoded.contiguous()  # planes, as the conversion to YUV reads them

    def update(self, model: DiffusionModel) -> None:
        """See ``Networks.update``."""
        self.load(model)

    def unload(self) -> None:
        """Forgets the model."""
        self._model = None
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    def _loaded(self) -> DiffusionModel:
        if self._model is None:
            raise HostError("no model is loaded into torch")
        return self._model


def _channels_last(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.contiguous(memory_format=torch.channels_last)


def _scaled(latents: torch.Tensor, scale: float) -> torch.Tensor:
    return latents if scale == 1.0 else latents * scale
