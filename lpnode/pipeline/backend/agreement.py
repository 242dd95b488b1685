"""Whether a backend computes what torch computes, on one frame of random numbers."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from lpnode.model.diffusion_model import DiffusionModel
from lpnode.pipeline.backend.engine_key import NetworkKind
from lpnode.pipeline.backend.networks import Conditioning, Networks, NetworkShapes
from lpnode.pipeline.backend.onnx_trace import example_inputs

MAX_ERROR = 5e-3
"""Largest difference from torch that agrees, as a part of the largest value in torch's output."""
MIN_PSNR_DB = 60.0
"""Least PSNR that agrees, over the range of torch's output; bfloat16 inside has less."""


@dataclass(frozen=True, slots=True)
class Agreement:
    """How far outputs are from torch's, the worst of the three networks.

    Attributes:
        max_error: largest difference, as a part of the largest value in torch's output.
        psnr_db: over the range of torch's output; infinite where nothing differs.
    """

    max_error: float
    psnr_db: float

    @property
    def is_good(self) -> bool:
        """Whether the backend may run the model in torch's place; no if a value is not finite."""
        return self.max_error <= MAX_ERROR and self.psnr_db >= MIN_PSNR_DB


class SampleFrame:
    """What one frame gives to the networks: a picture, and one row for each of ``rows``."""

    def __init__(self, model: DiffusionModel, shapes: NetworkShapes, rows: int) -> None:
        generator = torch.Generator().manual_seed(0)
        size = (shapes.width, shapes.height)
        self._unet, self._encoder, self._decoder = (
            example_inputs(model, kind, size=size, rows=count, generator=generator)
            for kind, count in (
                (NetworkKind.UNET, rows),
                (NetworkKind.VAE_ENCODER, 1),
                (NetworkKind.VAE_DECODER, 1),
            )
        )

    def run(self, networks: Networks) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Encodes, predicts and decodes, in float32; outputs are valid until the next run."""
        unet = self._unet
        conditioning = Conditioning(
            unet["encoder_hidden_states"], unet.get("text_embeds"), unet.get("time_ids")
        )
        return (
            networks.encode(self._encoder["images"], self._encoder.get("noise")),
            networks.predict(unet["sample"], unet["timestep"], conditioning),
            networks.decode(self._decoder["latent"]),
        )


def agreement(outputs: Sequence[torch.Tensor], expected: Sequence[torch.Tensor]) -> Agreement:
    """Compares outputs with torch's, in pairs of one shape."""
    each = [_agreement(*pair) for pair in zip(outputs, expected, strict=True)]
    return Agreement(max(a.max_error for a in each), min(a.psnr_db for a in each))


def _agreement(output: torch.Tensor, expected: torch.Tensor) -> Agreement:
    if not output.isfinite().all():
        return Agreement(math.inf, -math.inf)
    difference = (output - expected).double()
    error = float(difference.abs().max()) / max(float(expected.abs().max()), 1e-9)
    mean_square = float(difference.square().mean())
    value_range = float(expected.max() - expected.min())
    if mean_square == 0.0:
        return Agreement(error, math.inf)
    return Agreement(error, 10 * math.log10(max(value_range, 1e-9) ** 2 / mean_square))
