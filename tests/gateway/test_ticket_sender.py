"""Tickets as a gateway makes them. Source: payments.md sections 1.4, 7.1 and 7.4."""

import asyncio
from fractions import Fraction
from typing import Any

import pytest
from paying_gateway import GATEWAY
from payment_vectors import TICKETS, VECTORS, params_of, ratio, raw

from lpnode.errors import ProtocolError
from lpnode.gateway.credentials import address_signature, credentials_header
from lpnode.gateway.ticket_sender import TicketSender, signed_payment, tickets_needed
from lpnode.gateway.ticket_terms import TicketTerms, price_of, read_ticket_params, ticket_terms
from lpnode.payment.issued import to_message
from lpnode.protocol import lp_rpc_pb2 as pb
from lpnode.protocol.base64_message import encode_message
from lpnode.protocol.ethereum import Account
from lpnode.protocol.segment_header import parse_segment

ACCOUNTS = {key["name"]: Account(raw(key["private_key"])) for key in VECTORS["keys"]}
PRICE = pb.PriceInfo(pricePerUnit=1200, pixelsPerUnit=1)
COUNTED = [case for case in VECTORS["gateway_ticket_count"] if "tickets" in case]
COMPUTED = [case for case in VECTORS["gateway_ticket_count"] if "fee" in case]


@pytest.mark.parametrize("case", COUNTED)
def test_as_many_tickets_go_as_credit_lacks(case: dict[str, Any]) -> None:
    needed = tickets_needed(ratio(case["existing"]), ratio(case["min_credit"]), ratio(case["ev"]))
    assert needed == case["tickets"]


@pytest.mark.parametrize("case", COMPUTED, ids=lambda case: case["label"])
def test_a_fee_of_nothing_paid_yet_takes_the_stated_tickets(case: dict[str, Any]) -> None:
    for name, ev in (("ev_default_8e9", 8 * 10**9), ("ev_3e12", 3 * 10**12)):
        needed = tickets_needed(Fraction(0), ratio(case["fee"]), Fraction(ev))
        assert needed == case[name]["tickets"]


@pytest.mark.parametrize(
    "case", [case for case in VECTORS["ticket_signatures"] if case["ticket"] in TICKETS]
)
def test_a_ticket_is_signed_as_published(case: dict[str, Any]) -> None:
    ticket = TICKETS[case["ticket"]]
    account = ACCOUNTS[case["signer_key"]]
    assert account.address == raw(ticket["sender"])
    payment = signed_payment(params_of(ticket), PRICE, account, [ticket["sender_nonce"]])
    assert payment.ticket_sender_params[0].sig == raw(case["signature"])


@pytest.mark.parametrize("case", VECTORS["address_signature"], ids=lambda case: case["name"])
def test_the_address_is_signed_as_published(case: dict[str, str]) -> None:
    assert address_signature(ACCOUNTS[case["name"]]) == raw(case["signature"])


def test_credentials_are_signed_as_published() -> None:
    case = next(c for c in VECTORS["segment_credentials"] if c["name"] == "ai_live_manifest")
    account = next(a for a in ACCOUNTS.values() if a.address == raw(case["signer"]))
    header = credentials_header(case["manifest_id"], pb.Capabilities(), pb.AuthToken(), account)
    assert parse_segment(header).sig == raw(case["signature"])


def quote(name: str = "nonce_1", **changes: bytes) -> pb.OrchestratorInfo:
    params = to_message(params_of(TICKETS[name]))
    params.expiration_block = b"\x8c"
    for field, value in changes.items():
        setattr(params, field, value)
    return pb.OrchestratorInfo(ticket_params=params, price_info=PRICE)


def terms() -> TicketTerms:
    found = ticket_terms(quote())
    assert found is not None
    return found


async def test_nonces_count_from_1_for_each_quote_whoever_asks() -> None:
    sender = TicketSender(GATEWAY)
    first, second = terms(), TicketTerms(params_of(TICKETS["contract_default"]), PRICE)
    assert sender.room(first.params) == 600
    payments = await asyncio.gather(
        sender.payment(first, 3), sender.payment(first, 40), sender.payment(first, 2)
    )
    nonces = [p.sender_nonce for payment in payments for p in payment.ticket_sender_params]
    assert sorted(nonces) == list(range(1, 46))
    assert sender.room(first.params) == 555
    other = await sender.payment(second, 1)
    assert [p.sender_nonce for p in other.ticket_sender_params] == [1]


async def test_a_payment_without_tickets_states_sender_and_price_only() -> None:
    payment = await TicketSender(GATEWAY).payment(terms(), 0)
    assert payment == pb.Payment(sender=GATEWAY.address, expected_price=PRICE)


@pytest.mark.parametrize("case", VECTORS["payment_header_sizes"])
async def test_a_header_is_not_longer_than_published(case: dict[str, int]) -> None:
    """Of our own tickets; the published ones have parameters of full length."""
    payment = await TicketSender(GATEWAY).payment(terms(), case["tickets"])
    assert len(encode_message(payment)) <= case["base64_bytes"]


def test_the_round_stands_beside_the_echoed_parameters() -> None:
    params = terms().params
    payment = signed_payment(params, PRICE, GATEWAY, [1])
    assert not payment.ticket_params.HasField("expiration_params")
    payment.ticket_params.expiration_params.CopyFrom(payment.expiration_params)
    assert read_ticket_params(payment.ticket_params) == params


def test_work_without_a_price_has_no_terms() -> None:
    assert ticket_terms(pb.OrchestratorInfo()) is None
    free = quote()
    free.price_info.pricePerUnit = 0
    assert ticket_terms(free) is None


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"face_value": b""}, "worth nothing"),
        ({"win_prob": b""}, "worth nothing"),
        ({"expiration_block": b""}, "worth nothing"),
        ({"recipient": b"\x01" * 21}, "recipient is 20 bytes"),
        ({"recipient_rand_hash": b""}, "recipient_rand_hash is 32 bytes"),
        ({"face_value": b"\xff" * 33}, "face_value_wei is an integer"),
    ],
)
def test_terms_that_are_no_terms_are_said_to_be(change: dict[str, bytes], complaint: str) -> None:
    with pytest.raises(ProtocolError, match=complaint):
        ticket_terms(quote(**change))


def test_a_price_needs_parameters_with_their_round() -> None:
    info = quote()
    info.ticket_params.ClearField("expiration_params")
    with pytest.raises(ProtocolError, match="lack the round"):
        ticket_terms(info)
    info.ClearField("ticket_params")
    with pytest.raises(ProtocolError, match="no ticket parameters"):
        ticket_terms(info)


@pytest.mark.parametrize("price", [(1, 0), (-1, 1), (1, -1)])
def test_a_price_that_is_no_price_is_said_to_be(price: tuple[int, int]) -> None:
    info = quote()
    info.price_info.pricePerUnit, info.price_info.pixelsPerUnit = price
    with pytest.raises(ProtocolError, match="the node's price is"):
        price_of(info)
