"""Kinds of values that only diffusion parameters have."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lpnode.pipeline.accepts import Integer, Number

MAX_PARTS = 16
"""Prompts or seeds in one mixture; each prompt is a run of the text encoder."""
MAX_PROMPT_CHARS = 10_000
"""Far more than any encoder reads; what is longer is a mistake or an attack."""


@dataclass(frozen=True, slots=True)
class Text:
    """A string of bounded length."""

    max_chars: int = MAX_PROMPT_CHARS

    def check(self, value: Any) -> str:
        if not isinstance(value, str):
            raise ValueError("not a string")
        if len(value) > self.max_chars:
            raise ValueError("too long")
        return value

    def describe(self) -> str:
        return f"a string of at most {self.max_chars} characters"


@dataclass(frozen=True, slots=True)
class Choice:
    """One of a few words; ``make`` turns it into what the pipeline wants."""

    words: tuple[str, ...]
    make: type[str] = str

    def check(self, value: Any) -> str:
        if not isinstance(value, str) or value not in self.words:
            raise ValueError("not one of them")
        return self.make(value)

    def describe(self) -> str:
        return "one of " + ", ".join(self.words)


Weighted = tuple[tuple[Any, float], ...]
"""Parts of a mixture with their weights; never empty."""


@dataclass(frozen=True, slots=True)
class Mixture:
    """One part alone, or a list of [part, weight]; becomes ``Weighted``."""

    part: Text | Integer
    name: str

    def check(self, value: Any) -> Weighted:
        if isinstance(value, str) or not isinstance(value, Sequence):
            return ((self.part.check(value), 1.0),)
        if not 1 <= len(value) <= MAX_PARTS:
            raise ValueError("too few or too many parts")
        parts = tuple(self._pair(entry) for entry in value)
        if sum(weight for _, weight in parts) <= 0.0:
            raise ValueError("weights without a positive sum")
        return parts

    def _pair(self, entry: Any) -> tuple[Any, float]:
        if isinstance(entry, str) or not isinstance(entry, Sequence) or len(entry) != 2:
            raise ValueError("not a pair")
        return self.part.check(entry[0]), Number(0.0, 1e6).check(entry[1])

    def describe(self) -> str:
        return (
            f"{self.part.describe()}, or a list of 1 to {MAX_PARTS} pairs [{self.name}, weight] "
            "whose weights are not negative and not all 0"
        )


@dataclass(frozen=True, slots=True)
class TimestepIndices:
    """1 to 4 indices into the timestep grid that do not decrease."""

    most: int = 4

    def check(self, value: Any) -> tuple[int, ...]:
        if isinstance(value, str) or not isinstance(value, Sequence):
            raise ValueError("not a list")
        if not 1 <= len(value) <= self.most:
            raise ValueError("too few or too many")
        indices = tuple(Integer(0, 99).check(entry) for entry in value)
        if list(indices) != sorted(indices):
            raise ValueError("decreasing")
        return indices

    def describe(self) -> str:
        return f"1 to {self.most} integers from 0 to num_inference_steps - 1 that do not decrease"


@dataclass(frozen=True, slots=True)
class LoraWeights:
    """null, or an object of LoRA path → weight; becomes a tuple of pairs."""

    most: int = 8

    def check(self, value: Any) -> tuple[tuple[str, float], ...]:
        if value is None:
            return ()
        if not isinstance(value, Mapping) or len(value) > self.most:
            raise ValueError("not an object, or too many")
        return tuple(
            (Text(1024).check(path), Number(-10.0, 10.0).check(weight))
            for path, weight in value.items()
        )

    def describe(self) -> str:
        return f"null, or an object of at most {self.most} LoRA paths with weights from -10 to 10"


@dataclass(frozen=True, slots=True)
class SwitchedOff:
    """A part of the schema that this build does not run: only "off" is accepted."""

    what: str

    def check(self, value: Any) -> None:
        if value is None or (isinstance(value, Sequence) and len(value) == 0):
            return
        if isinstance(value, Mapping) and value.get("enabled") is False:
            return
        raise ValueError("not off")

    def describe(self) -> str:
        return f"null, an empty list or {{'enabled': false}}: {self.what} are not in this build"
