"""Models with random weights and the structure of real ones, a few ten thousand weights each."""

from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

import torch

from lpnode.model.diffusion_model import (
    DiffusionModel,
    Embedding,
    ModelFamily,
    ModelTraits,
    Prediction,
)

if TYPE_CHECKING:
    from lpnode.pipeline.backend.onnx_networks import GraphCache

NUM_TOKENS, TEXT_WIDTH = 8, 16
SIDE = 64
STRUCTURES = ("sd15", "sd21", "sdxl", "sd15-kl", "sdxl-kl")
"""Families, with TAESD's kind of VAE or with a KL one."""
_FIRST_SEED = 4
"""With the ones below, some pictures are black all over."""


class LetterEncoder:
    """A token a letter, each with a fixed random embedding; counts the texts it has encoded."""

    def __init__(self) -> None:
        generator = torch.Generator().manual_seed(11)
        self._table = torch.randn(256, TEXT_WIDTH, generator=generator)
        self.num_encoded = 0
        self.text_models: Sequence[torch.nn.Module] = ()

    def encode(self, texts: Sequence[str]) -> Embedding:
        self.num_encoded += len(texts)
        tokens = torch.zeros(len(texts), NUM_TOKENS, TEXT_WIDTH)
        for row, text in enumerate(texts):
            for place, byte in enumerate(text.encode()[:NUM_TOKENS]):
                tokens[row, place] = self._table[byte]
        return Embedding(tokens)

    def unload(self) -> None:
        self.num_encoded = 0


class TwoEncoders(LetterEncoder):
    """SDXL's kind: the tokens of two encoders side by side, and the second's pooled embedding."""

    def encode(self, texts: Sequence[str]) -> Embedding:
        first = super().encode(texts).tokens
        second = first.flip(-1) * 0.5
        return Embedding(torch.cat([first, second], dim=-1), second.sum(1))


def tiny_model(structure: str = "sd15", *, seed: int = 0) -> DiffusionModel:
    """A model of one of ``STRUCTURES``, float32; another seed gives other weights."""
    family, _, vae_kind = structure.partition("-")
    with torch.random.fork_rng():
        torch.manual_seed(_FIRST_SEED + seed)
        unet, traits = _unet(family)
        vae = _kl_vae(family) if vae_kind == "kl" else _tiny_vae()
        for network in (unet, vae):
            # Biases and norms begin as zeros and ones, which would hide a mix-up of tensors.
            for parameter in network.parameters():
                if parameter.dim() == 1:
                    parameter.data.add_(0.1 * torch.randn_like(parameter))
    is_kl = vae_kind == "kl"
    scale = 1.0 if not is_kl else 0.13025 if family == "sdxl" else 0.18215
    return DiffusionModel(
        name=f"tiny-{structure}",
        traits=ModelTraits(
            family=ModelFamily(family),
            is_tiny_vae=not is_kl,
            latent_scale=scale,
            num_text_tokens=NUM_TOKENS,
            native_size=SIDE,
            **traits,
        ),
        unet=unet.eval().requires_grad_(False),
        vae=vae.eval().requires_grad_(False),
        prompt_encoder=TwoEncoders() if family == "sdxl" else LetterEncoder(),
        weights_sha256={"unet": f"{seed:064x}", "vae": f"{seed:064x}"},
        scheduler_config={},
    )


@cache
def graphs_of(structure: str) -> "GraphCache":
    """Its graphs for the whole run: tracing a UNet takes longer than most tests of one."""
    from lpnode.pipeline.backend.onnx_networks import GraphCache

    return GraphCache()


def _unet(family: str) -> tuple[torch.nn.Module, dict[str, Any]]:
    from diffusers import UNet2DConditionModel

    common: dict[str, Any] = {
        "sample_size": SIDE // 8,
        "block_out_channels": (8, 16),
        "layers_per_block": 1,
        "norm_num_groups": 4,
    }
    if family == "sdxl":
        time_width, width = 4, 2 * TEXT_WIDTH
        unet = UNet2DConditionModel(
            **common,
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
            attention_head_dim=(1, 2),
            transformer_layers_per_block=(1, 2),
            cross_attention_dim=width,
            use_linear_projection=True,
            addition_embed_type="text_time",
            addition_time_embed_dim=time_width,
            projection_class_embeddings_input_dim=TEXT_WIDTH + 6 * time_width,
        )
        return unet, {"text_width": width, "pooled_width": TEXT_WIDTH}
    unet = UNet2DConditionModel(
        **common,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        attention_head_dim=8 if family == "sd15" else (1, 2),
        cross_attention_dim=TEXT_WIDTH,
        use_linear_projection=family == "sd21",
    )
    prediction = Prediction.V if family == "sd21" else Prediction.EPSILON
    return unet, {"text_width": TEXT_WIDTH, "prediction": prediction}


def _tiny_vae() -> torch.nn.Module:
    from diffusers import AutoencoderTiny

    return AutoencoderTiny(
        encoder_block_out_channels=(8,) * 4,
        decoder_block_out_channels=(8,) * 4,
        num_encoder_blocks=(1, 1, 1, 1),
        num_decoder_blocks=(1, 1, 1, 1),
    )


def _kl_vae(family: str) -> torch.nn.Module:
    from diffusers import AutoencoderKL

    return AutoencoderKL(
        block_out_channels=(4, 4, 8, 8),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        layers_per_block=1,
        norm_num_groups=2,
        latent_channels=4,
        scaling_factor=0.13025 if family == "sdxl" else 0.18215,
    )
