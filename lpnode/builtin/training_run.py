"""One stage of training: optimiser, averaged weights, checkpoints, progress, resumption."""

import copy
import logging
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from lpnode.builtin.muon import Muon

_log = logging.getLogger(__name__)
_SECONDS_BETWEEN_CHECKPOINTS = 60.0
_SECONDS_BETWEEN_REPORTS = 15.0


@dataclass(frozen=True, slots=True, kw_only=True)
class StageOptions:
    """How long and how fast one stage learns."""

    num_steps: int
    batch_size: int
    learning_rate: float
    ema_decay: float = 0.999
    """Of the running mean of the weights; that mean is what ships."""
    num_warmup_steps: int = 200
    muon_learning_rate: float | None = None
    """Of matrices and convolutions, if Muon is to train them; AdamW trains what is left."""
    num_decay_steps: int | None = None
    """Over which the learning rate falls; as many as there are steps, if not given."""


class TrainingRun:
    """Trains one module and keeps its averaged copy.

    Every step's randomness comes from ``generator(step)`` alone, so that a run that was cut off
    goes on as if it had not been.
    """

    def __init__(
        self, name: str, module: nn.Module, options: StageOptions, checkpoint: Path, seed: int
    ) -> None:
        """``checkpoint`` is read if it exists, and written every minute and at the end."""
        self.name = name
        self.module = module
        self.options = options
        self.averaged = copy.deepcopy(module).requires_grad_(False).eval()
        self._checkpoint = checkpoint
        self._seed = seed
        self._optimisers = _optimisers(module, options)
        self._step = 0
        if checkpoint.exists():
            self._load()

    @property
    def is_done(self) -> bool:
        return self._step >= self.options.num_steps

    def generator(self, step: int) -> torch.Generator:
        """The source of a step's randomness, on the CPU so that it's the same everywhere."""
        return torch.Generator().manual_seed(self._seed * 1_000_003 + step)

    def run(self, loss_of: Callable[[int, torch.Generator], torch.Tensor]) -> nn.Module:
        """Takes the steps that are left. Returns: the averaged module, in evaluation mode."""
        self.module.train()
        began, first_step, reported, saved = time.monotonic(), self._step, 0.0, time.monotonic()
        losses: list[float] = []
        for step in self._remaining():
            for optimiser in self._optimisers:
                for group in optimiser.param_groups:
                    group["lr"] = optimiser.defaults["lr"] * self._warmth(step)
            self.module.zero_grad(set_to_none=True)
            loss = loss_of(step, self.generator(step))
            loss.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(self.module.parameters(), 1.0)
            for optimiser in self._optimisers:
                optimiser.step()
            self._average(step)
            losses.append(loss.detach().item())
            self._step = step + 1
            now = time.monotonic()
            if now - reported > _SECONDS_BETWEEN_REPORTS or self.is_done:
                pace = (self._step - first_step) / (now - began)
                _log.info(
                    "%s: step %d of %d, loss %.4f, %.1f pictures/s, %.0f s left",
                    self.name,
                    self._step,
                    self.options.num_steps,
                    sum(losses) / len(losses),
                    pace * self.options.batch_size,
                    (self.options.num_steps - self._step) / pace,
                )
                reported = now
                losses.clear()
            if now - saved > _SECONDS_BETWEEN_CHECKPOINTS or self.is_done:
                self.save()
                saved = now
        return self.averaged

    def _remaining(self) -> Iterator[int]:
        return iter(range(self._step, self.options.num_steps))

    def _warmth(self, step: int) -> float:
        """Factor of learning rates: linear warm-up, then a half cosine down to a twentieth."""
        options = self.options
        if step < options.num_warmup_steps:
            return (step + 1) / options.num_warmup_steps
        share = step / (options.num_decay_steps or options.num_steps)
        return 0.05 + 0.95 * (1 + math.cos(math.pi * share)) / 2

    @torch.no_grad()
    def _average(self, step: int) -> None:
        decay = min(self.options.ema_decay, (1 + step) / (10 + step))
        mean: list[torch.Tensor] = list(self.averaged.parameters())
        now: list[torch.Tensor] = list(self.module.parameters())
        torch._foreach_lerp_(mean, now, 1 - decay)

    def save(self) -> None:
        """Writes the checkpoint; a run made anew with it goes on from here."""
        state = {
            "step": self._step,
            "module": self.module.state_dict(),
            "averaged": self.averaged.state_dict(),
            "optimisers": [optimiser.state_dict() for optimiser in self._optimisers],
        }
        beside = self._checkpoint.with_suffix(".partial")
        torch.save(state, beside)
        beside.replace(self._checkpoint)

    def _load(self) -> None:
        state = torch.load(self._checkpoint, map_location="cpu", weights_only=True)
        self.module.load_state_dict(state["module"])
        self.averaged.load_state_dict(state["averaged"])
        for optimiser, its_state in zip(self._optimisers, state["optimisers"], strict=True):
            optimiser.load_state_dict(its_state)
        self._step = state["step"]
        _log.info("%s: goes on after step %d", self.name, self._step)


def _optimisers(module: nn.Module, options: StageOptions) -> list[torch.optim.Optimizer]:
    adam, muon = list(module.parameters()), list[nn.Parameter]()
    if options.muon_learning_rate is not None:
        embeddings = {m.weight for m in module.modules() if isinstance(m, nn.Embedding)}
        muon = [p for p in adam if p.ndim >= 2 and p not in embeddings]
        adam = [p for p in adam if p.ndim < 2 or p in embeddings]
    optimisers: list[torch.optim.Optimizer] = [
        torch.optim.AdamW(adam, options.learning_rate, betas=(0.9, 0.99), weight_decay=0.01)
    ]
    if options.muon_learning_rate is not None:
        optimisers.append(Muon(muon, options.muon_learning_rate))
    return optimisers
