"""The payment vectors about keys, signatures, prices and messages, which no package owns alone.

The others are read where the code is that they are about: tests/payment, tests/chain, tests/edge.
"""

import base64
import json
from fractions import Fraction
from typing import Any

import pytest
from google.protobuf.unknown_fields import UnknownFieldSet
from payment_vectors import TICKETS, VECTORS, named, ratio, raw

from lpnode.admission.auth_token import AuthTokens
from lpnode.admission.gateway_signature import is_request_signed, is_segment_signed
from lpnode.admission.price import to_fixed, to_price_info, with_overhead
from lpnode.errors import NotAuthorised, TicketRejected
from lpnode.payment.received import read_payment
from lpnode.protocol import lp_rpc_pb2 as pb
from lpnode.protocol.base64_message import encode_message
from lpnode.protocol.ethereum import (
    Account,
    Address,
    checksum_text,
    is_message_signed_by,
    is_signed_by,
    parse_address,
    wrapped_digest,
)
from lpnode.protocol.keccak import keccak256
from lpnode.protocol.payment_header import parse_payment
from lpnode.protocol.segment_header import flatten, parse_segment

MESSAGES: dict[str, Any] = {case["name"]: case for case in VECTORS["protobuf"]["messages"]}
# Those of a redeemer as a service of its own, which this node is not.
OURS = [case for case in VECTORS["protobuf"]["messages"] if "redeemer" not in case["name"]]


def eip191_digest(message: bytes) -> bytes:
    """Of a message that is not hashed first, as wallets sign texts."""
    return keccak256(b"\x19Ethereum Signed Message:\n%d" % len(message) + message)


@pytest.mark.parametrize("case", named("keys"))
def test_a_key_has_its_address(case: dict[str, Any]) -> None:
    account = Account(raw(case["private_key"]))
    assert account.address == raw(case["address_bytes"])
    assert checksum_text(account.address) == case["address"]


@pytest.mark.parametrize("case", named("eip191_personal_sign"))
def test_a_personal_signature_is_its_signers(case: dict[str, Any]) -> None:
    message, digest = raw(case["message"]), raw(case["digest"])
    assert eip191_digest(message) == digest
    if len(message) == 32:
        assert wrapped_digest(message) == digest
    assert is_signed_by(Address(raw(case["signer"])), digest, raw(case["signature"]))


@pytest.mark.parametrize("case", VECTORS["price"]["price_to_fixed_3dp"])
def test_prices_are_cut_to_thousandths(case: dict[str, Any]) -> None:
    assert to_fixed(ratio(case["price"])) * 1000 == case["fixed"]


@pytest.mark.parametrize("case", VECTORS["price"]["auto_adjusted"])
def test_what_redeeming_costs_is_added_to_the_price(case: dict[str, Any]) -> None:
    price = with_overhead(ratio(case["base"]), ratio(case["tx_cost_multiplier"]))
    assert price == ratio(case["advertised"])
    info = to_price_info(price)
    assert (info.pricePerUnit, info.pixelsPerUnit) == (case["pricePerUnit"], case["pixelsPerUnit"])


@pytest.mark.parametrize("case", VECTORS["price"]["expected_price_parse"])
def test_a_price_that_comes_with_tickets_is_positive_or_nothing(case: dict[str, Any]) -> None:
    payment = pb.Payment.FromString(raw(MESSAGES["payment_1_ticket"]["hex"]))
    payment.expected_price.pricePerUnit = case["pricePerUnit"]
    payment.expected_price.pixelsPerUnit = case["pixelsPerUnit"]
    if case["lpnode"] == "reject":
        with pytest.raises(TicketRejected, match="invalid expected price"):
            read_payment(payment, max_tickets=600)
        return
    price = read_payment(payment, max_tickets=600).price
    assert price == Fraction(case["pricePerUnit"], case["pixelsPerUnit"])


@pytest.mark.parametrize("case", named("segment_credentials"))
def test_segment_credentials_are_signed_over_what_is_listed(case: dict[str, Any]) -> None:
    flat = flatten(
        case["manifest_id"].encode(), case["seq"], raw(case["segment_hash"]), case["profile_names"]
    )
    assert flat == raw(case["flattened"])
    assert keccak256(flat) == raw(case["keccak_of_flattened"])
    if "signature" in case:
        signer, signature = Address(raw(case["signer"])), raw(case["signature"])
        assert is_message_signed_by(signer, flat, signature)
        segment = pb.SegData(
            manifestId=case["manifest_id"].encode(),
            seq=case["seq"],
            hash=raw(case["segment_hash"]),
            sig=signature,
        )
        assert is_segment_signed(signer, segment)


