"""What text-to-image and image-to-image are asked for. Source: ai-http.md section 7."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from lpnode.errors import BadParameters
from lpnode.pipeline.accepts import Flag, Integer, Number
from lpnode.pipeline.params import checked_values, parameter
from lpnode.pipeline.stream_diffusion.accepts import Text

MAX_PROMPTS = 4
MAX_LORAS = 4
MAX_STEPS = 1000
MAX_PICTURES = 100
MAX_SIDE = 4096

_PROMPT_MISSING = "Prompt must be provided."

Loras = tuple[tuple[str, float], ...]
"""LoRAs by name, with the strength that each is fused with."""


@dataclass(frozen=True, slots=True)
class LoraStrengths:
    """A string that holds a JSON object of adapter → strength; empty for none. Becomes ``Loras``.

    Source: ai-http.md section 7.1.
    """

    def check(self, value: Any) -> Loras:
        if not isinstance(value, str):
            raise ValueError("not a string")
        if not value.strip():
            return ()
        adapters = json.loads(value)  # a JSONDecodeError is a ValueError
        if not isinstance(adapters, Mapping) or len(adapters) > MAX_LORAS:
            raise ValueError("not an object, or too many")
        strength = Number(0.0, 100.0)
        return tuple((Text(1024).check(name), strength.check(s)) for name, s in adapters.items())

    def describe(self) -> str:
        return (
            f"a JSON object, as a string, of at most {MAX_LORAS} LoRAs with strengths "
            "that are not negative"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class PictureParams:
    """What both pipelines take. A key that is null counts as absent, an unknown one is ignored."""

    prompt: str = parameter("", Text())
    model_id: str = parameter("", Text(512))
    """Empty, or the model that is loaded."""
    loras: Loras = parameter((), LoraStrengths())
    guidance_scale: float = parameter(7.5, Number(-1000.0, 1000.0))
    """Up to 1 the negative prompt is not looked at and a picture costs half as much."""
    negative_prompt: str = parameter("", Text())
    safety_check: bool = parameter(True, Flag())
    seed: int | None = parameter(None, Integer(-(2**63), 2**63 - 1))
    """Of the first picture, the others count on from it; None: drawn from 0 to 2**32 - 1."""
    num_inference_steps: int = parameter(50, Integer(-(2**31), MAX_STEPS))
    """Below 1: as many as the model is made for."""
    num_images_per_prompt: int = parameter(1, Integer(1, MAX_PICTURES))

    @classmethod
    def parse(
        cls, raw: Mapping[str, Any] | None, defaults: Mapping[str, Any] | None = None
    ) -> Self:
        """Validates a request.

        Args:
            raw: a decoded JSON object.
            defaults: for keys that are absent, where they are not the contract's.
        Raises: BadParameters: names the field, or says that the prompt is missing.
        Source: ai-http.md sections 7, 7.1 and 7.2.
        """
        if raw is not None and isinstance(raw, Mapping):
            given = {name: value for name, value in raw.items() if value is not None}
            raw = {**(defaults or {}), **given}
            # Before everything else, as the reference has it (section 10.3).
            if raw.get("prompt", "") == "":
                raise BadParameters(_PROMPT_MISSING)
        return cls(**checked_values(cls, raw, refuses_unknown=False))

    def __post_init__(self) -> None:
        if not self.prompts:
            raise BadParameters(_PROMPT_MISSING)

    @property
    def prompts(self) -> tuple[str, ...]:
        """The prompt, or one for each text encoder of the model."""
        return (self.prompt,) if self.prompt else ()

    @property
    def negative_prompts(self) -> tuple[str, ...]:
        """The same of the negative prompt; never empty."""
        return (self.negative_prompt,)


@dataclass(frozen=True, slots=True, kw_only=True)
class TextToImageParams(PictureParams):
    """Source: ai-http.md section 7.1."""

    height: int = parameter(512, Integer(8, MAX_SIDE, multiple_of=8))
    width: int = parameter(512, Integer(8, MAX_SIDE, multiple_of=8))

    @property
    def prompts(self) -> tuple[str, ...]:
        """The prompt's parts between ``|``, trimmed, without empty ones."""
        return _parts(self.prompt)

    @property
    def negative_prompts(self) -> tuple[str, ...]:
        """The negative prompt's parts, or an empty text."""
        return _parts(self.negative_prompt) or ("",)


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageToImageParams(PictureParams):
    """Source: ai-http.md section 7.2. The picture itself is given beside the parameters."""

    strength: float = parameter(0.8, Number(0.0, 1.0))
    """Share of the steps that are made: 0 leaves the picture, 1 leaves nothing of it."""
    image_guidance_scale: float = parameter(1.5, Number(-1000.0, 1000.0))
    """Accepted and not looked at: only instruct-pix2pix has a use for it."""
    num_inference_steps: int = parameter(100, Integer(-(2**31), MAX_STEPS))


def _parts(prompt: str) -> tuple[str, ...]:
    parts = (part.strip() for part in prompt.split("|", MAX_PROMPTS - 1))
    return tuple(part for part in parts if part)
