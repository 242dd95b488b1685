"""Which number types a model runs in, by the names that operators have for them."""

from dataclasses import dataclass

import torch

from lpnode.errors import ConfigError
from lpnode.pipeline.backend.engine_key import Precision

PRECISIONS = ("auto", "fp32", "fp16", "bf16", "int8", "fp8")
"""What ``-aiPrecision`` may be."""

_DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
_ENGINES = {"int8": Precision.INT8, "fp8": Precision.FP8}


@dataclass(frozen=True, slots=True)
class NumberTypes:
    """What a model's numbers are. Latents and schedule are float32 whatever these say.

    Attributes:
        frames: of pictures, and of what networks take and give.
        weights: of the networks, which compute with it.
        engines: what compiled UNets compute with instead, where a compiler and the chip have it.
    """

    frames: torch.dtype
    weights: torch.dtype
    engines: Precision | None = None


def number_types(precision: str, device: str) -> NumberTypes:
    """The types for a device; ``auto`` is float32 on a processor and float16 on a GPU.

    A processor's frames are float32 in any case: only the networks gain by fewer bits there.

    Args: precision: one of ``PRECISIONS``.
    Raises: ConfigError: there is no such precision, or a processor is to take one of a GPU's.
    """
    if precision not in PRECISIONS:
        known = ", ".join(PRECISIONS)
        raise ConfigError(f"-aiPrecision: expected one of {known}, got {precision!r}")
    if torch.device(device).type != "cpu":
        dtype = _DTYPES.get(precision, torch.float16)
        return NumberTypes(dtype, dtype, _ENGINES.get(precision))
    if precision not in ("auto", "fp32", "bf16"):
        raise ConfigError(
            f"-aiPrecision {precision}: is for a GPU, and the models run on the processor; choose "
            "bf16 or fp32, or leave it out, or choose a GPU with -nvidia"
        )
    return NumberTypes(torch.float32, _DTYPES.get(precision, torch.float32))
