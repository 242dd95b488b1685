"""Second stage: draws pictures and captions once, and keeps them as latents and token ids."""

import logging
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from lpnode.builtin.caption import caption
from lpnode.builtin.edits import sample_edit
from lpnode.builtin.render import render
from lpnode.builtin.scene import sample_scene

_log = logging.getLogger(__name__)

NUM_CAPTIONS = 3
_CHUNK = 64
# Of scenes, see ``sample_scene``. Where a shape may be anywhere, its place and size cost the model
# more than what it is; edits show it all the others.
_SPREAD = 0.3

TokenIds = Callable[[list[str]], torch.Tensor]
"""Texts → (N, 24) int64."""


@dataclass(frozen=True, slots=True)
class LatentSet:
    """What the UNet learns from, on the CPU. N scenes, M edits, latents float16.

    Attributes:
        scenes: (N, 4, h, w).
        chance: (N, 10), Note [Chance].
        token_ids: (N, 3, 24), of three captions a scene.
        is_open: (N, 3, 10) bool: what each caption leaves to chance.
        before, after: (M, 4, h, w) of edits.
        edit_token_ids: (M, 24).
    """

    scenes: torch.Tensor
    chance: torch.Tensor
    token_ids: torch.Tensor
    is_open: torch.Tensor
    before: torch.Tensor
    after: torch.Tensor
    edit_token_ids: torch.Tensor


def latent_set(
    path: Path,
    vae: nn.Module,
    tokenize: TokenIds,
    *,
    side: int,
    num_scenes: int,
    num_edits: int,
    device: torch.device,
    seed: int,
) -> LatentSet:
    """Reads the set in ``path``, or makes it and writes it there."""
    if path.exists():
        return LatentSet(**torch.load(path, weights_only=True))
    rng = np.random.default_rng((seed, 2, side))
    scenes: list[torch.Tensor] = []
    chance, texts, is_open = [], [], []
    for begin in range(0, num_scenes, _CHUNK):
        drawn = [sample_scene(rng, _SPREAD) for _ in range(min(_CHUNK, num_scenes - begin))]
        scenes.append(_encode(vae, [render(scene, side, rng) for scene in drawn], device))
        for scene in drawn:
            chance.append(scene.chance)
            captions = [caption(scene, rng) for _ in range(NUM_CAPTIONS)]
            texts += [words.text for words in captions]
            is_open.append([words.is_open for words in captions])
    before: list[torch.Tensor] = []
    after: list[torch.Tensor] = []
    edit_texts: list[str] = []
    for begin in range(0, num_edits, _CHUNK):
        edits = [sample_edit(rng, side) for _ in range(min(_CHUNK, num_edits - begin))]
        before.append(_encode(vae, [edit.before for edit in edits], device))
        after.append(_encode(vae, [edit.after for edit in edits], device))
        edit_texts += [edit.text for edit in edits]
    made = LatentSet(
        scenes=torch.cat(scenes),
        chance=torch.from_numpy(np.stack(chance)),
        token_ids=tokenize(texts).reshape(num_scenes, NUM_CAPTIONS, -1),
        is_open=torch.from_numpy(np.array(is_open)),
        before=torch.cat(before) if before else torch.empty(0),
        after=torch.cat(after) if after else torch.empty(0),
        edit_token_ids=tokenize(edit_texts) if edit_texts else torch.empty(0),
    )
    _log.info(
        "latents: %d scenes and %d edits of %d pixels, mean %.2f, deviation %.2f",
        *(num_scenes, num_edits, side, made.scenes.float().mean(), made.scenes.float().std()),
    )
    beside = path.with_suffix(".partial")
    torch.save(_fields(made), beside)
    beside.replace(path)
    return made


def _fields(made: LatentSet) -> dict[str, Any]:
    return asdict(made)


@torch.inference_mode()
def _encode(
    vae: nn.Module, pictures: list[NDArray[np.uint8]], device: torch.device
) -> torch.Tensor:
    images = torch.from_numpy(np.stack(pictures)).to(device).permute(0, 3, 1, 2)
    images = (images.float() / 127.5 - 1).contiguous(memory_format=torch.channels_last)
    latents: torch.Tensor = vae.encode(images).latents  # type: ignore[operator]
    return latents.half().cpu().contiguous()
