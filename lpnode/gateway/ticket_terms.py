"""What a node asks for its work, as a gateway reads it: a price, and what tickets must look like.

Source: payments.md sections 1.11 and 2.9.
"""

from dataclasses import dataclass
from fractions import Fraction

from lpnode.errors import InvalidArgument, ProtocolError
from lpnode.payment.ticket import MAX_WIN_PROB, TicketParams
from lpnode.protocol import lp_rpc_pb2 as pb
from lpnode.protocol.ethereum import Address


@dataclass(frozen=True, slots=True)
class TicketTerms:
    """One quote. Its price and its parameters are bound to each other: neither goes with another's.

    ``price_info`` is echoed in payments just as it came.
    """

    params: TicketParams
    price_info: pb.PriceInfo

    @property
    def price(self) -> Fraction:
        """Wei per unit of work."""
        return Fraction(self.price_info.pricePerUnit, self.price_info.pixelsPerUnit)

    @property
    def odds(self) -> Fraction:
        """How many tickets there are to one that wins, on average."""
        return Fraction(MAX_WIN_PROB, self.params.win_prob)


def price_of(info: pb.OrchestratorInfo) -> Fraction:
    """Wei per unit of work; 0 where the node asks none, as off-chain.

    Raises: ProtocolError: a price that no gateway can use.
    """
    if not info.HasField("price_info"):
        return Fraction(0)
    price = info.price_info
    if price.pixelsPerUnit <= 0 or price.pricePerUnit < 0:
        raise ProtocolError(
            f"the node's price is {price.pricePerUnit} wei for {price.pixelsPerUnit} units"
        )
    return Fraction(price.pricePerUnit, price.pixelsPerUnit)


def ticket_terms(info: pb.OrchestratorInfo) -> TicketTerms | None:
    """Reads the terms of a reply; None: the work is free.

    Raises: ProtocolError: the node asks for money, and its terms are no terms.
    """
    if not price_of(info):
        return None
    if not info.HasField("ticket_params"):
        raise ProtocolError("the node asks a price and gives no ticket parameters to pay it with")
    params = read_ticket_params(info.ticket_params)
    if not params.win_prob or not params.face_value_wei or not params.expiration_block:
        raise ProtocolError("the node asks a price and its tickets are worth nothing")
    return TicketTerms(params, info.price_info)


def read_ticket_params(message: pb.TicketParams) -> TicketParams:
    """What a node sent. Raises: ProtocolError: a field is missing or does not fit."""
    if not message.HasField("expiration_params"):
        raise ProtocolError("the node's ticket parameters lack the round that they are bound to")
    try:
        return TicketParams(
            recipient=Address(message.recipient),
            face_value_wei=int.from_bytes(message.face_value),
            win_prob=int.from_bytes(message.win_prob),
            recipient_rand_hash=message.recipient_rand_hash,
            seed=int.from_bytes(message.seed),
            expiration_block=int.from_bytes(message.expiration_block),
            creation_round=message.expiration_params.creation_round,
            creation_round_block_hash=message.expiration_params.creation_round_block_hash,
        )
    except InvalidArgument as error:
        raise ProtocolError(f"the node's ticket parameters: {error}") from error
