"""Which model a StreamDiffusion pipeline serves, and the weights it has in memory."""

import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from lpnode.errors import BadParameters
from lpnode.pipeline.backend.networks import NetworkShapes
from lpnode.pipeline.backend.switchable_networks import SwitchableNetworks
from lpnode.pipeline.open_model import OpenModel
from lpnode.pipeline.pipeline import EngineBuild
from lpnode.pipeline.stream_diffusion.conditioning import PromptCache
from lpnode.pipeline.stream_diffusion.denoise_batch import BatchShape
from lpnode.pipeline.stream_diffusion.params import StreamDiffusionParams
from lpnode.pipeline.stream_diffusion.stream_group import GroupKey, StreamGroup

SPARE_BYTES = 1 << 30
"""Left free when another set of weights is loaded: frames, codecs and other models need some."""
_COPIES = {"cpu": 3, "cuda": 1}
"""Of a set of weights while it is loaded. A processor has the model's own, those of the backend
that is best so far, and those of the one that is being measured."""


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
        open_model: loads the model with LoRAs fused. Raises: HostError, BadParameters.
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

    open_model: Callable[[LoraChoice], OpenModel]
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

    def group(self, params: StreamDiffusionParams) -> StreamGroup:
        """The group that a parameter set belongs in, with networks prepared for its size."""
        size = (params.width, params.height)
        if self._opened.networks.max_sizes is not None:
            self._prepared &= self.sizes_in_use  # another may have had to make room
        if size not in self._prepared:
            self._opened.networks.prepare(
                NetworkShapes(
                    width=size[0],
                    height=size[1],
                    max_images=self._served.max_batch,
                    max_rows=self._served.max_rows,
                )
            )
            self._prepared.add(size)
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


class Loadouts:
    """The sets of weights that streams use now; the first one stays.

    Each choice of LoRAs and strengths is a whole set. There may be as many as fit into memory.
    """

    def __init__(self, served: ServedModel) -> None:
        self._served = served
        self._by_choice: dict[LoraChoice, Loadout] = {}

    def get(self, choice: LoraChoice) -> Loadout:
        """The weights of a choice, loaded if they are not yet.

        Raises: HostError. BadParameters: there are no such LoRAs, or no memory for another set.
        """
        loadout = self._by_choice.get(choice) or self._without_lcm_lora(choice)
        if loadout is None:
            self._check_memory(choice)
            loadout = Loadout(self._served.open_model(choice), self._served)
            self._by_choice[choice] = loadout
        return loadout

    @property
    def sizes_in_use(self) -> set[tuple[int, int]]:
        """(width, height) in pixels of all streams."""
        loadouts = self._by_choice.values()
        return {size for loadout in loadouts for size in loadout.sizes_in_use}

    def _without_lcm_lora(self, choice: LoraChoice) -> Loadout | None:
        """Weights that would have got an LCM-LoRA too, where there is none for the model."""
        if choice.use_lcm_lora:
            return None
        loadout = self._by_choice.get(replace(choice, use_lcm_lora=True))
        return None if loadout is None or loadout.has_lcm_lora else loadout

    def drop_unused(self) -> None:
        """Unloads what no stream uses any more."""
        for choice, loadout in list(self._but_the_first()):
            if loadout.is_idle:
                loadout.unload()
                del self._by_choice[choice]
        for loadout in self._by_choice.values():
            loadout.drop_empty_groups()

    async def run_background(self) -> None:
        """See ``Pipeline.run_background``; for the weights that stay."""
        for loadout in list(self._by_choice.values())[:1]:
            await loadout.run_background()

    def engine_builds(self) -> list[EngineBuild]:
        """See ``Pipeline.engine_builds``; of the weights that stay, which alone get engines."""
        first = list(self._by_choice.values())[:1]
        return [build for loadout in first for build in loadout.engine_builds()]

    def unload(self) -> None:
        """Unloads everything."""
        for loadout in self._by_choice.values():
            loadout.unload()
        self._by_choice.clear()

    def _check_memory(self, choice: LoraChoice) -> None:
        if not self._by_choice:
            return
        standard, first = next(iter(self._by_choice.items()))
        copies = _COPIES[torch.device(self._served.device).type]
        needed, free = copies * first.num_bytes + SPARE_BYTES, self._served.free_bytes()
        if free < needed:
            field_name = "use_lcm_lora" if choice.loras == standard.loras else "lora_dict"
            raise BadParameters(
                f"{field_name}: another choice of LoRAs needs about {needed >> 20} MiB for weights "
                f"of its own, and {free >> 20} MiB are free; {len(self._by_choice)} choices are in "
                f"use: expected one of these, such as {_in_words(standard)}"
            )

    def _but_the_first(self) -> Iterator[tuple[LoraChoice, Loadout]]:
        pairs = iter(self._by_choice.items())
        next(pairs, None)
        return pairs


def _in_words(choice: LoraChoice) -> str:
    loras = dict(choice.loras) or "no lora_dict"
    return f"{loras} with use_lcm_lora {'on' if choice.use_lcm_lora else 'off'}"
