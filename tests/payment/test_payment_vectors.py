"""The pure parts of payments against tests/vectors/payments.json."""

from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

import pytest
from payment_vectors import VECTORS, named, ratio, raw

from lpnode.payment import work_units
from lpnode.payment.max_float import (
    available_wei,
    is_unlocking_soon,
    max_float_wei,
    reserve_alloc_wei,
)
from lpnode.payment.meter import UnitClock
from lpnode.payment.params import (
    InsufficientReserve,
    PricingConfig,
    Terms,
    face_value_wei,
    win_prob,
)
from lpnode.payment.ticket import expected_value, recipient_rand_hash
from lpnode.protocol.ethereum import Address

S = 1_000_000_000


@dataclass(frozen=True)
class Funds:
    deposit_wei: int = 0
    withdraw_round: int = 0
    reserve_wei: int = 0
    reserve_claimed_wei: int = 0
    claimed_by_us_wei: int = 0


@pytest.mark.parametrize("case", named("win_prob"))
def test_win_prob_is_rounded_up_to_the_ev_asked_for(case: dict[str, Any]) -> None:
    """C5."""
    value, ev = int(case["face_value"]), int(case["ticket_ev"])
    probability = win_prob(value, ev)
    assert probability == int(case["win_prob"])
    assert expected_value(value, probability) == ratio(case["resulting_ev"])
    is_enough = expected_value(value, probability) >= (ev if value else 0)
    assert is_enough == case["resulting_ev_ge_configured"]


@pytest.mark.parametrize("case", named("face_value"))
def test_face_value_follows_gas_price_ev_and_funds(case: dict[str, Any]) -> None:
    """C5."""
    ev = int(case["ticket_ev"])

    def value() -> int:
        return face_value_wei(
            int(case["max_float"]),
            int(case["gas_price"]),
            ev_wei=ev,
            redeem_gas=case["redeem_gas"],
            max_face_value_wei=int(case["max_face_value"]) or None,
        )

    if case["error"]:
        with pytest.raises(InsufficientReserve, match=case["error"]):
            value()
        return
    assert value() == int(case["face_value"])
    assert win_prob(value(), ev) == int(case["win_prob"])
    assert expected_value(value(), win_prob(value(), ev)) >= ev


@pytest.mark.parametrize("case", named("ticket_ev"))
def test_expected_value_is_exact(case: dict[str, Any]) -> None:
    """C5."""
    value = expected_value(int(case["face_value"]), int(case["win_prob"]))
    assert value == ratio(case["ev"])
    assert value.numerator // value.denominator == int(case["floor"])


@pytest.mark.parametrize("case", named("max_float"))
def test_max_float_is_our_share_of_the_reserve(case: dict[str, Any]) -> None:
    """R11."""
    funds = Funds(
        deposit_wei=int(case["deposit"]),
        reserve_wei=int(case["reserve_remaining"]),
        reserve_claimed_wei=int(case["reserve_claimed_this_round"]),
        claimed_by_us_wei=int(case["claimed_by_us_this_round"]),
    )
    pool, pending = case["pool_size"], int(case["pending"])
    assert reserve_alloc_wei(funds, pool) == int(case["reserve_alloc"])
    assert max_float_wei(funds, pool, pending) == int(case["max_float"])
    assert available_wei(funds, pool, pending) == int(case["available_funds"])


@pytest.mark.parametrize("case", named("sender_unlock_check"))
def test_a_sender_that_unlocks_is_refused_a_round_ahead(case: dict[str, Any]) -> None:
    """R11."""
    funds = Funds(withdraw_round=case["withdraw_round"])
    assert is_unlocking_soon(funds, case["last_initialized_round"]) is not case["accept"]


