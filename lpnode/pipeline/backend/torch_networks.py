"""A model's networks run by torch itself, on the processor or a GPU."""

from typing import Any

import torch

from lpnode.errors import HostError
from lpnode.model.diffusion_model import DiffusionModel, ModelFamily
from lpnode.pipeline.backend.networks import Conditioning, NetworkShapes
from lpnode.pipeline.backend.torch_threads import use_fastest


class TorchNetworks:
    """``Networks`` without compilation: the reference that every other backend is held against.

    Convolutions run channels-last and attention through torch's fused kernel, which is what
    xformers was for. The KL autoencoder of SDXL, whose values are too large for float16, runs in
    float32 then.

    Args:
        dtype: of inputs and outputs.
        weights_dtype: of the weights and of what is computed; None: ``dtype``.
    """

    name = "torch"
    max_sizes: int | None = None

    def __init__(
        self,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
        *,
        weights_dtype: torch.dtype | None = None,
    ) -> None:
        self.device = torch.device(device)
        self.dtype = dtype
        self._unet_dtype = self._vae_dtype = weights_dtype or dtype
        self._model: DiffusionModel | None = None

    def serving(self, width: int, height: int) -> object:
        """See ``Networks.serving``: another set of weights is another model."""
        return self._loaded()

    def load(self, model: DiffusionModel) -> None:
        """See ``Networks.load``; the model's own modules are moved, not copied."""
        self._vae_dtype = _vae_dtype(model, self._unet_dtype)
        for network, dtype in ((model.unet, self._unet_dtype), (model.vae, self._vae_dtype)):
            # Not diffusers' own ``to``, which warns of layers to keep in float32 that it has not.
            torch.nn.Module.to(network, self.device, dtype, memory_format=torch.channels_last)  # type: ignore[call-overload]
            network.eval().requires_grad_(False)
        self._model = model

    def prepare(self, shapes: NetworkShapes) -> None:
        """See ``Networks.prepare``; on a processor, finds the fastest number of threads.

        Source: Note [Threads of torch].
        """
        if self.device.type != "cpu":
            return
        traits, unet = self._loaded().traits, self._loaded().unet
        side = traits.pixels_per_latent
        latent = (traits.latent_channels, shapes.height // side, shapes.width // side)
        conditioning = Conditioning(self._zeros(1, traits.num_text_tokens, traits.text_width))
        if traits.pooled_width is not None:
            pooled = self._zeros(1, traits.pooled_width)
            conditioning = Conditioning(conditioning.tokens, pooled, self._zeros(1, 6))
        latents, timesteps = self._zeros(1, *latent), torch.zeros(1)
        num_weights = sum(weight.numel() for weight in unet.parameters())
        use_fastest(
            (num_weights, latent, self._unet_dtype),
            lambda: self.predict(latents, timesteps, conditioning),
        )

    @torch.inference_mode()
    def encode(self, images: torch.Tensor, noise: torch.Tensor | None = None) -> torch.Tensor:
        """See ``Networks.encode``."""
        model = self._loaded()
        vae: Any = model.vae
        encoded = vae.encode(_channels_last(images.to(self._vae_dtype)))
        if model.traits.is_tiny_vae:
            latents = encoded.latents
        else:
            posterior = encoded.latent_dist
            latents = posterior.mean if noise is None else posterior.mean + posterior.std * noise
        return _scaled(latents, model.traits.latent_scale).to(self.dtype).contiguous()

    @torch.inference_mode()
    def predict(
        self, latents: torch.Tensor, timesteps: torch.Tensor, conditioning: Conditioning
    ) -> torch.Tensor:
        """See ``Networks.predict``."""
        added, dtype = None, self._unet_dtype
        if conditioning.pooled is not None and conditioning.size_ids is not None:
            # Sizes in pixels stay what they are: bfloat16 counts to 256.
            added = {
                "text_embeds": conditioning.pooled.to(dtype),
                "time_ids": conditioning.size_ids,
            }
        output: torch.Tensor = self._loaded().unet(
            _channels_last(latents.to(dtype)),
            timesteps,
            conditioning.tokens.to(dtype),
            added_cond_kwargs=added,
            return_dict=False,
        )[0]
        return output.to(self.dtype).contiguous()

    @torch.inference_mode()
    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        """See ``Networks.decode``."""
        model = self._loaded()
        scaled = _scaled(latents.to(self._vae_dtype), 1.0 / model.traits.latent_scale)
        vae: Any = model.vae
        decoded: torch.Tensor = vae.decode(_channels_last(scaled), return_dict=False)[0]
        # Planes, as the conversion to YUV reads them.
        return decoded.to(self.dtype).contiguous()

    def update(self, model: DiffusionModel) -> None:
        """See ``Networks.update``."""
        self.load(model)

    def unload(self) -> None:
        """Forgets the model."""
        self._model = None
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    def _zeros(self, *shape: int) -> torch.Tensor:
        return torch.zeros(shape, dtype=self.dtype)

    def _loaded(self) -> DiffusionModel:
        if self._model is None:
            raise HostError("no model is loaded into torch")
        return self._model


def _vae_dtype(model: DiffusionModel, dtype: torch.dtype) -> torch.dtype:
    """Source: ``force_upcast`` in a VAE's ``config.json``, which diffusers heeds for SDXL alone."""
    vae: Any = model.vae
    is_large = not model.traits.is_tiny_vae and model.traits.family is ModelFamily.SDXL
    if dtype == torch.float16 and is_large and vae.config.force_upcast:
        return torch.float32
    return dtype


def _channels_last(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.contiguous(memory_format=torch.channels_last)


def _scaled(latents: torch.Tensor, scale: float) -> torch.Tensor:
    return latents if scale == 1.0 else latents * scale
