"""Tickets, their hashes and draws, on the published vectors."""

from fractions import Fraction
from typing import Any

import pytest
from payment_vectors import TICKETS, VECTORS, params_of, raw

from lpnode.errors import InvalidArgument
from lpnode.payment.ticket import (
    MAX_WIN_PROB,
    SignedTicket,
    Ticket,
    draw,
    expected_value,
    recipient_rand_hash,
)
from lpnode.protocol.ethereum import Address, Signature, is_signed_by, wrapped_digest
from lpnode.protocol.keccak import keccak256


def ticket_of(vector: dict[str, Any]) -> Ticket:
    return Ticket(params_of(vector), Address(raw(vector["sender"])), int(vector["sender_nonce"]))


@pytest.mark.parametrize("vector", VECTORS["keccak256"], ids=lambda v: v["input"][:12])
def test_keccak_256_gives_the_published_digests(vector: dict[str, Any]) -> None:
    assert keccak256(raw(vector["input"])) == raw(vector["digest"])


@pytest.mark.parametrize("vector", VECTORS["aux_data"])
def test_aux_data_is_the_round_and_its_block_hash(vector: dict[str, Any]) -> None:
    ticket = params_of({**VECTORS["ticket_hash"][0], **vector})
    assert ticket.aux_data == raw(vector["aux_data"])


@pytest.mark.parametrize("name", TICKETS)
def test_a_ticket_is_packed_and_hashed_as_the_contract_does(name: str) -> None:
    vector = TICKETS[name]
    ticket = ticket_of(vector)
    preimage = ticket.params.preimage(ticket.sender, ticket.nonce)
    assert len(preimage) == vector["preimage_len"]
    assert preimage == raw(vector["preimage"])
    assert ticket.hash == raw(vector["hash"])
    assert ticket.digest == raw(vector["eip191_digest"])


@pytest.mark.parametrize("vector", VECTORS["ticket_signatures"], ids=lambda v: v["ticket"])
def test_a_signed_ticket_is_its_senders(vector: dict[str, Any]) -> None:
    ticket = ticket_of(TICKETS[vector["ticket"]])
    signed = SignedTicket(ticket, Signature(raw(vector["signature"])), bytes(32))
    assert signed.is_signed_by_sender == (raw(vector["recovered"]) == ticket.sender)


@pytest.mark.parametrize(
    "case",
    [case for case in VECTORS["signature_acceptance"]["cases"] if "message" in case],
    ids=lambda case: case["name"],
)
def test_a_published_signature_of_a_hash_is_its_signers(case: dict[str, Any]) -> None:
    sender = Address(raw(case["expected_sender"]))
    digest = wrapped_digest(raw(case["message"]))
    assert is_signed_by(sender, digest, raw(case["signature"])) == case["accept"]


@pytest.mark.parametrize("vector", VECTORS["winning"], ids=lambda v: v["name"])
def test_a_ticket_wins_when_the_draw_is_below_its_probability(vector: dict[str, Any]) -> None:
    rand = int(vector["recipient_rand"]).to_bytes(32)
    drawn = draw(raw(vector["signature"]), rand)
    assert drawn == int(vector["draw"])
    assert (drawn < int(vector["win_prob"])) == vector["wins"]


@pytest.mark.parametrize("vector", VECTORS["ticket_ev"], ids=lambda v: v["face_value"])
def test_expected_value_is_an_exact_fraction(vector: dict[str, Any]) -> None:
    value = expected_value(int(vector["face_value"]), int(vector["win_prob"]))
    assert value == Fraction(int(vector["ev"]["num"]), int(vector["ev"]["den"]))
    assert int(value) == int(vector["floor"])


def test_a_recipient_rand_is_committed_to_by_its_hash() -> None:
    series = VECTORS["winning_series"][0]
    rand = int(series["recipient_rand"]).to_bytes(32)
    assert recipient_rand_hash(rand) == raw(series["recipient_rand_hash"])
    with pytest.raises(InvalidArgument, match="32 bytes"):
        recipient_rand_hash(rand[1:])


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"recipient": "0x00"}, "recipient"),
        ({"face_value": str(MAX_WIN_PROB + 1)}, "face_value_wei"),
        ({"win_prob": "-1"}, "win_prob"),
        ({"recipient_rand_hash": "0x"}, "recipient_rand_hash"),
        ({"creation_round": "-3500"}, "creation_round"),
        ({"creation_round": str(2**63)}, "creation_round"),
    ],
)
def test_values_that_do_not_fit_their_slot_are_refused(change: dict[str, str], named: str) -> None:
    with pytest.raises(InvalidArgument, match=named):
        params_of({**VECTORS["ticket_hash"][0], **change})


@pytest.mark.parametrize("nonce", [-1, 2**32])
def test_a_nonce_is_an_unsigned_integer_of_32_bits(nonce: int) -> None:
    ticket = ticket_of(VECTORS["ticket_hash"][0])
    with pytest.raises(InvalidArgument, match="nonce"):
        Ticket(ticket.params, ticket.sender, nonce)


def test_a_recipient_rand_does_not_show_in_text() -> None:
    ticket = ticket_of(VECTORS["ticket_hash"][0])
    assert "ab" * 8 not in repr(SignedTicket(ticket, Signature(bytes(65)), b"\xab" * 32))
