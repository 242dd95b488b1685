"""What a parameter accepts: one small class a kind of value, each with a sentence about itself."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol


class Accepts(Protocol):
    """A kind of value that a JSON parameter may have."""

    def check(self, value: Any) -> Any:
        """Returns the value as the pipeline wants it. Raises: ValueError: it is not accepted."""

    def describe(self) -> str:
        """What is accepted, to be read after "expected"."""


@dataclass(frozen=True, slots=True)
class Integer:
    """A whole number; JSON's ``512.0`` is one, ``true`` and ``"512"`` are not."""

    least: int
    most: int
    multiple_of: int = 1

    def check(self, value: Any) -> int:
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, int):
            raise ValueError("not an integer")
        if not self.least <= value <= self.most or value % self.multiple_of:
            raise ValueError("out of range")
        return value

    def describe(self) -> str:
        step = f", a multiple of {self.multiple_of}" if self.multiple_of > 1 else ""
        return f"an integer from {self.least} to {self.most}{step}"


@dataclass(frozen=True, slots=True)
class Number:
    """A finite number within closed bounds."""

    least: float
    most: float

    def check(self, value: Any) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ValueError("not a number")
        if not self.least <= value <= self.most:  # false for NaN
            raise ValueError("out of range")
        return float(value)

    def describe(self) -> str:
        return f"a number from {self.least:g} to {self.most:g}"


@dataclass(frozen=True, slots=True)
class Flag:
    """JSON ``true`` or ``false``."""

    def check(self, value: Any) -> bool:
        if not isinstance(value, bool):
            raise ValueError("not a boolean")
        return value

    def describe(self) -> str:
        return "true or false"


@dataclass(frozen=True, slots=True)
class Rgb:
    """A colour: ``"#rrggbb"`` or three numbers from 0 to 1; becomes a tuple of three floats."""

    def check(self, value: Any) -> tuple[float, float, float]:
        if isinstance(value, str):
            return self._from_hex(value)
        if not isinstance(value, Sequence) or len(value) != 3:
            raise ValueError("not three numbers")
        red, green, blue = (Number(0.0, 1.0).check(channel) for channel in value)
        return red, green, blue

    @staticmethod
    def _from_hex(text: str) -> tuple[float, float, float]:
        if (
            len(text) != 7
            or text[0] != "#"
            or not all(c in "0123456789abcdefABCDEF" for c in text[1:])
        ):
            raise ValueError("not #rrggbb")
        red, green, blue = (channel / 255 for channel in bytes.fromhex(text[1:]))
        return red, green, blue

    def describe(self) -> str:
        return 'a colour, as "#rrggbb" or three numbers from 0 to 1'


def shown(value: Any, *, most: int = 80) -> str:
    """``value`` as a message may quote it: never longer than about ``most`` characters."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    text = repr(value)
    return text if len(text) <= most else text[: most - 1] + "…"
