"""Whole payments verified natively, on the published vectors and their corruptions."""

import base64
from array import array
from collections.abc import Iterator
from typing import Any

import pytest
from payment_vectors import TICKETS, VECTORS, params_of, raw

from lpnode.errors import InvalidArgument, NotBuilt
from lpnode.payment.signer_tables import SignerTablesConfig
from lpnode.payment.ticket import TicketParams
from lpnode.payment.verifier import (
    TicketVerifier,
    TicketVerifierConfig,
    Verdicts,
    packed_signatures,
)
from lpnode.protocol import lp_rpc_pb2 as pb
from lpnode.protocol.ethereum import Address

PATHS = ("portable", "avx2", "ifma")


# Without tables every signer is recovered; with them, only those that the tables do not accept.
@pytest.fixture(
    scope="module",
    params=[f"{path}-{tables}" for path in PATHS for tables in ("recover", "tables")],
)
def verifier(request: pytest.FixtureRequest) -> Iterator[TicketVerifier]:
    path, tables = request.param.split("-")
    memory = 2**20 if tables == "tables" else 0
    config = TicketVerifierConfig(
        simd_path=path, tables=SignerTablesConfig(max_bytes=memory, tickets_before_table=1)
    )
    try:
        verifier = TicketVerifier(config)
    except NotBuilt as missing:
        pytest.skip(str(missing))
    with verifier:
        # Once with a signature of each sender in the vectors, so that the tables are there.
        for vector in VECTORS["ticket_signatures"]:
            verify_one(verifier, TICKETS[vector["ticket"]], raw(vector["signature"]))
        verifier.tables.wait_until_built()
        assert bool(len(verifier.tables)) == (tables == "tables")
        yield verifier


def verify_one(verifier: TicketVerifier, ticket: dict[str, Any], signature: bytes) -> bool:
    sender = Address(raw(ticket["sender"]))
    nonces = array("I", [int(ticket["sender_nonce"])])
    packed = packed_signatures([signature])
    return verifier.verify(sender, params_of(ticket), None, nonces, packed).is_valid(0)


@pytest.mark.parametrize("vector", VECTORS["ticket_signatures"], ids=lambda v: v["ticket"])
def test_a_ticket_is_valid_for_its_signer_alone(
    verifier: TicketVerifier, vector: dict[str, Any]
) -> None:
    ticket = TICKETS[vector["ticket"]]
    is_senders = vector["recovered"] == ticket["sender"]
    assert verify_one(verifier, ticket, raw(vector["signature"])) == is_senders


@pytest.mark.parametrize(
    "case",
    [case for case in VECTORS["signature_acceptance"]["cases"] if "message" not in case],
    ids=lambda case: case["name"],
)
def test_exactly_the_accepted_forms_are_valid(
    verifier: TicketVerifier, case: dict[str, Any]
) -> None:
    acceptance = VECTORS["signature_acceptance"]
    ticket = TICKETS[acceptance["ticket"]]
    assert ticket["sender"] == acceptance["expected_sender"]
    assert verify_one(verifier, ticket, raw(case["signature"])) == case["accept"]


@pytest.mark.parametrize("series", VECTORS["winning_series"], ids=lambda s: s["name"])
def test_the_winners_of_a_series_win(verifier: TicketVerifier, series: dict[str, Any]) -> None:
    rand = int(series["recipient_rand"]).to_bytes(32)
    nonces = array("I", [ticket["nonce"] for ticket in series["tickets"]])
    signatures = packed_signatures(raw(ticket["signature"]) for ticket in series["tickets"])
    sender = Address(raw(series["sender"]))
    verdicts = verifier.verify(sender, params_of(series), rand, nonces, signatures)
    assert verdicts.invalid == []
    assert [nonces[index] for index in verdicts.winners] == series["winners"]
    without_rand = verifier.verify(sender, params_of(series), None, nonces, signatures)
    assert without_rand.num_valid == len(nonces)
    assert without_rand.winners == []


