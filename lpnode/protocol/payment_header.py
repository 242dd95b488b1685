"""The ``Livepeer-Payment`` header: a ``net.Payment``.

Source: payments.md section 2.2.
"""

from lpnode.errors import PaymentUnreadable
from lpnode.protocol import lp_rpc_pb2 as pb
from lpnode.protocol.base64_message import NotAMessage, NotBase64, decode_message

PAYMENT_HEADER = "Livepeer-Payment"


def parse_payment(header: str) -> pb.Payment:
    """Reads the header; an empty or absent one is an empty payment, which is valid.

    Raises: PaymentUnreadable: with the text that the reference answers (HTTP 402).
    """
    try:
        return decode_message(pb.Payment, header)
    except NotBase64 as error:
        raise PaymentUnreadable(f"base64 decode error: {error}") from error
    except NotAMessage as error:
        raise PaymentUnreadable(f"protobuf unmarshal error: {error}") from error
