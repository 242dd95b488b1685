"""Which model a StreamDiffusion pipeline serves, and one set of its weights in memory."""

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

from lpnode.model.weights import Progress
from lpnode.pipeline.backend.networks import NetworkShapes
from lpnode.pipeline.backend.switchable_networks import SwitchableNetworks
from lpnode.pipeline.open_model import OpenModel
from lpnode.pipeline.pipeline import EngineBuild
from lpnode.pipeline.stream_diffusion.conditioning import PromptCache
from lpnode.pipeline.stream_diffusion.denoise_batch import BatchShape
from lpnode.pipeline.stream_diffusion.params import StreamDiffusionParams
from lpnode.pipeline.stream_diffusion.stream_group import GroupKey, StreamGroup


@dataclass(frozen=True, slots=True)
class LoraChoice:
    """Which LoRAs are fused; streams with the same choice share weights."""

    loras: tuple[tuple[str, float], ...]
    use_lcm_lora: bool

    @classmethod
    def of(cls, params: StreamDiffusionParams) -> "LoraChoice":
        """What a parameter set asks for."""
        return cls(params.lora_dict, params.use_lcm_lora)


@dataclass(frozen=True, slots=True, kw_only=True)
class ServedModel:
    """Which model a pipeline serves, and how.

    Attributes:
        open_model: loads the model with LoRAs fused, and may be stopped by an error that the
            progress raises. Raises: HostError, BadParameters.
        names: what ``model_id`` in a parameter set may be, beside nothing.
        device: as torch names it.
        dtype: of frames; float32 on a processor.
        params: the parameter class, which has the sizes that the model can do.
        defaults: of parameters, as JSON, where they are not the contract's.
        max_batch: most frames in one VAE call.
        max_rows: most rows in one UNet call; more streams make several calls.
        free_bytes: memory that is left on the device; another set of weights has to fit in.
        uses_graphs: run a frame as one captured graph, which pays on a CUDA device.
    """

    open_model: Callable[[LoraChoice, Progress], OpenModel]
    names: tuple[str, ...]
    device: str
    dtype: torch.dtype = torch.float32
    params: type[StreamDiffusionParams] = StreamDiffusionParams
    defaults: Mapping[str, Any] = field(default_factory=dict)
    max_batch: int = 8
    max_rows: int = 16
    free_bytes: Callable[[], int] = lambda: sys.maxsize
    uses_graphs: bool = False


class Loadout:
    """One set of weights in memory, with everything that runs on it."""

    def __init__(self, opened: OpenModel, served: ServedModel) -> None:
        self.traits = opened.model.traits
        self.prompts = PromptCache(opened.model.prompt_encoder)
        self.has_lcm_lora = opened.has_lcm_lora
        self._opened = opened
        self._served = served
        self._groups: dict[GroupKey, StreamGroup] = {}
        self._latest: StreamGroup | None = None
        self._prepared: set[tuple[int, int]] = set()
        self._newest_size = (0, 0)

    def make_ready(self, params: StreamDiffusionParams) -> None:
        """Does what takes long of a first use, on the thread that loads, before anybody uses it.

        Raises: HostError.
        """
        self._prepare(params.width, params.height)
        self.prompts.encode(params)
        device = torch.device(self._served.device)
        if device.type == "cuda":  # frames run on a stream that does not wait for this thread's
            torch.cuda.current_stream(device).synchronize()

    def group(self, params: StreamDiffusionParams) -> StreamGroup:
        """The group that a parameter set belongs in, with networks prepared for its size."""
        self._prepare(params.width, params.height)
        side = self.traits.pixels_per_latent
        key = GroupKey(
            shape=BatchShape(
                num_steps=len(params.t_index_list),
                mode=params.mode,
                height=params.height // side,
                width=params.width // side,
                channels=self.traits.latent_channels,
            ),
            is_sequential=not params.use_denoising_batch,
        )
        group = self._groups.get(key)
        if group is None:
            group = StreamGroup(key, self._opened.networks, self.traits)
            self._groups[key] = group
        self._latest = group
        return group

    @property
    def networks_name(self) -> str:
        """What runs the networks; see ``Networks.name``."""
        return self._opened.networks.name

    @property
    def max_sizes(self) -> int | None:
        """See ``Networks.max_sizes``."""
        return self._opened.networks.max_sizes

    @property
    def sizes_in_use(self) -> set[tuple[int, int]]:
        """(width, height) in pixels of the streams on these weights."""
        side = self.traits.pixels_per_latent
        shapes = [key.shape for key, group in self._groups.items() if not group.is_empty]
        return {(shape.width * side, shape.height * side) for shape in shapes}

    @property
    def num_bytes(self) -> int:
        """Memory of one copy of the weights."""
        model = self._opened.model
        networks = (model.unet, model.vae, *model.prompt_encoder.text_models)
        return sum(weight.nbytes for network in networks for weight in network.parameters())

    @property
    def is_idle(self) -> bool:
        """Whether no stream uses these weights."""
        return all(group.is_empty for group in self._groups.values())

    def drop_empty_groups(self) -> None:
        """Returns the memory of groups without streams, but for the one that was used last.

        The next stream is likely of its kind, and finds its graphs captured.
        """
        for key, group in list(self._groups.items()):
            if group.is_empty and group is not self._latest:
                group.release()
                del self._groups[key]

    async def run_background(self) -> None:
        """See ``Pipeline.run_background``."""
        networks = self._opened.networks
        if isinstance(networks, SwitchableNetworks):
            await networks.run()

    def engine_builds(self) -> list[EngineBuild]:
        """See ``Pipeline.engine_builds``."""
        networks = self._opened.networks
        if not isinstance(networks, SwitchableNetworks):
            return []
        return [
            EngineBuild(
                width=width,
                height=height,
                phase=state.phase,
                network=state.network or "",
                fraction=state.fraction,
                error=state.error,
            )
            for (width, height), state in networks.states.items()
        ]

    def unload(self) -> None:
        """Returns everything."""
        for group in self._groups.values():
            group.release()
        self._groups.clear()
        self._latest = None
        self._opened.unload()

    def _prepare(self, width: int, height: int) -> None:
        if self._opened.networks.max_sizes is not None:
            # The newest is there; another may have had to make room for it.
            self._prepared &= self.sizes_in_use | {self._newest_size}
        if (width, height) in self._prepared:
            return
        self._opened.networks.prepare(
            NetworkShapes(
                width=width,
                height=height,
                max_images=self._served.max_batch,
                max_rows=self._served.max_rows,
            )
        )
        self._prepared.add((width, height))
        self._newest_size = (width, height)