class Batch:
    """The published payment of 100 tickets."""

    def __init__(self, payment_base64: str) -> None:
        payment = pb.Payment.FromString(base64.b64decode(payment_base64))
        wire = payment.ticket_params
        self.sender = Address(payment.sender)
        self.params = TicketParams(
            recipient=Address(wire.recipient),
            face_value_wei=int.from_bytes(wire.face_value),
            win_prob=int.from_bytes(wire.win_prob),
            recipient_rand_hash=wire.recipient_rand_hash,
            seed=int.from_bytes(wire.seed),
            expiration_block=int.from_bytes(wire.expiration_block),
            creation_round=payment.expiration_params.creation_round,
            creation_round_block_hash=payment.expiration_params.creation_round_block_hash,
        )
        self.rand = int(VECTORS["batch_100"]["recipient_rand"]).to_bytes(32)
        self.nonces = array("I", [each.sender_nonce for each in payment.ticket_sender_params])
        self.signatures = packed_signatures(each.sig for each in payment.ticket_sender_params)

    def verify(self, verifier: TicketVerifier, part: slice = slice(None)) -> Verdicts:
        chosen = range(*part.indices(len(self.nonces)))
        rows = b"".join(self.signatures[65 * i : 65 * i + 65] for i in chosen)
        return verifier.verify(self.sender, self.params, self.rand, self.nonces[part], rows)


def test_a_payment_of_100_tickets_is_valid_and_its_winners_win(verifier: TicketVerifier) -> None:
    batch = Batch(VECTORS["batch_100"]["payment_base64"])
    verdicts = batch.verify(verifier)
    assert len(verdicts) == verdicts.num_valid == 100
    winners = [batch.nonces[index] for index in verdicts.winners]
    assert winners == VECTORS["batch_100"]["winning_nonces"]


def test_exactly_the_corrupted_tickets_of_a_payment_are_invalid(verifier: TicketVerifier) -> None:
    batch = Batch(VECTORS["batch_100"]["corrupted"]["payment_base64"])
    verdicts = batch.verify(verifier)
    assert [batch.nonces[index] for index in verdicts.invalid] == [17, 58, 93]
    assert verdicts.num_valid == 97


def test_a_ticket_alone_gets_the_verdict_that_it_gets_in_a_payment(
    verifier: TicketVerifier,
) -> None:
    batch = Batch(VECTORS["batch_100"]["corrupted"]["payment_base64"])
    together = batch.verify(verifier).flags
    for size in (1, 3, 7, 50):
        parts = [batch.verify(verifier, slice(i, i + size)).flags for i in range(0, 100, size)]
        assert b"".join(parts) == together


def test_a_payment_without_tickets_has_no_verdicts(verifier: TicketVerifier) -> None:
    params = params_of(VECTORS["ticket_hash"][0])
    assert len(verifier.verify(Address(bytes(20)), params, bytes(32), array("I"), b"")) == 0


@pytest.mark.parametrize(
    ("nonces", "signatures", "named"),
    [(array("I", [1]), b"", "65 bytes"), (b"", bytes(65), "65 bytes"), (b"abc", b"", "4 bytes")],
)
def test_sizes_that_do_not_fit_are_refused(
    verifier: TicketVerifier, nonces: bytes, signatures: bytes, named: str
) -> None:
    params = params_of(VECTORS["ticket_hash"][0])
    with pytest.raises(InvalidArgument, match=named):
        verifier.verify(Address(bytes(20)), params, None, nonces, signatures)


def test_a_rand_that_is_not_32_bytes_is_refused(verifier: TicketVerifier) -> None:
    params = params_of(VECTORS["ticket_hash"][0])
    with pytest.raises(InvalidArgument, match="recipient_rand must be 32 bytes"):
        verifier.verify(Address(bytes(20)), params, b"\x05", array("I"), b"")


def test_an_unknown_path_is_refused() -> None:
    with pytest.raises(InvalidArgument, match="portable, avx2 or ifma"):
        TicketVerifier(TicketVerifierConfig(simd_path="sse9"))
