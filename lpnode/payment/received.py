"""A payment message, read strictly: every field has exactly its size, every number its range.

What the reference crops, pads or takes the magnitude of is refused here.
Source: payments.md sections 1.11, 2.4 and 9.2; vectors must_reject_payments.
"""

from array import array
from dataclasses import dataclass
from fractions import Fraction

from lpnode.errors import TicketRejected
from lpnode.payment.params import Terms
from lpnode.payment.ticket import WORD_BYTES
from lpnode.payment.verifier import packed_signatures
from lpnode.protocol import lp_rpc_pb2 as pb
from lpnode.protocol.ethereum import ADDRESS_BYTES, ZERO_ADDRESS, Address, to_address

INVALID_RECIPIENT_RAND = "invalid recipientRand for ticket recipientRandHash"
_MAX_NUMBER_BYTES = 32
_MAX_INT64 = 2**63 - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class TicketBatch:
    """N tickets of one sender under the same terms.

    Attributes:
        rand_hash: as echoed; it proves the terms only if it is that of their recipient rand.
        nonces: N unsigned integers of 32 bits.
        signatures: N rows of 65 bytes; zeros where another length came.
    """

    terms: Terms
    rand_hash: bytes
    nonces: "array[int]"
    signatures: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceivedPayment:
    """``price``: wei per unit as the gateway states it; None when it states none."""

    sender: Address
    price: Fraction | None
    batch: TicketBatch | None


def read_payment(message: pb.Payment, *, max_tickets: int) -> ReceivedPayment:
    """Reads what a payment says; believes none of it yet.

    Tickets beyond ``max_tickets`` are left out.
    Raises: TicketRejected: it cannot be one of ours.
    """
    has_tickets = message.HasField("ticket_params") and bool(message.ticket_sender_params)
    if not has_tickets:
        price = _read_price(message) if message.HasField("expected_price") else None
        return ReceivedPayment(sender=to_address(message.sender), price=price, batch=None)
    if not message.sender:
        raise TicketRejected("Could not find Sender for payment: no sender")
    if len(message.sender) != ADDRESS_BYTES or message.sender == ZERO_ADDRESS:
        raise TicketRejected("invalid ticket sender")
    sender = Address(message.sender)
    price = _read_price(message)
    return ReceivedPayment(
        sender=sender, price=price, batch=_read_batch(message, sender, price, max_tickets)
    )


def _read_price(message: pb.Payment) -> Fraction:
    if not message.HasField("expected_price"):
        problem = "expected price is nil"
    elif message.expected_price.pixelsPerUnit == 0:
        problem = "pixels per unit is 0"
    elif message.expected_price.pixelsPerUnit < 0:
        problem = "pixels per unit is negative"
    elif message.expected_price.pricePerUnit < 0:
        problem = "price per unit is negative"
    else:
        price = message.expected_price
        return Fraction(price.pricePerUnit, price.pixelsPerUnit)
    raise TicketRejected(f'invalid expected price sent with payment err="{problem}"')


def _read_batch(
    message: pb.Payment, sender: Address, price: Fraction, max_tickets: int
) -> TicketBatch:
    params = message.ticket_params
    if len(params.recipient) != ADDRESS_BYTES:
        raise TicketRejected("invalid ticket recipient")
    if not message.HasField("expiration_params"):
        raise TicketRejected("invalid ticket: expiration_params is missing")
    round_hash = message.expiration_params.creation_round_block_hash
    numbers = (params.face_value, params.win_prob, params.expiration_block, params.seed)
    if (
        len(params.recipient_rand_hash) != WORD_BYTES
        or len(round_hash) != WORD_BYTES
        or message.expiration_params.creation_round < 0
        or any(len(number) > _MAX_NUMBER_BYTES for number in numbers)
        or int.from_bytes(params.expiration_block) > _MAX_INT64
    ):
        raise TicketRejected(INVALID_RECIPIENT_RAND)
    tickets = message.ticket_sender_params[:max_tickets]
    return TicketBatch(
        terms=Terms(
            recipient=Address(params.recipient),
            sender=sender,
            face_value_wei=int.from_bytes(params.face_value),
            win_prob=int.from_bytes(params.win_prob),
            expiration_block=int.from_bytes(params.expiration_block),
            price=price,
            creation_round=message.expiration_params.creation_round,
            creation_round_block_hash=round_hash,
            seed=int.from_bytes(params.seed),
        ),
        rand_hash=params.recipient_rand_hash,
        nonces=array("I", (ticket.sender_nonce for ticket in tickets)),
        signatures=packed_signatures(ticket.sig for ticket in tickets),
    )
