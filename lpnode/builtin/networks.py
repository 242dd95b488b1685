"""The shipped model's three networks, with random weights, and how they are stored."""

from typing import Any

from torch import nn

TEXT_WIDTH = 128
NUM_TEXT_TOKENS = 24
LATENT_CHANNELS = 4
PIXELS_PER_LATENT = 8


def make_vae() -> nn.Module:
    """A TAESD with narrower sides: 8 pixels a latent, 4 channels, decoder wider than encoder."""
    from diffusers import AutoencoderTiny

    vae: nn.Module = _untyped(AutoencoderTiny)(
        encoder_block_out_channels=(24,) * 4,
        decoder_block_out_channels=(32,) * 4,
        num_encoder_blocks=(1, 1, 1, 2),
        num_decoder_blocks=(2, 2, 1, 1),
        latent_channels=LATENT_CHANNELS,
    )
    return vae


def make_text_encoder(num_tokens: int) -> nn.Module:
    """A CLIP text encoder of two layers; the last two tokens start and end a text."""
    from transformers import CLIPTextConfig, CLIPTextModel

    config = CLIPTextConfig(
        vocab_size=num_tokens,
        hidden_size=TEXT_WIDTH,
        intermediate_size=4 * TEXT_WIDTH,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=NUM_TEXT_TOKENS,
        projection_dim=TEXT_WIDTH,
        bos_token_id=num_tokens - 2,
        eos_token_id=num_tokens - 1,
        pad_token_id=num_tokens - 1,
    )
    return CLIPTextModel(config)


def make_unet() -> nn.Module:
    """Two levels; the text comes in by attention where a cell is 16 pixels wide.

    What the text is as a whole is also added to the timestep's embedding, which every layer sees:
    with attention alone, shapes take many times as long to learn.
    """
    from diffusers import UNet2DConditionModel

    unet: nn.Module = _untyped(UNet2DConditionModel)(
        sample_size=16,
        in_channels=LATENT_CHANNELS,
        out_channels=LATENT_CHANNELS,
        block_out_channels=(64, 128),
        layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=TEXT_WIDTH,
        # The number of heads, in spite of its name.
        attention_head_dim=4,
        norm_num_groups=16,
        addition_embed_type="text",
        addition_embed_type_num_heads=4,
    )
    return unet


def _untyped(kind: Any) -> Any:
    """diffusers' classes have no types of their own, and aren't known as modules."""
    return kind
