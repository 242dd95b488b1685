"""What every runtime of exported networks has in common: graphs by size, buffers, fresh weights."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import torch

from lpnode.errors import HostError
from lpnode.model.diffusion_model import DiffusionModel
from lpnode.pipeline.backend.engine_key import NetworkKind
from lpnode.pipeline.backend.networks import Conditioning, NetworkShapes
from lpnode.pipeline.backend.onnx_trace import network_weights, trace_network
from lpnode.pipeline.backend.onnx_weights import TracedNetwork

MAX_SIZES = 4
"""Sizes of pictures that stay compiled; each has weights of its own in the runtime's layout."""


class GraphRunner(Protocol):
    """One network compiled by a runtime, for one size of pictures and any number of rows."""

    def run(self, inputs: Mapping[str, torch.Tensor], output: torch.Tensor) -> None:
        """Reads contiguous inputs where they lie and writes the contiguous output in place."""


class GraphCache:
    """Graphs of one model's networks by size, traced when first asked for.

    Weights do not matter to them, so several runtimes and sets of weights can share one.
    """

    def __init__(self, dtype: torch.dtype = torch.float32) -> None:
        self._dtype = dtype
        self._graphs: dict[tuple[NetworkKind, tuple[int, int]], TracedNetwork] = {}

    def get(self, model: DiffusionModel, kind: NetworkKind, size: tuple[int, int]) -> TracedNetwork:
        """One network's graph for pictures of ``size`` (width, height). Raises: HostError."""
        traced = self._graphs.pop((kind, size), None)
        if traced is None:
            traced = trace_network(model, kind, size=size, dtype=self._dtype)
        self._graphs[kind, size] = traced  # now the one used last
        if len(self._graphs) > MAX_SIZES * len(NetworkKind):
            del self._graphs[next(iter(self._graphs))]
        return traced


@dataclass(slots=True)
class _Compiled:
    traced: TracedNetwork
    runner: GraphRunner
    output: torch.Tensor


_Size = tuple[int, int]


