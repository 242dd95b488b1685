"""A loaded diffusion model: networks in memory, and what a frame loop must know of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Protocol

import torch


class ModelFamily(StrEnum):
    """Which networks a model has, as live.md section 7.3 names them."""

    SD15 = "sd15"
    SD21 = "sd21"
    SDXL = "sdxl"


class Prediction(StrEnum):
    """What the UNet's output means, by the name that ``scheduler_config.json`` has for it."""

    EPSILON = "epsilon"
    V = "v_prediction"


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelTraits:
    """What a frame loop must know of a model. Source: streamdiffusion.md sections 1, 4 and 10."""

    family: ModelFamily
    prediction: Prediction = Prediction.EPSILON
    is_turbo: bool = False
    """Trained for one step: text-to-image takes section 8's branch, and no LCM-LoRA is fused."""
    is_tiny_vae: bool = True
    """TAESD's kind, whose encoder is deterministic; otherwise a posterior is sampled."""
    latent_scale: float = 1.0
    """Latents are multiplied by it after encoding and divided before decoding."""
    latent_channels: int = 4
    pixels_per_latent: int = 8
    num_text_tokens: int = 77
    text_width: int = 768
    pooled_width: int | None = None
    """Width of the pooled text embedding; None where the UNet takes none (all but SDXL)."""
    native_size: int = 512
    """Side in pixels of the pictures that the model was trained on."""


@dataclass(frozen=True, slots=True)
class Embedding:
    """Encoded texts: ``tokens`` (N, L, D), ``pooled`` (N, P) or None, on the encoder's device."""

    tokens: torch.Tensor
    pooled: torch.Tensor | None = None


class PromptEncoder(Protocol):
    """Texts to what the UNet is conditioned on."""

    @property
    def text_models(self) -> Sequence[torch.nn.Module]:
        """The text encoders, for LoRAs to be fused into; there may be none."""

    def encode(self, texts: Sequence[str]) -> Embedding:
        """Encodes texts, each cut to ``num_text_tokens``. Never called for a frame."""

    def unload(self) -> None:
        """Returns the memory of the text encoders."""


@dataclass(slots=True)
class DiffusionModel:
    """The networks of one model, in memory and in evaluation mode.

    Attributes:
        unet: a ``diffusers.UNet2DConditionModel``, LoRAs fused.
        vae: a ``diffusers.AutoencoderTiny`` or ``AutoencoderKL``.
        weights_sha256: hex digest of the weights in use by network (``unet``, ``vae``), after LoRA
            fusion: the same weights always give the same digest, on any machine.
        scheduler_config: ``scheduler/scheduler_config.json``, or the family's own.
    """

    name: str
    traits: ModelTraits
    unet: torch.nn.Module
    vae: torch.nn.Module
    prompt_encoder: PromptEncoder
    weights_sha256: Mapping[str, str]
    scheduler_config: Mapping[str, Any]
