"""Models with the networks of SD-Turbo and of SD 1.5, and random weights: speed needs no others."""

from collections.abc import Sequence

import torch

from lpnode.model.diffusion_model import (
    DiffusionModel,
    Embedding,
    ModelFamily,
    ModelTraits,
)

_NUM_TOKENS = 77
_UNETS: dict[str, tuple[ModelFamily, dict[str, object]]] = {
    "sd-turbo": (
        ModelFamily.SD21,
        {
            "cross_attention_dim": 1024,
            "attention_head_dim": (5, 10, 20, 20),
            "use_linear_projection": True,
        },
    ),
    "sd15": (ModelFamily.SD15, {"cross_attention_dim": 768, "attention_head_dim": 8}),
}
SIZES = tuple(_UNETS)


class RandomPrompts:
    """An embedding of random numbers for any text, always the same for the same text."""

    text_models: Sequence[torch.nn.Module] = ()

    def __init__(self, width: int, device: torch.device) -> None:
        self._width = width
        self._device = device

    def encode(self, texts: Sequence[str]) -> Embedding:
        rows = [
            torch.randn(
                _NUM_TOKENS,
                self._width,
                generator=torch.Generator().manual_seed(sum(text.encode())),
            )
            for text in texts
        ]
        return Embedding(torch.stack(rows).to(self._device))

    def unload(self) -> None:
        """There is nothing to unload."""


def random_model(size: str, device: torch.device, dtype: torch.dtype) -> DiffusionModel:
    """UNet and TAESD made on ``device``; a second's work on a GPU, minutes on a processor."""
    from diffusers import AutoencoderTiny, UNet2DConditionModel

    family, options = _UNETS[size]
    torch.manual_seed(1)
    with torch.device(device):
        unet = UNet2DConditionModel(sample_size=64, **options).to(dtype).eval()
        vae = AutoencoderTiny().to(dtype).eval()
    width = int(unet.config.cross_attention_dim)
    return DiffusionModel(
        name=f"random {size}",
        traits=ModelTraits(family=family, is_turbo=size == "sd-turbo", text_width=width),
        unet=unet.requires_grad_(False),
        vae=vae.requires_grad_(False),
        prompt_encoder=RandomPrompts(width, device),
        weights_sha256={"unet": f"random {size}", "vae": "random"},
        scheduler_config={},
    )