class OnnxNetworks(ABC):
    """``Networks`` on the processor through ONNX; a runtime adds ``compile`` and a name.

    Graphs are fixed to a size of pictures, because runtimes plan memory and choose layouts by it;
    the number of rows stays open. A size that was not prepared is compiled by its first call, and
    the size that was used least recently makes room.

    Args:
        dtype: of inputs and outputs, float32 or float16.
        graphs: of the networks that will be loaded, where others use them too.
    """

    name: str
    max_sizes: int | None = MAX_SIZES

    def __init__(
        self, dtype: torch.dtype = torch.float32, *, graphs: GraphCache | None = None
    ) -> None:
        self.device = torch.device("cpu")
        self.dtype = dtype
        self._shared_graphs = graphs
        self._graphs = graphs or GraphCache(dtype)
        self._model: DiffusionModel | None = None
        self._by_size: dict[_Size, dict[NetworkKind, _Compiled]] = {}
        self._zeros = torch.zeros(0, dtype=dtype)

    @abstractmethod
    def compile(self, traced: TracedNetwork, weights: Mapping[str, torch.Tensor]) -> GraphRunner:
        """Compiles one network. Raises: HostError, NotBuilt."""

    def serving(self, width: int, height: int) -> object:
        """See ``Networks.serving``."""
        return self._model

    def load(self, model: DiffusionModel) -> None:
        """See ``Networks.load``; the model's modules are neither moved nor changed."""
        self._by_size.clear()
        self._graphs = self._shared_graphs or GraphCache(self.dtype)
        self._model = model

    def prepare(self, shapes: NetworkShapes) -> None:
        """See ``Networks.prepare``.

        Runs each network once, on one row: runtimes do the last of their work then, and a full
        batch of a large model takes minutes on a processor.
        """
        model = self._loaded()
        traits = model.traits
        height, width = (s // traits.pixels_per_latent for s in (shapes.height, shapes.width))
        latents = torch.zeros(1, traits.latent_channels, height, width, dtype=self.dtype)
        tokens = torch.zeros(1, traits.num_text_tokens, traits.text_width, dtype=self.dtype)
        conditioning = Conditioning(tokens)
        if traits.pooled_width is not None:
            pooled = torch.zeros(1, traits.pooled_width, dtype=self.dtype)
            conditioning = Conditioning(tokens, pooled, torch.zeros(1, 6, dtype=self.dtype))
        self.encode(torch.zeros(1, 3, shapes.height, shapes.width, dtype=self.dtype))
        self.predict(latents, torch.zeros(1), conditioning)
        self.decode(latents)

    def encode(self, images: torch.Tensor, noise: torch.Tensor | None = None) -> torch.Tensor:
        """See ``Networks.encode``."""
        traits = self._loaded().traits
        size = (images.shape[3], images.shape[2])
        side = traits.pixels_per_latent
        shape = (len(images), traits.latent_channels, size[1] // side, size[0] // side)
        inputs = {"images": images}
        if not traits.is_tiny_vae:
            inputs["noise"] = self._no_noise(shape) if noise is None else noise
        return self._run(NetworkKind.VAE_ENCODER, size, inputs, shape)

    def predict(
        self, latents: torch.Tensor, timesteps: torch.Tensor, conditioning: Conditioning
    ) -> torch.Tensor:
        """See ``Networks.predict``."""
        inputs = unet_inputs(latents, timesteps, conditioning)
        return self._run(NetworkKind.UNET, self._size_of(latents), inputs, tuple(latents.shape))

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        """See ``Networks.decode``."""
        width, height = size = self._size_of(latents)
        shape = (len(latents), 3, height, width)
        return self._run(NetworkKind.VAE_DECODER, size, {"latent": latents}, shape)

    def update(self, model: DiffusionModel) -> None:
        """See ``Networks.update``; graphs stay, and nothing changes when new weights do not fit."""
        self._loaded()
        weights = {kind: network_weights(model, kind) for kind in NetworkKind}
        fresh = {
            size: {
                kind: _Compiled(old.traced, self.compile(old.traced, weights[kind]), old.output)
                for kind, old in networks.items()
            }
            for size, networks in self._by_size.items()
        }
        self._model, self._by_size = model, fresh

    def unload(self) -> None:
        """Forgets the model and all that was compiled."""
        self._model = None
        self._by_size.clear()
        self._zeros = torch.zeros(0, dtype=self.dtype)

    def _run(
        self,
        kind: NetworkKind,
        size: _Size,
        inputs: dict[str, torch.Tensor],
        shape: tuple[int, ...],
    ) -> torch.Tensor:
        compiled = self._compiled(kind, size)
        if len(compiled.output) < shape[0]:
            compiled.output = torch.empty(shape, dtype=self.dtype)
        output = compiled.output[: shape[0]]
        compiled.runner.run({name: value.contiguous() for name, value in inputs.items()}, output)
        return output

    def _compiled(self, kind: NetworkKind, size: _Size) -> _Compiled:
        model = self._loaded()
        networks = self._by_size.pop(size, {})
        try:
            if kind not in networks:
                traced = self._graphs.get(model, kind, size)
                runner = self.compile(traced, network_weights(model, kind))
                networks[kind] = _Compiled(traced, runner, torch.empty(0, dtype=self.dtype))
        finally:
            self._by_size[size] = networks  # now the size used last
        while len(self._by_size) > MAX_SIZES:
            del self._by_size[next(iter(self._by_size))]
        return networks[kind]

    def _size_of(self, latents: torch.Tensor) -> _Size:
        side = self._loaded().traits.pixels_per_latent
        return latents.shape[3] * side, latents.shape[2] * side

    def _no_noise(self, shape: tuple[int, ...]) -> torch.Tensor:
        if self._zeros.shape[1:] != shape[1:] or len(self._zeros) < shape[0]:
            self._zeros = torch.zeros(shape, dtype=self.dtype)
        return self._zeros[: shape[0]]

    def _loaded(self) -> DiffusionModel:
        if self._model is None:
            raise HostError(f"no model is loaded into {self.name}")
        return self._model


def unet_inputs(
    latents: torch.Tensor, timesteps: torch.Tensor, conditioning: Conditioning
) -> dict[str, torch.Tensor]:
    """What the exported UNet takes, by name. Source: streamdiffusion.md section 14."""
    inputs = {
        "sample": latents,
        "timestep": timesteps.float(),
        "encoder_hidden_states": conditioning.tokens,
    }
    if conditioning.pooled is not None and conditioning.size_ids is not None:
        inputs["text_embeds"] = conditioning.pooled
        inputs["time_ids"] = conditioning.size_ids
    return inputs
