"""Which number types a model runs in, by the names that operators have for them."""

from dataclasses import dataclass

import torch

from lpnode.errors import ConfigError

PRECISIONS = ("auto", "fp32", "fp16", "bf16")

_DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


@dataclass(frozen=True, slots=True)
class NumberTypes:
    """What a model's numbers are. Latents and schedule are float32 whatever these say.

    Attributes:
        frames: of pictures, and of what networks take and give.
        weights: of the networks, which compute with it.
    """

    frames: torch.dtype
    weights: torch.dtype


def number_types(precision: str, device: str) -> NumberTypes:
    """The types for a device; ``auto`` is float32 on a processor and float16 on a GPU.

    A processor's frames are float32 in any case: only the networks gain by fewer bits there.

    Args: precision: one of ``PRECISIONS``.
    Raises: ConfigError: there is no such precision, or a processor is to take float16, which few
        have instructions for.
    """
    if precision not in PRECISIONS:
        known = ", ".join(PRECISIONS)
        raise ConfigError(f"-aiPrecision: expected one of {known}, got {precision!r}")
    if torch.device(device).type != "cpu":
        dtype = _DTYPES.get(precision, torch.float16)
        return NumberTypes(dtype, dtype)
    if precision == "fp16":
        raise ConfigError(
            "-aiPrecision fp16: is for a GPU, and the models run on the processor; choose bf16 or "
            "fp32, or leave it out, or choose a GPU with -nvidia"
        )
    return NumberTypes(torch.float32, _DTYPES.get(precision, torch.float32))
