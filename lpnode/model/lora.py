"""LoRAs, fused into a model's weights when it is loaded: nothing of them is left for a frame."""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from lpnode.errors import ModelError
from lpnode.model.assemble import TEXT_MODEL
from lpnode.model.ldm_names import UnetNames
from lpnode.model.safetensors_file import SafetensorsFile
from lpnode.model.weights import is_finite

_SHOWN = 5

# Endings of tensor names, by what they are: kohya's, peft's, and the two of diffusers.
_PARTS: Mapping[str, str] = {
    "lora_down.weight": "down",
    "lora_up.weight": "up",
    "lora_A.weight": "down",
    "lora_B.weight": "up",
    "lora.down.weight": "down",
    "lora.up.weight": "up",
    "lora_linear_layer.down.weight": "down",
    "lora_linear_layer.up.weight": "up",
    "lora_A.default.weight": "down",
    "lora_B.default.weight": "up",
    "alpha": "alpha",
}
# What is no product of two matrices; by a part of the names.
_OTHER_KINDS: Mapping[str, str] = {
    "dora_scale": "DoRA",
    "hada_w": "LoHa",
    "lokr_w": "LoKr",
    "lora_mid": "Tucker-decomposed LoRA",
}
_OLD_DIFFUSERS = re.compile(r"(.*)\.processor\.(to_(?:q|k|v|out))_lora\.(down|up)\.weight")

# What a tensor name begins with, by network: 0 is the UNet, 1 and 2 the text encoders.
_KOHYA = {"lora_unet_": 0, "lora_te_": 1, "lora_te1_": 1, "lora_te2_": 2}
_DOTTED = {"unet.": 0, "text_encoder.": 1, "text_encoder_2.": 2, "base_model.model.": 0}


@dataclass(slots=True)
class _Update:
    """up·down of one layer; ``alpha`` None stands for the rank."""

    tensors: dict[str, torch.Tensor] = field(default_factory=dict)

    def matrix(self, shape: torch.Size, where: str) -> torch.Tensor:
        """What is added to a weight of ``shape`` at strength 1, float32. Raises: ModelError."""
        down, up = self.tensors.get("down"), self.tensors.get("up")
        if down is None or up is None:
            raise ModelError(f"{where}: has only one of the two matrices of a LoRA")
        rank = down.shape[0]
        alpha = self.tensors.get("alpha")
        scale = 1.0 if alpha is None else float(alpha) / rank
        delta = up.float().flatten(1) @ down.float().flatten(1)
        if up.shape[1] != rank or delta.numel() != shape.numel() or up.shape[0] != shape[0]:
            raise ModelError(
                f"{where}: {tuple(up.shape)} times {tuple(down.shape)} does not fit a weight of "
                f"{tuple(shape)}; the LoRA was made for another model"
            )
        return scale * delta.view(shape)


def fuse(
    path: Path, strength: float, unet: torch.nn.Module, text_models: Iterable[torch.nn.Module]
) -> None:
    """Adds a LoRA to weights: W += strength · alpha / rank · up · down, for convolutions too.

    Kohya's, peft's and diffusers' names are understood, and in kohya's also the names of layers in
    the original code, which most LoRAs for SDXL have.

    Raises: ModelError: names the file, and the tensors that fit no layer; nothing was changed.
    Source: Hu et al., arXiv 2106.09685, section 4.1.
    """
    networks = [unet, *text_models]
    layers = [_layers(network) for network in networks]
    updates: dict[torch.nn.Module, tuple[str, _Update]] = {}
    lost: list[str] = []
    file = SafetensorsFile(path)
    _check_kind(file)
    for name, tensor in file.tensors():
        layer, part = _target(name, layers)
        if layer is None:
            lost.append(name)
        else:
            updates.setdefault(layer, (name, _Update()))[1].tensors[part] = tensor
    if lost or not updates:
        shown = ", ".join(lost[:_SHOWN]) + (", …" if len(lost) > _SHOWN else "")
        raise ModelError(
            f"{path}: {len(lost)} of its tensors fit no layer of the model: "
            f"{shown or 'it is empty'}; the LoRA was made for another model"
        )
    weights = {
        layer: update.matrix(_weight(layer).shape, f"{path}: {name}")
        for layer, (name, update) in updates.items()
    }
    for layer, delta in weights.items():
        weight = _weight(layer).detach()
        fused = (weight.float() + strength * delta.to(weight.device)).to(weight.dtype)
        if not is_finite(fused):
            raise ModelError(
                f"{path}: {updates[layer][0]}: gives weights that {weight.dtype} cannot hold at "
                f"strength {strength:g}; the file is damaged, or the strength is too large"
            )
        weights[layer] = fused
    for layer, fused in weights.items():
        layer.weight = torch.nn.Parameter(fused, requires_grad=False)


def _check_kind(file: SafetensorsFile) -> None:
    for mark, kind in _OTHER_KINDS.items():
        for name in file.entries:
            if mark in name:
                raise ModelError(f"{file.path}: {name}: is of a {kind}, which is not supported")


def _layers(network: torch.nn.Module) -> dict[str, torch.nn.Module]:
    """Layers with a weight, by all names: dotted ones, and kohya's, which have no dots."""
    named = {
        alias: layer
        for name, layer in network.named_modules()
        if isinstance(getattr(layer, "weight", None), torch.Tensor)
        for alias in _aliases(name, network)
    }
    return named | {name.replace(".", "_"): layer for name, layer in named.items()}


def _aliases(name: str, network: Any) -> Iterator[str]:
    yield name
    if type(network).__name__ == "UNet2DConditionModel":
        levels = tuple("CrossAttn" in kind for kind in network.config.down_block_types)
        original = UnetNames(network.config.layers_per_block, levels).original(f"{name}.weight")
        yield original.removesuffix(".weight")
    elif not name.startswith(TEXT_MODEL):
        # LoRAs have the name that CLIP's encoder had within transformers before 5.6.
        yield TEXT_MODEL + name


def _target(
    name: str, layers: list[dict[str, torch.nn.Module]]
) -> tuple[torch.nn.Module | None, str]:
    """The layer that a tensor belongs to, and what of the layer's update it is."""
    if old := _OLD_DIFFUSERS.fullmatch(name):
        base, projection, part = old.groups()
        dotted = f"{base}.{projection}" + (".0" if projection == "to_out" else "")
    else:
        ending = next((end for end in _PARTS if name.endswith(f".{end}")), None)
        if ending is None:
            return None, ""
        dotted, part = name[: -len(ending) - 1], _PARTS[ending]
    for prefixes in (_KOHYA, _DOTTED):
        for prefix, number in prefixes.items():
            if dotted.startswith(prefix) and number < len(layers):
                return layers[number].get(dotted.removeprefix(prefix)), part
    return layers[0].get(dotted), part


def _weight(layer: torch.nn.Module) -> torch.Tensor:
    weight = layer.weight
    assert isinstance(weight, torch.Tensor)  # ``_layers`` takes no others
    return weight
