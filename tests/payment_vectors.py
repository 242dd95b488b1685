"""tests/vectors/payments.json and how its values are read."""

import json
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

VECTORS: dict[str, Any] = json.loads(
    (Path(__file__).parent / "vectors" / "payments.json").read_text()
)


def named(key: str) -> list[Any]:
    """The cases under ``key`` as test parameters."""
    return [
        pytest.param(case, id=case.get("name", str(number)))
        for number, case in enumerate(VECTORS[key])
    ]


def ratio(value: dict[str, str]) -> Fraction:
    return Fraction(int(value["num"]), int(value["den"]))


def raw(text: str) -> bytes:
    return bytes.fromhex(text.removeprefix("0x"))