@pytest.mark.parametrize("case", VECTORS["live_accounting"]["tick_examples"])
def test_whole_units_are_billed_and_the_clock_moves_by_just_those(case: dict[str, Any]) -> None:
    """A1."""
    clock = UnitClock(7, units_per_s=case["units_per_second"], interval_ns=1)
    now_ns = 7 + round(case["elapsed_seconds"] * S)
    assert clock.units_due(now_ns) == case["billed_units"]
    clock.bill(case["billed_units"])
    carried_ns = round((case["elapsed_seconds"] - case["advance_seconds"]) * S)
    assert clock.units_due(now_ns) == 0
    # What is carried over counts towards the next unit.
    per_unit_ns = -(-S // case["units_per_second"])
    assert clock.units_due(now_ns + per_unit_ns - carried_ns) >= 1


def test_work_units_match() -> None:
    """A5."""
    by_path = {case["endpoint"]: case.get("example") for case in VECTORS["work_units"]}
    image = by_path["/text-to-image"]
    assert (
        work_units.text_to_image_units(image["height"], image["width"], image["n"])
        == (image["units"])
    )
    assert work_units.text_to_image_units() == 512 * 512
    assert work_units.image_to_video_units() == by_path["/image-to-video"]["units"]
    speech = by_path["/text-to-speech"]
    assert work_units.text_to_speech_units(speech["text"]) == speech["orchestrator_units"]
    assert (
        work_units.text_to_speech_prepaid_units(speech["text"]) == (speech["gateway_prepaid_units"])
    )
    assert work_units.live_units(S) == 27_648_000
    assert work_units.live_units(60 * S) == VECTORS["live_accounting"]["lv2v_init_pixels"]
    assert work_units.audio_to_text_units(2.9) == 2000
    assert work_units.byoc_units(2.1) == 3


RAND = VECTORS["recipient_rand"]
KEY = raw(RAND["example"]["secret"])
TERMS = Terms(
    recipient=Address(raw(RAND["example"]["recipient"])),
    sender=Address(raw(RAND["example"]["sender"])),
    face_value_wei=int(RAND["example"]["face_value"]),
    win_prob=int(RAND["example"]["win_prob"]),
    expiration_block=int(RAND["example"]["expiration_block"]),
    price=ratio(RAND["example"]["price"]),
    creation_round=int(RAND["example"]["creation_round"]),
    creation_round_block_hash=raw(RAND["example"]["creation_round_block_hash"]),
    seed=int(RAND["example"]["seed"], 16),
)


def test_recipient_rand_is_the_mac_of_the_fixed_width_message() -> None:
    expected = RAND["suggested_fixed_width_encoding"]
    rand = TERMS.recipient_rand(KEY)
    assert rand == raw(expected["recipient_rand"])
    assert recipient_rand_hash(rand) == raw(expected["recipient_rand_hash"])


@pytest.mark.parametrize(
    "case",
    [pytest.param(c, id=c["name"]) for c in RAND["ambiguous_encodings_accepted_by_reference"]],
)
def test_terms_the_reference_confuses_have_another_rand_or_are_no_terms(
    case: dict[str, Any],
) -> None:
    """C8."""
    try:
        forged = replace(
            TERMS,
            face_value_wei=int(case["face_value"]),
            win_prob=int(case["win_prob"]),
            expiration_block=int(case["expiration_block"]),
            price=ratio(case["expected_price"]),
            creation_round=int(case["creation_round"]),
        )
    except ValueError:
        return
    assert forged.recipient_rand(KEY) != TERMS.recipient_rand(KEY)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("recipient", Address(bytes(20))),
        ("sender", Address(bytes(20))),
        ("face_value_wei", TERMS.face_value_wei + 1),
        ("win_prob", TERMS.win_prob + 1),
        ("expiration_block", TERMS.expiration_block + 1),
        ("price", TERMS.price + 1),
        ("price", 1 / TERMS.price),
        ("creation_round", TERMS.creation_round + 1),
        ("creation_round_block_hash", bytes(32)),
        ("seed", TERMS.seed + 1),
    ],
)
def test_the_mac_covers_every_term(name: str, value: Any) -> None:
    """C9."""
    assert replace(TERMS, **{name: value}).recipient_rand(KEY) != TERMS.recipient_rand(KEY)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("face_value_wei", 2**256),
        ("win_prob", -1),
        ("seed", 2**256),
        ("creation_round", -3500),
        ("price", Fraction(-1)),
        ("creation_round_block_hash", bytes(31)),
    ],
)
def test_what_no_field_can_hold_is_no_term(name: str, value: Any) -> None:
    with pytest.raises(ValueError, match=name):
        replace(TERMS, **{name: value})


def test_terms_show_no_secret_when_printed() -> None:
    assert str(TERMS.seed) not in repr(TERMS)


FACE_VALUE = 1_200_000_000_000_000


@pytest.mark.parametrize("price", [1, 1200, 3349, 20_000])
def test_a_scaled_ev_prepays_a_stream_with_a_few_tickets(price: int) -> None:
    """payments.md section 7.3."""
    fixed, scaled = PricingConfig(), PricingConfig(is_ev_scaled=True)
    assert fixed.ev_for(Fraction(price), FACE_VALUE) == fixed.ev_wei
    ev = scaled.ev_for(Fraction(price), FACE_VALUE)
    assert scaled.ev_wei <= ev <= min(3 * 10**12, FACE_VALUE // 10)
    prepaid = price * 1_658_880_000
    assert -(-prepaid // ev) <= 12


def test_a_scaled_ev_stays_far_below_the_face_value() -> None:
    scaled = PricingConfig(is_ev_scaled=True)
    assert scaled.ev_for(Fraction(20_000), 10**12) == 10**11
    assert scaled.ev_for(Fraction(20_000), 8 * 10**9) == scaled.ev_wei
