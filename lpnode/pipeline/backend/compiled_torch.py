"""A model's networks compiled by torch itself, for the shapes they were prepared for."""

import dataclasses
from collections.abc import Callable
from typing import Any, Literal

import torch

from lpnode.errors import HostError
from lpnode.model.diffusion_model import DiffusionModel
from lpnode.pipeline.backend.networks import Conditioning, NetworkShapes
from lpnode.pipeline.backend.torch_networks import TorchNetworks
from lpnode.pipeline.failures import as_lpnode_error

_COUNTS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32)
"""What is compiled for; a call in between is filled up, by a third of its result at the most."""
_MAX_VARIANTS = 256
"""Of one function; torch's own limit of 8 would have the ninth run uncompiled for good."""


@dataclasses.dataclass(frozen=True, slots=True)
class _Counts:
    """How many pictures and rows one size was compiled for, rising."""

    images: tuple[int, ...]
    rows: tuple[int, ...]


class CompiledTorchNetworks(TorchNetworks):
    """``Networks`` through ``torch.compile``, one variant a shape, without its own CUDA graphs.

    Those of the frame loop hold the whole frame (``CapturedGraph``) and could not contain others.
    Sizes and counts that were not prepared run uncompiled rather than have a frame wait.

    Args:
        compiler: one of torch's; ``eager`` traces as the others do and generates no code.
    """

    name = "torch-compile"

    def __init__(
        self,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
        *,
        compiler: str = "inductor",
    ) -> None:
        super().__init__(device, dtype)
        self._compiler = compiler
        self._prepared: dict[tuple[int, int], _Counts] = {}
        self._plain: DiffusionModel | None = None
        self._compiled: DiffusionModel | None = None

    def serving(self, width: int, height: int) -> object:
        """See ``Networks.serving``: other weights are copied to where the first ones were."""
        return self._plain

    def load(self, model: DiffusionModel) -> None:
        """See ``Networks.load``; ``prepare`` compiles."""
        super().load(model)
        self._prepared.clear()
        self._plain = model
        self._compiled = dataclasses.replace(
            model, unet=self._of(model.unet), vae=_CompiledVae(self._of, model.vae)
        )

    def prepare(self, shapes: NetworkShapes) -> None:
        """See ``Networks.prepare``; compiles each network for some ten counts, minutes in all."""
        traits = self._loaded().traits
        counts = _Counts(_counts(shapes.max_images), _counts(shapes.max_rows))
        side = traits.pixels_per_latent
        latent = (traits.latent_channels, shapes.height // side, shapes.width // side)
        size = (shapes.height, shapes.width)
        self._prepared[size] = counts

        def zeros(*shape: int) -> torch.Tensor:
            return torch.zeros(shape, device=self.device, dtype=self.dtype)

        try:
            with torch._dynamo.config.patch(
                recompile_limit=_MAX_VARIANTS, accumulated_recompile_limit=_MAX_VARIANTS
            ):
                for count in counts.images:
                    self.encode(zeros(count, 3, *size))
                    self.decode(zeros(count, *latent))
                for count in counts.rows:
                    pooled = size_ids = None
                    if traits.pooled_width is not None:
                        pooled = zeros(count, traits.pooled_width)
                        size_ids = zeros(count, 6)
                    tokens = zeros(count, traits.num_text_tokens, traits.text_width)
                    self.predict(
                        zeros(count, *latent),
                        torch.zeros(count, device=self.device),
                        Conditioning(tokens, pooled, size_ids),
                    )
        except Exception as error:
            del self._prepared[size]
            raise as_lpnode_error(error) from error

    def encode(self, images: torch.Tensor, noise: torch.Tensor | None = None) -> torch.Tensor:
        """See ``Networks.encode``."""
        count = self._choose((images.shape[2], images.shape[3]), len(images), "images")
        noise = None if noise is None else _filled(noise, count)
        return super().encode(_filled(images, count), noise)[: len(images)]

    def predict(
        self, latents: torch.Tensor, timesteps: torch.Tensor, conditioning: Conditioning
    ) -> torch.Tensor:
        """See ``Networks.predict``."""
        count = self._choose(self._size_of(latents), len(latents), "rows")
        pooled, size_ids = conditioning.pooled, conditioning.size_ids
        return super().predict(
            _filled(latents, count),
            _filled(timesteps.float(), count),
            Conditioning(
                _filled(conditioning.tokens, count),
                None if pooled is None else _filled(pooled, count),
                None if size_ids is None else _filled(size_ids, count),
            ),
        )[: len(latents)]

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        """See ``Networks.decode``."""
        count = self._choose(self._size_of(latents), len(latents), "images")
        return super().decode(_filled(latents, count))[: len(latents)]

    def update(self, model: DiffusionModel) -> None:
        """See ``Networks.update``: copied over the old weights, whose addresses graphs know.

        Raises: HostError: these weights are of another network; nothing has changed.
        """
        plain = self._plain or self._loaded()
        for old, new in ((plain.unet, model.unet), (plain.vae, model.vae)):
            shapes = [
                {name: tensor.shape for name, tensor in network.state_dict().items()}
                for network in (old, new)
            ]
            if shapes[0] != shapes[1]:
                raise HostError(f"{model.name}: its networks are not those of {plain.name}")
        plain.unet.load_state_dict(model.unet.state_dict())
        plain.vae.load_state_dict(model.vae.state_dict())

    def unload(self) -> None:
        """Forgets the model and what was compiled for it."""
        super().unload()
        self._plain = self._compiled = None
        self._prepared.clear()

    def _choose(self, size: tuple[int, int], count: int, of: Literal["images", "rows"]) -> int:
        """Takes the compiled networks where they were prepared for this, and says for how many."""
        prepared = self._prepared.get(size)
        for compiled_for in () if prepared is None else getattr(prepared, of):
            if compiled_for >= count:
                self._model = self._compiled
                return int(compiled_for)
        self._model = self._plain
        return count

    def _size_of(self, latents: torch.Tensor) -> tuple[int, int]:
        side = self._loaded().traits.pixels_per_latent
        return latents.shape[2] * side, latents.shape[3] * side

    def _of(self, function: Any) -> Any:
        return torch.compile(function, dynamic=False, backend=self._compiler)


class _CompiledVae(torch.nn.Module):
    """Has the methods of a VAE that ``TorchNetworks`` calls."""

    def __init__(self, compiled: Callable[[Any], Any], vae: Any) -> None:
        super().__init__()
        self.encode = compiled(vae.encode)
        self.decode = compiled(vae.decode)


def _counts(most: int) -> tuple[int, ...]:
    return (*(count for count in _COUNTS if count < most), most)


def _filled(tensor: torch.Tensor, count: int) -> torch.Tensor:
    """The rows of a tensor and, up to a count, the last one again."""
    missing = count - len(tensor)
    if missing == 0:
        return tensor
    return torch.cat((tensor, tensor[-1:].expand(missing, *tensor.shape[1:])))
