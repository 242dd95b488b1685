"""The sets of weights of a served model that are in memory, and who holds them."""

import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch

from lpnode.errors import BadParameters, HostError
from lpnode.model.weights import Progress, no_progress
from lpnode.pipeline.failures import as_lpnode_error
from lpnode.pipeline.pipeline import EngineBuild
from lpnode.pipeline.stream_diffusion.params import StreamDiffusionParams
from lpnode.pipeline.stream_diffusion.served_model import Loadout, LoraChoice, ServedModel

SPARE_BYTES = 1 << 30
"""Left free when another set of weights is loaded: frames, codecs and other models need some."""
_COPIES = {"cpu": 3, "cuda": 1}
"""Of a set of weights while it is loaded. A processor has the model's own, those of the backend
that is best so far, and those of the one that is being measured."""


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
            with self._lock:
                is_held = self._is_held(hold.choice)
            if not is_held:
                raise HostError("nobody waits for these weights any more")

        with self._loading:
            if self.has(hold.choice):
                return
            check("", 0, 0)
            loadout = self._open(hold.choice, check)
            try:
                loadout.make_ready(hold.params)
            except BaseException:  # nobody else knows of these weights yet
                loadout.unload()
                raise
            with self._lock:
                is_held = self._is_held(hold.choice)
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