@pytest.mark.parametrize("case", named("address_signature"))
def test_a_gateway_signs_the_text_of_its_address(case: dict[str, Any]) -> None:
    sender = parse_address(case["message_ascii"])
    assert keccak256(case["message_ascii"].encode()) == raw(case["keccak"])
    assert sender == raw(case["recovered"])
    assert is_request_signed(sender, raw(case["signature"]))


def test_a_ticket_signature_over_the_hash_of_its_hash_is_no_ticket_signature() -> None:
    case = VECTORS["ticket_signatures"][0]
    account = Account(raw(VECTORS["keys"][0]["private_key"]))
    ticket_hash = raw(TICKETS[case["ticket"]]["hash"])
    assert is_signed_by(account.address, wrapped_digest(ticket_hash), raw(case["signature"]))
    twice_hashed = account.sign(ticket_hash)
    assert not is_signed_by(account.address, wrapped_digest(ticket_hash), twice_hashed)


def test_byoc_credentials_are_signed_as_messages() -> None:
    job = VECTORS["byoc"]["job_header"]
    sender = parse_address(job["json"]["sender"])
    message = (job["json"]["request"] + job["json"]["parameters"]).encode()
    assert is_message_signed_by(sender, message, raw(job["signature"]))
    token = json.loads(base64.b64decode(VECTORS["byoc"]["token_header"]["base64"]))
    assert is_request_signed(parse_address(token["addr"]), raw(token["sig"]))


def test_no_digit_moves_from_a_tokens_session_to_its_end() -> None:
    case = VECTORS["auth_token"]["ambiguity"]
    base, tampered = case["base"], case["tampered"]
    tokens = AuthTokens(
        bytes(32),
        clock=lambda: base["expiration"] - 1800,
        entropy=lambda _: bytes.fromhex(base["session_id"]),
    )
    token = pb.AuthToken.FromString(tokens.issue())
    assert (token.session_id, token.expiration) == (base["session_id"], base["expiration"])
    tokens.check(token)
    token.session_id, token.expiration = tampered["session_id"], tampered["expiration"]
    with pytest.raises(NotAuthorised, match="invalid auth token"):
        tokens.check(token)


@pytest.mark.parametrize("case", OURS, ids=lambda case: case["name"])
def test_a_message_is_read_and_written_as_it_was(case: dict[str, Any]) -> None:
    kind = getattr(pb, case["type"].removeprefix("net."))
    message = kind.FromString(raw(case["hex"]))
    assert len(raw(case["hex"])) == case["len"]
    assert base64.b64encode(raw(case["hex"])).decode() == case["base64"]
    assert kind.FromString(message.SerializeToString()) == message
    assert not UnknownFieldSet(message)


def test_headers_are_read_as_gateways_write_them() -> None:
    headers = VECTORS["http_headers"]
    payment = parse_payment(headers["Livepeer-Payment (1 ticket)"])
    assert payment == pb.Payment.FromString(raw(MESSAGES["payment_1_ticket"]["hex"]))
    segment = parse_segment(headers["Livepeer-Segment"])
    assert segment == pb.SegData.FromString(raw(MESSAGES["seg_data_ai"]["hex"]))
    assert is_segment_signed(Address(payment.sender), segment)


@pytest.mark.parametrize("case", VECTORS["payment_header_sizes"], ids=lambda c: c["tickets"])
def test_a_header_of_many_tickets_has_the_size_that_is_allowed_for(case: dict[str, Any]) -> None:
    payment = pb.Payment.FromString(raw(MESSAGES["payment_1_ticket"]["hex"]))
    signature = payment.ticket_sender_params[0].sig
    del payment.ticket_sender_params[:]
    for nonce in range(1, case["tickets"] + 1):
        payment.ticket_sender_params.add(sender_nonce=nonce, sig=signature)
    assert payment.ByteSize() == case["protobuf_bytes"]
    header = encode_message(payment)
    assert len(header) == case["base64_bytes"]
    batch = read_payment(parse_payment(header), max_tickets=600).batch
    assert (len(batch.nonces) if batch else 0) == case["tickets"]
