"""Third and fourth stage: the UNet and the text encoder, first on small pictures, then on large."""

from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn

from lpnode.builtin.latent_set import LatentSet
from lpnode.builtin.networks import make_text_encoder, make_unet
from lpnode.builtin.noise import LAST_TIMESTEP, signal_and_noise, with_chance
from lpnode.builtin.scene import NUM_CHANCES
from lpnode.builtin.training_run import StageOptions, TrainingRun


@dataclass(frozen=True, slots=True, kw_only=True)
class UnetStage:
    """What one stage of the UNet's training learns from, and how.

    Attributes:
        side: of the pictures, in pixels.
        num_edits: 0 takes those of the stage before.
        spread: of what there is no word for, see ``sample_scene``.
        has_exact_captions: see ``caption``.
        timestep_power: plain diffusion's timesteps are 999·u^power, u uniform in [0, 1]: below 1,
            noisy ones come more often.
        share_of_starts: of a batch, rows that start from nothing but noise.
        weight_of_things: of an error where something stands, against one of plain background.
    """

    name: str
    options: StageOptions
    side: int
    num_scenes: int
    num_edits: int
    spread: float = 1.0
    has_exact_captions: bool = True
    timestep_power: float = 0.6
    share_of_starts: float = 0.25
    weight_of_things: float = 1.0


# Small pictures are cheap and teach what words mean. The second stage moves on to large ones. In
# the third, shapes hardly vary but for what a caption says: only then does their outline, which is
# little of a picture's error, get learnt in minutes.
STAGES = (
    UnetStage(
        name="unet-small",
        options=StageOptions(num_steps=1500, batch_size=128, learning_rate=1e-3, ema_decay=0.997),
        side=64,
        num_scenes=24_000,
        num_edits=4_000,
        has_exact_captions=False,
        timestep_power=1.0,
    ),
    UnetStage(
        name="unet-large",
        options=StageOptions(
            num_steps=830,
            batch_size=64,
            learning_rate=1e-3,
            ema_decay=0.997,
            num_decay_steps=2300,
        ),
        side=128,
        num_scenes=14_000,
        num_edits=4_000,
    ),
    UnetStage(
        name="unet-sharp",
        options=StageOptions(
            num_steps=2800, batch_size=32, learning_rate=1e-3, ema_decay=0.998, num_warmup_steps=100
        ),
        side=128,
        num_scenes=8_000,
        num_edits=0,
        spread=0.3,
        share_of_starts=0.35,
        weight_of_things=4.0,
    ),
)
# Of a batch: rows that change a picture.
_SHARE_OF_EDITS = 0.15
# Below, too little noise is left for anything to change; above, no picture is left.
_EDIT_TIMESTEPS = (240, 920)
# Captions that are left away, so that guidance has something to compare with.
_SHARE_WITHOUT_CAPTION = 0.1
# Difference of a latent from the background that is more than the autoencoder's own noise.
_STANDS_OUT = 0.5


class Denoiser(nn.Module):
    """The UNet with its text encoder: they learn together."""

    def __init__(self, num_tokens: int) -> None:
        super().__init__()
        self.unet = make_unet()
        self.text_encoder = make_text_encoder(num_tokens)

    def forward(
        self, latents: torch.Tensor, timesteps: torch.Tensor, token_ids: torch.Tensor
    ) -> torch.Tensor:
        """(B, 4, h, w), (B,), (B, 24) → velocity (B, 4, h, w)."""
        tokens = self.text_encoder(token_ids).last_hidden_state
        velocity: torch.Tensor = self.unet(latents, timesteps, tokens).sample
        return velocity


@dataclass(frozen=True, slots=True)
class _Batch:
    noisy: torch.Tensor
    clean: torch.Tensor
    timesteps: torch.Tensor
    token_ids: torch.Tensor


