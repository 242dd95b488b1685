"""Configurations of networks, told from the names and shapes in an original checkpoint's header.

Nothing is looked up online, and checkpoints with fewer or narrower layers than the published ones
are understood too. What shapes do not tell (heads, activations, scales) is the family's.
Source: the published configurations of SD 1.5, SD 2.1 and SDXL.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lpnode.model.diffusion_model import ModelFamily
from lpnode.model.ldm_names import UNET_PREFIX, VAE_PREFIX, OpenClipNames, UnetNames, VaeNames

Shapes = Mapping[str, tuple[int, ...]]
"""Of the tensors in a file, by name."""

_HEAD_WIDTH = 64
_NUM_HEADS_SD15 = 8
_NUM_SIZE_IDS = 6
_SAMPLE_SIZES = {ModelFamily.SD15: 64, ModelFamily.SD21: 64, ModelFamily.SDXL: 128}
_VAE_SCALES = {ModelFamily.SD15: 0.18215, ModelFamily.SD21: 0.18215, ModelFamily.SDXL: 0.13025}


@dataclass(frozen=True, slots=True)
class _Level:
    """One resolution of a UNet on its way down."""

    channels: int
    num_resnets: int
    depth: int
    """Transformer layers of each attention; 0 without."""


def unet_config(shapes: Shapes, family: ModelFamily) -> tuple[dict[str, Any], UnetNames]:
    """The configuration of the UNet in a checkpoint, and its names.

    Raises: KeyError, IndexError: a tensor that every UNet has is missing.
    """
    within = _below(shapes, UNET_PREFIX)
    levels = _levels(within)
    mid_depth = _depth(within, "middle_block.1.")
    has_attention = tuple(level.depth > 0 for level in levels)
    channels = [level.channels for level in levels]
    projection = next(shape for name, shape in within.items() if name.endswith(".1.proj_in.weight"))
    texts = next(shape for name, shape in within.items() if name.endswith(".attn2.to_k.weight"))
    config: dict[str, Any] = {
        "_class_name": "UNet2DConditionModel",
        "sample_size": _SAMPLE_SIZES[family],
        "in_channels": within["input_blocks.0.0.weight"][1],
        "out_channels": within["out.2.weight"][0],
        "down_block_types": [
            "CrossAttnDownBlock2D" if attention else "DownBlock2D" for attention in has_attention
        ],
        "up_block_types": [
            "CrossAttnUpBlock2D" if attention else "UpBlock2D"
            for attention in reversed(has_attention)
        ],
        "block_out_channels": channels,
        "layers_per_block": levels[0].num_resnets,
        # A level without attention has no depth; the last one's is also the middle's.
        "transformer_layers_per_block": [level.depth or mid_depth for level in levels],
        "cross_attention_dim": texts[1],
        "use_linear_projection": len(projection) == 2,
        # diffusers has the number of heads under this name.
        "attention_head_dim": _NUM_HEADS_SD15
        if family is ModelFamily.SD15
        else [_heads(width) for width in channels],
    }
    if family is ModelFamily.SDXL:
        width = within["label_emb.0.0.weight"][1]
        pooled = shapes["conditioner.embedders.1.model.text_projection"][1]
        config |= {
            "addition_embed_type": "text_time",
            "addition_time_embed_dim": (width - pooled) // _NUM_SIZE_IDS,
            "projection_class_embeddings_input_dim": width,
        }
    return config, UnetNames(levels[0].num_resnets, has_attention)


def vae_config(shapes: Shapes, family: ModelFamily) -> tuple[dict[str, Any], VaeNames]:
    """The configuration of the ``AutoencoderKL`` in a checkpoint, and its names.

    Raises: KeyError: a tensor that every autoencoder has is missing.
    """
    within = _below(shapes, VAE_PREFIX)
    num_levels = _count(within, r"encoder\.down\.(\d+)\.")
    config = {
        "_class_name": "AutoencoderKL",
        "block_out_channels": [
            within[f"encoder.down.{level}.block.0.conv1.weight"][0] for level in range(num_levels)
        ],
        "layers_per_block": _count(within, r"encoder\.down\.0\.block\.(\d+)\."),
        "down_block_types": ["DownEncoderBlock2D"] * num_levels,
        "up_block_types": ["UpDecoderBlock2D"] * num_levels,
        "latent_channels": within["decoder.conv_in.weight"][1],
        "scaling_factor": _VAE_SCALES[family],
    }
    return config, VaeNames(num_levels)


def clip_config(shapes: Shapes, prefix: str) -> dict[str, Any]:
    """The configuration of an OpenAI CLIP text encoder whose names, below ``prefix``, are ours.

    Raises: KeyError: a tensor that every encoder has is missing.
    """
    within = _below(shapes, prefix)
    return _text_config(
        words=within["embeddings.token_embedding.weight"],
        positions=within["embeddings.position_embedding.weight"],
        inner=within["encoder.layers.0.mlp.fc1.weight"],
        num_layers=_count(within, r"encoder\.layers\.(\d+)\."),
        activation="quick_gelu",
    )


def open_clip_config(
    shapes: Shapes, prefix: str, *, is_projected: bool
) -> tuple[dict[str, Any], OpenClipNames]:
    """The configuration of an OpenCLIP text encoder, and its names.

    Without projection it is SD 2.1's, which leaves the last layer out.
    Raises: KeyError: a tensor that every encoder has is missing.
    """
    within = _below(shapes, prefix)
    config = _text_config(
        words=within["token_embedding.weight"],
        positions=within["positional_embedding"],
        inner=within["transformer.resblocks.0.mlp.c_fc.weight"],
        num_layers=_count(within, r"transformer\.resblocks\.(\d+)\.") - (not is_projected),
        activation="gelu",
    )
    if is_projected:
        config["projection_dim"] = within["text_projection"][1]
    return config, OpenClipNames(prefix, is_projected=is_projected)


def _text_config(
    *,
    words: tuple[int, ...],
    positions: tuple[int, ...],
    inner: tuple[int, ...],
    num_layers: int,
    activation: str,
) -> dict[str, Any]:
    return {
        "vocab_size": words[0],
        "hidden_size": words[1],
        "intermediate_size": inner[0],
        "max_position_embeddings": positions[0],
        "num_hidden_layers": num_layers,
        "num_attention_heads": _heads(words[1]),
        "hidden_act": activation,
        # CLIP's last two words begin and end a text.
        "bos_token_id": words[0] - 2,
        "eos_token_id": words[0] - 1,
    }


def _below(shapes: Shapes, prefix: str) -> Shapes:
    return {
        name.removeprefix(prefix): shape
        for name, shape in shapes.items()
        if name.startswith(prefix)
    }


def _levels(within: Shapes) -> list[_Level]:
    levels: list[_Level] = []
    channels = num_resnets = depth = 0
    for number in range(1, _count(within, r"input_blocks\.(\d+)\.")):
        block = f"input_blocks.{number}."
        if f"{block}0.op.weight" in within:
            levels.append(_Level(channels, num_resnets, depth))
            num_resnets = depth = 0
        else:
            channels = within[f"{block}0.out_layers.3.weight"][0]
            num_resnets += 1
            depth = _depth(within, f"{block}1.")
    return [*levels, _Level(channels, num_resnets, depth)]


def _depth(within: Shapes, attention: str) -> int:
    return _count(within, re.escape(attention) + r"transformer_blocks\.(\d+)\.")


def _count(names: Shapes, pattern: str) -> int:
    """How many there are of what ``pattern`` numbers from 0."""
    numbers = {int(found[1]) for name in names if (found := re.match(pattern, name))}
    return len(numbers)


def _heads(width: int) -> int:
    return max(1, width // _HEAD_WIDTH)
