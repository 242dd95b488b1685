"""Header fields, versions and signatures against hostile input."""

import contextlib

from hypothesis import given
from hypothesis import strategies as st

from lpnode.errors import NotAuthorised, PaymentUnreadable
from lpnode.protocol import lp_rpc_pb2 as pb
from lpnode.protocol.base64_message import encode_message
from lpnode.protocol.ethereum import Account, Address, is_message_signed_by, is_signed_by
from lpnode.protocol.payment_header import parse_payment
from lpnode.protocol.segment_header import parse_segment, signed_part
from lpnode.protocol.version import is_version_compatible, parse_version

ACCOUNT = Account(b"\5" * 32)
SIGNED = ACCOUNT.sign(b"message")


def test_an_empty_payment_header_is_an_empty_payment() -> None:
    assert parse_payment("") == pb.Payment()


def test_a_payment_of_hundreds_of_tickets_is_read() -> None:
    payment = pb.Payment(sender=b"\1" * 20)
    for nonce in range(600):
        payment.ticket_sender_params.add(sender_nonce=nonce, sig=b"\2" * 65)
    header = encode_message(payment)
    assert len(header) > 50_000
    assert parse_payment(header) == payment


@given(st.text() | st.binary().map(lambda raw: encode_message(pb.PingPong(value=raw))))
def test_any_header_is_read_or_refused(header: str) -> None:
    with contextlib.suppress(PaymentUnreadable):
        parse_payment(header)
    with contextlib.suppress(NotAuthorised):
        signed_part(parse_segment(header))


@given(st.text(), st.text())
def test_any_two_texts_compare_as_versions(minimum: str, version: str) -> None:
    assert is_version_compatible(minimum, version) in (True, False)
    assert is_version_compatible("", version)


@given(st.tuples(*[st.integers(0, 2**60)] * 3), st.sampled_from(["", "-rc.1", "+build", "-a+b"]))
def test_a_version_is_read_back(numbers: tuple[int, int, int], rest: str) -> None:
    text = ".".join(map(str, numbers))
    assert parse_version(text + rest) == numbers
    assert is_version_compatible(text, text + rest)


@given(st.binary(min_size=65, max_size=65), st.sampled_from([27, 28]))
def test_a_made_up_signature_is_nobodys(noise: bytes, v: int) -> None:
    assert not is_signed_by(ACCOUNT.address, bytes(32), noise[:64] + bytes([v]))


@given(st.integers(0, 65 * 8 - 1))
def test_a_signature_with_any_bit_changed_is_refused(bit: int) -> None:
    changed = bytearray(SIGNED)
    changed[bit // 8] ^= 1 << bit % 8
    assert not is_message_signed_by(ACCOUNT.address, b"message", bytes(changed))


def test_a_signature_holds_for_its_message_and_account_only() -> None:
    assert is_message_signed_by(ACCOUNT.address, b"message", SIGNED)
    assert not is_message_signed_by(ACCOUNT.address, b"massage", SIGNED)
    assert not is_message_signed_by(Address(bytes(20)), b"message", SIGNED)