def train_denoiser(
    stage: UnetStage,
    denoiser: Denoiser,
    latents: LatentSet,
    empty_ids: torch.Tensor,
    *,
    folder: Path,
    device: torch.device,
    seed: int,
) -> Denoiser:
    """Goes on training ``denoiser``, which is changed; checkpoint ``NAME.pt`` in ``folder``.

    Args: empty_ids: (24,), the token ids of a text without words.
    Returns: the averaged denoiser, on ``device``, in evaluation mode.
    """
    denoiser.to(device)
    run = TrainingRun(stage.name, denoiser, stage.options, folder / f"{stage.name}.pt", seed)

    def loss_of(step: int, generator: torch.Generator) -> torch.Tensor:
        batch = _draw(stage, latents, empty_ids, generator)
        timesteps = batch.timesteps.to(device)
        a, b = signal_and_noise(timesteps)
        noisy, clean = batch.noisy.to(device), batch.clean.to(device)
        with torch.autocast(device.type, torch.bfloat16):
            velocity = denoiser(noisy, timesteps, batch.token_ids.to(device))
        # The velocity from which the frame loop finds exactly the clean picture: x0 = a·x - b·v.
        # Where x = a·x0 + b·noise this is the usual a·noise - b·x0.
        errors = (velocity.float() - (a * noisy - clean) / b).square()
        loss: torch.Tensor = (errors * _weights(clean, stage.weight_of_things)).mean()
        return loss

    return run.run(loss_of)  # type: ignore[return-value]


def _weights(clean: torch.Tensor, weight_of_things: float) -> torch.Tensor:
    """(B, 4, h, w) latents → (B, 1, h, w), larger where something stands and just beside it."""
    background = clean.flatten(2).median(-1).values[..., None, None]
    stands_out = ((clean - background).abs().amax(1, keepdim=True) > _STANDS_OUT).float()
    beside = F.max_pool2d(stands_out, 3, stride=1, padding=1)
    return 1 + (weight_of_things - 1) * beside


def _draw(
    stage: UnetStage, latents: LatentSet, empty_ids: torch.Tensor, generator: torch.Generator
) -> _Batch:
    """Three kinds of rows: plain diffusion, starts from pure noise, edits of a picture."""
    num_rows = stage.options.batch_size
    num_starts = int(num_rows * stage.share_of_starts)
    num_edits = int(num_rows * _SHARE_OF_EDITS)
    num_scenes = num_rows - num_edits

    chosen = torch.randint(len(latents.scenes), (num_scenes,), generator=generator)
    which = torch.randint(latents.token_ids.shape[1], (num_scenes,), generator=generator)
    scenes, token_ids = latents.scenes[chosen].float(), latents.token_ids[chosen, which]
    is_open, chance = latents.is_open[chosen, which], latents.chance[chosen]
    says_nothing = torch.rand(num_scenes, generator=generator) < _SHARE_WITHOUT_CAPTION
    token_ids = torch.where(says_nothing[:, None], empty_ids, token_ids)
    is_open = is_open | says_nothing[:, None]
    chance = torch.where(is_open, chance, torch.randn(num_scenes, NUM_CHANCES, generator=generator))

    edited = torch.randint(len(latents.before), (num_edits,), generator=generator)
    clean = torch.cat([scenes, latents.after[edited].float()])
    source = torch.cat([scenes, latents.before[edited].float()])
    timesteps = torch.randint(LAST_TIMESTEP, (num_rows,), generator=generator)
    shares = (timesteps / LAST_TIMESTEP) ** stage.timestep_power
    timesteps = (shares * LAST_TIMESTEP).round().long()
    timesteps[:num_starts] = LAST_TIMESTEP
    timesteps[num_scenes:] = torch.randint(*_EDIT_TIMESTEPS, (num_edits,), generator=generator)
    noise = torch.randn(clean.shape, generator=generator)
    a, b = signal_and_noise(timesteps)
    noisy = a * source + b * noise
    noisy[:num_starts] = with_chance(noise[:num_starts], chance[:num_starts])
    all_ids = torch.cat([token_ids, latents.edit_token_ids[edited]])
    return _Batch(noisy, clean, timesteps, all_ids)
