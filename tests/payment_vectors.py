"""tests/vectors/payments.json and how its values are read."""

import json
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from lpnode.payment.ticket import TicketParams
from lpnode.protocol.ethereum import Address

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


TICKETS: dict[str, Any] = {case["name"]: case for case in VECTORS["ticket_hash"]}


def params_of(case: dict[str, Any]) -> TicketParams:
    """The params of one of ``TICKETS``, which fix the ticket's hash up to sender and nonce."""
    return TicketParams(
        recipient=Address(raw(case["recipient"])),
        face_value_wei=int(case["face_value"]),
        win_prob=int(case["win_prob"]),
        recipient_rand_hash=raw(case["recipient_rand_hash"]),
        seed=0,
        expiration_block=0,
        creation_round=int(case["creation_round"]),
        creation_round_block_hash=raw(case["creation_round_block_hash"]),
    )
