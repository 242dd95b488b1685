"""First stage: pictures to latents and back."""

import logging
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from lpnode.builtin.clutter import clutter
from lpnode.builtin.networks import make_vae
from lpnode.builtin.render import render
from lpnode.builtin.scene import sample_scene
from lpnode.builtin.training_run import StageOptions, TrainingRun

_log = logging.getLogger(__name__)

OPTIONS = StageOptions(num_steps=6500, batch_size=16, learning_rate=2e-3)
_NUM_PICTURES = 5000
_SHARE_OF_CLUTTER = 0.4
_CROP = 64
# What the UNet makes is never quite a latent that the encoder made.
_LATENT_NOISE = 0.05


def train_autoencoder(
    folder: Path, device: torch.device, seed: int, options: StageOptions = OPTIONS
) -> nn.Module:
    """Trains on crops of scenes and clutter; checkpoint ``autoencoder.pt`` in ``folder``.

    Returns: the averaged autoencoder, on ``device``, in evaluation mode.
    """
    torch.manual_seed(seed)
    vae = make_vae().to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    run = TrainingRun("autoencoder", vae, options, folder / "autoencoder.pt", seed)
    if not run.is_done:
        pictures = _pictures(seed)
        offsets = pictures.shape[-1] - _CROP + 1

        def loss_of(step: int, generator: torch.Generator) -> torch.Tensor:
            chosen = torch.randint(len(pictures), (options.batch_size,), generator=generator)
            corners = torch.randint(offsets, (options.batch_size, 2), generator=generator).tolist()
            crops = [
                pictures[index, :, y : y + _CROP, x : x + _CROP]
                for index, (y, x) in zip(chosen.tolist(), corners, strict=True)
            ]
            images = torch.stack(crops).to(device).float() / 127.5 - 1
            shape = (options.batch_size, 4, _CROP // 8, _CROP // 8)
            noise = torch.randn(shape, generator=generator) * _LATENT_NOISE
            return reconstruction_loss(
                vae, images.contiguous(memory_format=torch.channels_last), noise.to(device)
            )

        run.run(loss_of)
    return run.averaged


def reconstruction_loss(
    vae: nn.Module, images: torch.Tensor, latent_noise: torch.Tensor
) -> torch.Tensor:
    """L1 of pixels and of their differences, and what pulls latents towards mean 0, variance 1.

    Args: images: (B, 3, H, W) in [-1, 1]. latent_noise: (B, 4, H/8, W/8), added before decoding.
    """
    with torch.autocast(images.device.type, torch.bfloat16):
        latents = vae.encode(images).latents  # type: ignore[operator]
        decoded = vae.decode(latents + latent_noise).sample  # type: ignore[operator]
    latents, decoded = latents.float(), decoded.float()
    pixels = F.l1_loss(decoded, images)
    edges = F.l1_loss(decoded.diff(dim=-1), images.diff(dim=-1))
    edges = edges + F.l1_loss(decoded.diff(dim=-2), images.diff(dim=-2))
    mean = latents.mean((0, 2, 3))
    variance = latents.var((0, 2, 3))
    moments = mean.square().mean() + (variance - 1).square().mean()
    loss: torch.Tensor = pixels + 0.5 * edges + 0.1 * moments
    return loss


def _pictures(seed: int) -> torch.Tensor:
    """(N, 3, 128, 128) uint8."""
    rng = np.random.default_rng((seed, 1))
    num_clutter = int(_NUM_PICTURES * _SHARE_OF_CLUTTER)
    scenes = [render(sample_scene(rng), rng=rng) for _ in range(_NUM_PICTURES - num_clutter)]
    others = [clutter(rng) for _ in range(num_clutter)]
    _log.info("autoencoder: drew %d pictures", _NUM_PICTURES)
    return torch.from_numpy(np.stack(scenes + others)).permute(0, 3, 1, 2).contiguous()
