"""What tensors are called in checkpoints of the original Stable Diffusion code.

Each function goes from a name in diffusers' or transformers' module to the checkpoint's, so that a
header alone shows what is missing, what is too much, and what has another shape.
Source: the published checkpoints of SD 1.5, 2.1 and SDXL, whose modules are those of CompVis'
latent-diffusion and Stability's generative-models, and of OpenCLIP for the larger text encoders.
"""

import re
from collections.abc import Callable, Mapping

import torch

from lpnode.model.weights import Stored

UNET_PREFIX = "model.diffusion_model."
VAE_PREFIX = "first_stage_model."

_UNET_OUTSIDE: Mapping[str, str] = {
    "conv_in": "input_blocks.0.0",
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "add_embedding.linear_1": "label_emb.0.0",
    "add_embedding.linear_2": "label_emb.0.2",
    "conv_norm_out": "out.0",
    "conv_out": "out.2",
}
_UNET_RESNET: Mapping[str, str] = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
}
_VAE_LAYERS: Mapping[str, str] = {
    "conv_norm_out": "norm_out",
    "conv_shortcut": "nin_shortcut",
    "group_norm": "norm",
    "to_q": "q",
    "to_k": "k",
    "to_v": "v",
    "to_out.0": "proj_out",
}
_OPEN_CLIP_OUTSIDE: Mapping[str, str] = {
    "embeddings.token_embedding.weight": "token_embedding.weight",
    "embeddings.position_embedding.weight": "positional_embedding",
    "final_layer_norm.weight": "ln_final.weight",
    "final_layer_norm.bias": "ln_final.bias",
}
_OPEN_CLIP_LAYERS: Mapping[str, str] = {
    "layer_norm1": "ln_1",
    "layer_norm2": "ln_2",
    "mlp.fc1": "mlp.c_fc",
    "mlp.fc2": "mlp.c_proj",
    "self_attn.out_proj": "attn.out_proj",
}
_THIRDS = ("q_proj", "k_proj", "v_proj")
_BLOCK = re.compile(
    r"(down|up)_blocks\.(\d+)\.(resnets|attentions|downsamplers|upsamplers)\.(\d+)\.(.+)"
)
_MID = re.compile(r"mid_block\.(resnets|attentions)\.(\d+)\.(.+)")


class UnetNames:
    """A UNet's names, which the original numbers through all levels.

    Args:
        layers_per_block: resnets on the way down of each level.
        has_attention: of each level, from the outermost inwards.
    """

    def __init__(self, layers_per_block: int, has_attention: tuple[bool, ...]) -> None:
        self._stride = layers_per_block + 1
        self._has_attention = has_attention

    def __call__(self, name: str) -> Stored:
        """Where the tensor ``name`` of a ``UNet2DConditionModel`` is."""
        return Stored(UNET_PREFIX + self.original(name))

    def original(self, name: str) -> str:
        """The name of a tensor or layer within the original UNet."""
        if block := _BLOCK.fullmatch(name):
            way, level, kind, number, rest = block.groups()
            return self._in_block(way, int(level), kind, int(number), rest)
        if mid := _MID.fullmatch(name):
            kind, number, rest = mid.groups()
            place = 1 if kind == "attentions" else 2 * int(number)
            return f"middle_block.{place}.{_resnet(kind, rest)}"
        for ours, theirs in _UNET_OUTSIDE.items():
            if name == ours or name.startswith(f"{ours}."):
                return theirs + name.removeprefix(ours)
        return name

    def _in_block(self, way: str, level: int, kind: str, number: int, rest: str) -> str:
        inner = _resnet(kind, rest)
        if way == "down":
            first = 1 + level * self._stride
            if kind == "downsamplers":
                sampler = rest.replace("conv", "op", 1)
                return f"input_blocks.{first + self._stride - 1}.0.{sampler}"
            return f"input_blocks.{first + number}.{int(kind == 'attentions')}.{inner}"
        first = level * self._stride
        if kind == "upsamplers":
            # It is the last thing in the level's last block, behind the attention if there is one.
            place = 1 + self._has_attention[-1 - level]
            return f"output_blocks.{first + self._stride - 1}.{place}.{rest}"
        return f"output_blocks.{first + number}.{int(kind == 'attentions')}.{inner}"


class VaeNames:
    """The names of an ``AutoencoderKL``; the original counts the decoder's levels from inside."""

    def __init__(self, num_levels: int) -> None:
        self._num_levels = num_levels

    def __call__(self, name: str) -> Stored:
        """Where the tensor ``name`` is; attention's layers were convolutions of one pixel."""
        half, _, rest = name.partition(".")
        stored = f"{VAE_PREFIX}{half}.{self._within(rest)}"
        is_linear = ".attentions." in name and name.endswith("weight") and "group_norm" not in name
        return Stored(stored, _without_pixels) if is_linear else Stored(stored)

    def _within(self, name: str) -> str:
        if block := _BLOCK.fullmatch(name):
            way, level, kind, number, rest = block.groups()
            place = int(level) if way == "down" else self._num_levels - 1 - int(level)
            if kind in {"downsamplers", "upsamplers"}:
                return f"{way}.{place}.{way}sample.{rest}"
            return f"{way}.{place}.block.{number}.{_renamed(rest, _VAE_LAYERS)}"
        if mid := _MID.fullmatch(name):
            kind, number, rest = mid.groups()
            place_name = "attn" if kind == "attentions" else "block"
            return f"mid.{place_name}_{int(number) + 1}.{_renamed(rest, _VAE_LAYERS)}"
        return _renamed(name, _VAE_LAYERS)


class OpenClipNames:
    """The names of an OpenCLIP text encoder, below ``prefix``.

    Args: is_projected: names are those of a ``CLIPTextModelWithProjection``.
    """

    def __init__(self, prefix: str, *, is_projected: bool) -> None:
        self._prefix = prefix
        self._is_projected = is_projected

    def __call__(self, name: str) -> Stored:
        """Where the tensor ``name`` is; attention's three matrices are one, by rows."""
        if name == "text_projection.weight":
            return Stored(f"{self._prefix}text_projection", torch.t)
        name = name.removeprefix("text_model.") if self._is_projected else name
        if outside := _OPEN_CLIP_OUTSIDE.get(name):
            return Stored(self._prefix + outside)
        layer = name.replace("encoder.layers.", "transformer.resblocks.", 1)
        for number, projection in enumerate(_THIRDS):
            if f".self_attn.{projection}." in layer:
                base, _, kind = layer.partition(f".self_attn.{projection}.")
                return Stored(f"{self._prefix}{base}.attn.in_proj_{kind}", _third(number))
        for ours, theirs in _OPEN_CLIP_LAYERS.items():
            layer = layer.replace(f".{ours}.", f".{theirs}.")
        return Stored(self._prefix + layer)


def _resnet(kind: str, rest: str) -> str:
    return _renamed(rest, _UNET_RESNET) if kind == "resnets" else rest


def _renamed(name: str, layers: Mapping[str, str]) -> str:
    """The name with its layer, which is all but the last word, called as in ``layers``."""
    layer, dot, last = name.rpartition(".")
    return layers.get(layer, layer) + dot + last


def _without_pixels(weight: torch.Tensor) -> torch.Tensor:
    return weight.flatten(1) if weight.ndim > 2 and weight.shape[2:].numel() == 1 else weight


def _third(number: int) -> Callable[[torch.Tensor], torch.Tensor]:
    def take(joined: torch.Tensor) -> torch.Tensor:
        return joined.chunk(3)[number]

    return take
