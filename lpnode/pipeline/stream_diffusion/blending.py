"""Mixtures of prompts and of seeds. Source: streamdiffusion.md sections 15.2 and 15.3."""

import math
from collections.abc import Sequence
from enum import StrEnum

import torch

from lpnode.errors import InvalidArgument

PARALLEL_RAD = 1e-6
"""Below this angle two tensors count as parallel, and slerp falls back to a straight line."""


class Interpolation(StrEnum):
    """How two of something are mixed; more than two are always mixed linearly."""

    LINEAR = "linear"
    SLERP = "slerp"


def normalised(weights: Sequence[float]) -> list[float]:
    """Weights that sum to 1. Raises: InvalidArgument: they sum to nothing."""
    total = sum(weights)
    if total <= 0.0:
        raise InvalidArgument(f"weights must have a positive sum, got {total:g}")
    return [weight / total for weight in weights]


def blend_prompts(
    embeddings: Sequence[torch.Tensor], weights: Sequence[float], method: Interpolation
) -> torch.Tensor:
    """Mixes encoded prompts of one shape; slerp's place between two is the second's weight."""
    if method is Interpolation.SLERP and len(embeddings) == 2:
        return slerp(embeddings[0], embeddings[1], weights[1])
    return _weighted_sum(embeddings, weights)


def blend_noise(
    noises: Sequence[torch.Tensor],
    weights: Sequence[float],
    method: Interpolation,
    *,
    keeps_norm: bool,
) -> torch.Tensor:
    """Mixes the noise of several seeds.

    ``keeps_norm`` gives a linear mixture of several the mean of their norms: the sum of unlike
    noises is shorter than any of them, and the model was trained on noise of full length.
    """
    if method is Interpolation.SLERP and len(noises) == 2:
        return slerp(noises[0], noises[1], weights[1])
    mixed = _weighted_sum(noises, weights)
    if keeps_norm and len(noises) > 1:
        mean_norm = torch.stack([noise.norm() for noise in noises]).mean()
        mixed = mixed * (mean_norm / mixed.norm().clamp_min(torch.finfo(mixed.dtype).tiny))
    return mixed


def slerp(first: torch.Tensor, second: torch.Tensor, place: float) -> torch.Tensor:
    """Goes from ``first`` (0) to ``second`` (1) on the great circle; lengths are not normalised."""
    if place <= 0.0:
        return first
    if place >= 1.0:
        return second
    cosine = (first / first.norm() * (second / second.norm())).sum().clamp(-1.0, 1.0)
    angle = float(torch.acos(cosine))
    if not angle >= PARALLEL_RAD:  # also where one of them is all zeros
        return torch.lerp(first, second, place)
    near, far = math.sin((1.0 - place) * angle), math.sin(place * angle)
    return (near * first + far * second) / math.sin(angle)


def _weighted_sum(tensors: Sequence[torch.Tensor], weights: Sequence[float]) -> torch.Tensor:
    mixed = tensors[0] * weights[0]
    for tensor, weight in zip(tensors[1:], weights[1:], strict=True):
        mixed = mixed + tensor * weight
    return mixed
