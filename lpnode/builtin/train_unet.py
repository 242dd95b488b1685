"""Second and third stage: the UNet and the text encoder, on small pictures, then on large ones."""

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
        timestep_power: plain diffusion's timesteps are 999·u^power, u uniform in [0, 1]: below 1,
            noisy ones come more often.
        share_of_starts: of a batch, rows that start from nothing but noise.
        share_of_edits: rows that change a picture.
        share_of_refinements: rows that start from the model's own first guess, with new noise, as
            the second step of text-to-image does.
    """

    name: str
    options: StageOptions
    side: int
    num_scenes: int
    num_edits: int
    timestep_power: float
    share_of_starts: float
    share_of_edits: float
    share_of_refinements: float


# Small pictures are cheap and teach what words mean; large ones teach edges.
STAGES = (
    UnetStage(
        name="unet-small",
        options=StageOptions(
            num_steps=2000,
            batch_size=64,
            learning_rate=1e-3,
            muon_learning_rate=0.01,
            ema_decay=0.997,
            num_decay_steps=4000,
        ),
        side=64,
        num_scenes=14_000,
        num_edits=5_000,
        timestep_power=0.8,
        share_of_starts=0.3,
        share_of_edits=0.25,
        share_of_refinements=0.1,
    ),
    UnetStage(
        name="unet-large",
        options=StageOptions(
            num_steps=2800,
            batch_size=32,
            learning_rate=1e-3,
            muon_learning_rate=0.006,
            ema_decay=0.998,
            num_warmup_steps=100,
        ),
        side=128,
        num_scenes=10_000,
        num_edits=5_000,
        timestep_power=0.6,
        share_of_starts=0.2,
        share_of_edits=0.3,
        share_of_refinements=0.3,
    ),
)
# Of edits. Below, too little noise is left for anything to change; above, no picture is left.
_EDIT_TIMESTEPS = (240, 920)
_REFINEMENT_TIMESTEPS = (400, 760)
# Captions that are left away, so that guidance has something to compare with.
_SHARE_WITHOUT_CAPTION = 0.1


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
    """``guessed`` are the rows whose noisy latents are still to be made of the model's guess."""

    noisy: torch.Tensor
    clean: torch.Tensor
    timesteps: torch.Tensor
    token_ids: torch.Tensor
    noise: torch.Tensor
    guessed: slice


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

    def velocity_of(
        noisy: torch.Tensor, timesteps: torch.Tensor, token_ids: torch.Tensor
    ) -> torch.Tensor:
        with torch.autocast(device.type, torch.bfloat16):
            velocity: torch.Tensor = denoiser(noisy, timesteps, token_ids)
        return velocity.float()

    def loss_of(step: int, generator: torch.Generator) -> torch.Tensor:
        batch = _draw(stage, latents, empty_ids, generator)
        timesteps, token_ids = batch.timesteps.to(device), batch.token_ids.to(device)
        a, b = signal_and_noise(timesteps)
        noisy, clean = batch.noisy.to(device), batch.clean.to(device)
        rows = batch.guessed
        if rows.start < rows.stop:
            last = torch.full_like(timesteps[rows], LAST_TIMESTEP)
            last_a, last_b = signal_and_noise(last)
            with torch.no_grad():
                guess = last_a * noisy[rows] - last_b * velocity_of(
                    noisy[rows], last, token_ids[rows]
                )
            noisy[rows] = a[rows] * guess + b[rows] * batch.noise[rows].to(device)
        # The velocity from which the frame loop finds exactly the clean picture: x0 = a·x - b·v.
        # Where x = a·x0 + b·noise this is the usual a·noise - b·x0.
        return F.mse_loss(velocity_of(noisy, timesteps, token_ids), (a * noisy - clean) / b)

    return run.run(loss_of)  # type: ignore[return-value]


def _draw(
    stage: UnetStage, latents: LatentSet, empty_ids: torch.Tensor, generator: torch.Generator
) -> _Batch:
    """Rows in this order: refinements, starts, plain diffusion, edits."""
    num_rows = stage.options.batch_size
    num_guessed = int(num_rows * stage.share_of_refinements)
    num_from_noise = num_guessed + int(num_rows * stage.share_of_starts)
    num_edits = int(num_rows * stage.share_of_edits)
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
    timesteps[num_guessed:num_from_noise] = LAST_TIMESTEP
    timesteps[num_scenes:] = torch.randint(*_EDIT_TIMESTEPS, (num_edits,), generator=generator)
    noise = torch.randn(clean.shape, generator=generator)
    a, b = signal_and_noise(timesteps)
    noisy = a * source + b * noise
    noisy[:num_from_noise] = with_chance(noise[:num_from_noise], chance[:num_from_noise])
    if num_guessed:
        timesteps[:num_guessed] = torch.randint(
            *_REFINEMENT_TIMESTEPS, (num_guessed,), generator=generator
        )
        noise[:num_guessed] = torch.randn(noise[:num_guessed].shape, generator=generator)
    all_ids = torch.cat([token_ids, latents.edit_token_ids[edited]])
    return _Batch(noisy, clean, timesteps, all_ids, noise, slice(0, num_guessed))
