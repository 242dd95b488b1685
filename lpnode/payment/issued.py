"""Ticket parameters as they go to gateways. Source: payments.md section 1.11."""

from lpnode.payment.ticket import TicketParams
from lpnode.protocol import lp_rpc_pb2 as pb


def to_message(params: TicketParams) -> pb.TicketParams:
    """Returns the message. Zero is absent, as in all integers of it.

    A gateway that finds no round in it would put in its own, which would not be ours.
    """
    return pb.TicketParams(
        recipient=params.recipient,
        face_value=_shortest(params.face_value_wei),
        win_prob=_shortest(params.win_prob),
        recipient_rand_hash=params.recipient_rand_hash,
        seed=_shortest(params.seed),
        expiration_block=_shortest(params.expiration_block),
        expiration_params=pb.TicketExpirationParams(
            creation_round=params.creation_round,
            creation_round_block_hash=params.creation_round_block_hash,
        ),
    )


def _shortest(number: int) -> bytes:
    return number.to_bytes((number.bit_length() + 7) // 8)
