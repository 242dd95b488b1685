"""Which model a StreamDiffusion pipeline serves, and the weights it has in memory."""

import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from lpnode.errors import BadParameters, HostError
from lpnode.model.weights import Progress, no_progress
from lpnode.pipeline.backend.networks import NetworkShapes
from lpnode.pipeline.backend.switchable_networks import SwitchableNetworks
from lpnode.pipeline.failures import as_lpnode_error
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


class Loadouts:
    """The sets of weights that streams use now; the first one stays.

    Each choice of LoRAs and strengths is a whole set. There may be as many as fit into memory.

    ``hold`` and what it gives are for any thread, as ``Pipeline`` says; the rest for the device's.
    """

    def __init__(self, served: ServedModel) -> None:
        self._served = served
        self._by_choice: dict[LoraChoice, Loadout] = {}
        self._holds: set[LoadoutHold] = set()
        # Guards both of these, for moments.
        self._lock = threading.Lock()
        # Taken while a set is loaded: one at a time, or none could tell what memory is left.
        self._loading = threading.Lock()

    def hold(self, params: StreamDiffusionParams) -> "LoadoutHold | None":
        """See ``Pipeline.hold``; the first set of weights needs no holding."""
        hold = LoadoutHold(self, params)
        with self._lock:
            first = next(iter(self._by_choice.values()), None)
            if first is not None and self._find(hold.choice) is first:
                return None
            self._holds.add(hold)
        return hold

    def has(self, choice: LoraChoice) -> bool:
        """Whether the weights of a choice are in memory."""
        with self._lock:
            return self._find(choice) is not None

    def load(self, hold: "LoadoutHold") -> None:
        """Loads what is held, ready for use, unless it is there already.

        It is given up, a tensor later, when nobody holds it any more.

        Raises: HostError. BadParameters: there are no such LoRAs, or no memory for another set.
        """

        def check(what: str, num_done: int, num_bytes: int) -> None:
            if not self._is_held(hold.choice):
                raise HostError("nobody waits for these weights any more")

        with self._loading:
            if self.has(hold.choice):
                return
            check("", 0, 0)
            loadout = self._open(hold.choice, check)
            try:
                loadout.make_ready(hold.params)
            except BaseException:
                loadout.unload()
                raise
            with self._lock:
                is_held = any(other.choice == hold.choice for other in self._holds)
                if is_held:
                    self._by_choice[hold.choice] = loadout
            if not is_held:
                loadout.unload()

    def let_go(self, hold: "LoadoutHold") -> None:
        """Ends a hold."""
        with self._lock:
            self._holds.discard(hold)
        self.drop_unused()

    def get(self, choice: LoraChoice) -> Loadout:
        """The weights of a choice, loaded if they are not yet.

        Raises: HostError. BadParameters: there are no such LoRAs, or no memory for another set.
        """
        with self._lock:
            loadout = self._find(choice)
        if loadout is None:
            with self._loading:
                with self._lock:
                    loadout = self._find(choice)  # another thread may have loaded it meanwhile
                loadout = loadout or self._open(choice, no_progress)
                with self._lock:
                    self._by_choice.setdefault(choice, loadout)
        return loadout

    @property
    def sizes_in_use(self) -> set[tuple[int, int]]:
        """(width, height) in pixels of all streams."""
        with self._lock:
            loadouts = list(self._by_choice.values())
        return {size for loadout in loadouts for size in loadout.sizes_in_use}

    def _find(self, choice: LoraChoice) -> Loadout | None:
        return self._by_choice.get(choice) or self._without_lcm_lora(choice)

    def _is_held(self, choice: LoraChoice) -> bool:
        with self._lock:
            return any(hold.choice == choice for hold in self._holds)

    def _without_lcm_lora(self, choice: LoraChoice) -> Loadout | None:
        """Weights that would have got an LCM-LoRA too, where there is none for the model."""
        if choice.use_lcm_lora:
            return None
        loadout = self._by_choice.get(replace(choice, use_lcm_lora=True))
        return None if loadout is None or loadout.has_lcm_lora else loadout

    def drop_unused(self) -> None:
        """Unloads what no stream uses any more."""
        with self._lock:
            held = [self._find(hold.choice) for hold in self._holds]
            unused = {
                choice: loadout
                for choice, loadout in self._but_the_first()
                if loadout.is_idle and loadout not in held
            }
            for choice in unused:
                del self._by_choice[choice]
            kept = list(self._by_choice.values())
        for loadout in unused.values():
            loadout.unload()
        for loadout in kept:
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
        with self._lock:
            loadouts = list(self._by_choice.values())
            self._by_choice.clear()
            self._holds.clear()
        for loadout in loadouts:
            loadout.unload()

    def _open(self, choice: LoraChoice, progress: Progress) -> Loadout:
        with self._lock:
            first = next(iter(self._by_choice.items()), None)
        if first is None:
            return Loadout(self._served.open_model(choice, progress), self._served)
        standard, loadout = first
        field_name = "use_lcm_lora" if choice.loras == standard.loras else "lora_dict"
        self._check_memory(loadout, f"such as {_in_words(standard)}", field_name)
        try:
            return Loadout(self._served.open_model(choice, progress), self._served)
        except BadParameters:
            raise
        except Exception as error:
            reason = as_lpnode_error(error)
            kind = type(reason) if isinstance(reason, HostError) else HostError
            raise kind(f"{field_name}: no other weights could be loaded: {reason}") from error

    def _check_memory(self, loadout: Loadout, accepted: str, field_name: str) -> None:
        copies = _COPIES[torch.device(self._served.device).type]
        needed, free = copies * loadout.num_bytes + SPARE_BYTES, self._served.free_bytes()
        if free < needed:
            raise BadParameters(
                f"{field_name}: another choice of LoRAs needs about {needed >> 20} MiB for weights "
                f"of its own, and {free >> 20} MiB are free; {len(self._by_choice)} choices are in "
                f"use: expected one of these, {accepted}"
            )

    def _but_the_first(self) -> Iterator[tuple[LoraChoice, Loadout]]:
        pairs = iter(self._by_choice.items())
        next(pairs, None)
        return pairs


@dataclass(frozen=True, eq=False)
class LoadoutHold:
    """See ``Hold``: the weights that a parameter set asks for."""

    loadouts: Loadouts
    params: StreamDiffusionParams

    @property
    def choice(self) -> LoraChoice:
        """Which weights they are."""
        return LoraChoice.of(self.params)

    @property
    def is_loaded(self) -> bool:
        """See ``Hold.is_loaded``."""
        return self.loadouts.has(self.choice)

    def load(self) -> None:
        """See ``Hold.load``."""
        self.loadouts.load(self)

    def release(self) -> None:
        """See ``Hold.release``."""
        self.loadouts.let_go(self)


def _in_words(choice: LoraChoice) -> str:
    loras = dict(choice.loras) or "no lora_dict"
    return f"{loras} with use_lcm_lora {'on' if choice.use_lcm_lora else 'off'}"
