"""Pictures from the model as streamdiffusion.md sections 7 and 8 make them, one after the other.

The node's frame loop is elsewhere; this one is for measuring the model, and simple on purpose.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from lpnode.builtin.noise import signal_and_noise
from lpnode.builtin.render import PICTURE_SIDE

STEPS: dict[int, tuple[int, ...]] = {1: (0,), 2: (0, 24), 4: (0, 16, 32, 45)}
"""``t_index_list`` of text-to-image by number of steps."""
_SIGMA_DATA_SQUARED = 0.25
_TIMESTEP_SCALING = 10.0


class Sampler:
    """The networks of a model folder, in float32 on ``device``."""

    def __init__(self, folder: Path, device: str = "cpu") -> None:
        from diffusers import AutoencoderTiny, UNet2DConditionModel
        from transformers import CLIPTextModel, CLIPTokenizer

        self.device = torch.device(device)
        self.tokenizer = CLIPTokenizer.from_pretrained(folder / "tokenizer")
        self.vae = self._ready(AutoencoderTiny, folder / "vae")
        self.unet = self._ready(UNet2DConditionModel, folder / "unet")
        self.text_encoder = self._ready(CLIPTextModel, folder / "text_encoder")

    def _ready(self, kind: Any, folder: Path) -> nn.Module:
        network: nn.Module = kind.from_pretrained(folder)
        return network.float().eval().requires_grad_(False).to(self.device)

    @torch.inference_mode()
    def encode_texts(self, texts: Sequence[str]) -> torch.Tensor:
        """(N, 24, 128), float32."""
        encoded = self.tokenizer(
            list(texts), padding="max_length", truncation=True, return_tensors="pt"
        )
        tokens: torch.Tensor = self.text_encoder(encoded.input_ids.to(self.device))
        return tokens.last_hidden_state  # type: ignore[attr-defined, no-any-return]

    @torch.inference_mode()
    def text_to_image(
        self,
        texts: Sequence[str],
        seeds: Sequence[int],
        steps: Sequence[int],
        side: int = PICTURE_SIDE,
    ) -> NDArray[np.uint8]:
        """One picture a text, each from its own seed: (N, side, side, 3) RGB."""
        generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        latents = _noise(generators, side // 8).to(self.device)
        return self._denoise(latents, texts, generators, steps)

    @torch.inference_mode()
    def image_to_image(
        self,
        pictures: NDArray[np.uint8],
        texts: Sequence[str],
        seeds: Sequence[int],
        steps: Sequence[int],
    ) -> NDArray[np.uint8]:
        """Changes (N, side, side, 3) RGB pictures, starting at the timestep of ``steps[0]``."""
        generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        images = torch.from_numpy(pictures).to(self.device).permute(0, 3, 1, 2).float()
        latents = self.vae.encode(images / 127.5 - 1).latents  # type: ignore[operator]
        a, b = signal_and_noise(_timestep(steps[0]))
        noise = _noise(generators, latents.shape[-1]).to(self.device)
        return self._denoise(a * latents + b * noise, texts, generators, steps)

    def _denoise(
        self,
        latents: torch.Tensor,
        texts: Sequence[str],
        generators: list[torch.Generator],
        steps: Sequence[int],
    ) -> NDArray[np.uint8]:
        tokens = self.encode_texts(texts)
        clean = latents
        for position, index in enumerate(steps):
            timestep = _timestep(index).to(self.device)
            a, b = signal_and_noise(timestep)
            if position:
                noise = _noise(generators, latents.shape[-1]).to(self.device)
                latents = a * clean + b * noise
            velocity = self.unet(latents, timestep, tokens).sample
            scaled = _TIMESTEP_SCALING * float(timestep)
            skip = _SIGMA_DATA_SQUARED / (scaled**2 + _SIGMA_DATA_SQUARED)
            out = scaled / (scaled**2 + _SIGMA_DATA_SQUARED) ** 0.5
            clean = out * (a * latents - b * velocity) + skip * latents
        decoded = self.vae.decode(clean).sample  # type: ignore[operator]
        pixels = ((decoded / 2 + 0.5).clamp(0, 1) * 255).round().to(torch.uint8)
        return np.asarray(pixels.permute(0, 2, 3, 1).cpu().numpy())


def _timestep(index: int) -> torch.Tensor:
    """Of the grid of 50 steps: (1,) int64."""
    return torch.tensor([999 - 20 * index])


def _noise(generators: list[torch.Generator], side: int) -> torch.Tensor:
    return torch.stack([torch.randn((4, side, side), generator=one) for one in generators])
