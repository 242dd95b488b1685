"""Texts for gateways and operators → the few classes that are counted.

What is refused goes out as text that gateways match on, and why a ticket waits is text for people;
both name addresses and amounts, which no metric may have as labels.

Source: discovery.md section 9 (``payment_recv_errors``); payments.md sections 2.6, 4.3 and 4.5.
"""

from enum import StrEnum
from functools import lru_cache


class RefusalReason(StrEnum):
    """Why a payment, or a ticket in it, was not taken."""

    PRICE = "price"
    RECIPIENT = "recipient"
    RECIPIENT_RAND = "recipient rand"
    INACTIVE = "recipient inactive"
    EXPIRED = "parameters expired"
    SIGNATURE = "signature"
    NONCE = "nonce"
    SENDER_FUNDS = "sender funds"
    SENDER_UNLOCKING = "sender unlocking"
    CHAIN = "chain unreachable"
    MALFORMED = "malformed"

    @property
    def reference_code(self) -> str:
        """The class that go-livepeer would count it under."""
        return _REFERENCE_CODES.get(self, "PaymentError")


class LossReason(StrEnum):
    """What kept a ticket that won from being redeemed until its time was over."""

    NEVER_TRIED = "never tried"
    ROUND = "round not usable"
    GAS_COST = "gas costs more than it pays"
    SENDER_FUNDS = "sender cannot pay"
    SENDER_UNLOCKED = "sender unlocked"
    TRANSACTION = "transaction failed"
    RETRIED = "given up before"


RETRIED = "tried again on request"
"""The reason of a ticket that an operator has put back."""

_REFERENCE_CODES = {
    RefusalReason.PRICE: "InvalidPrice",
    RefusalReason.RECIPIENT_RAND: "InvalidRecipientRand",
}

_REFUSALS = (
    ("invalid expected price", RefusalReason.PRICE),
    ("payment price", RefusalReason.PRICE),
    ("invalid ticket recipient", RefusalReason.RECIPIENT),
    ("invalid recipientRand", RefusalReason.RECIPIENT_RAND),
    ("orchestrator ", RefusalReason.INACTIVE),
    ("TicketParams expired", RefusalReason.EXPIRED),
    ("invalid ticket signature", RefusalReason.SIGNATURE),
    ("invalid ticket senderNonce", RefusalReason.NONCE),
    ("insufficient sender reserve", RefusalReason.SENDER_FUNDS),
    ("deposit and reserve for sender", RefusalReason.SENDER_UNLOCKING),
    ("could not get sender info", RefusalReason.CHAIN),
)

_LOSSES = (
    ("its parameters are in use", LossReason.NEVER_TRIED),
    ("round ", LossReason.ROUND),
    ("insufficient ticket face value", LossReason.GAS_COST),
    ("insufficient sender funds", LossReason.SENDER_FUNDS),
    ("the sender could pay", LossReason.SENDER_FUNDS),
    ("the sender is unlocked", LossReason.SENDER_UNLOCKED),
    (RETRIED, LossReason.RETRIED),
)


@lru_cache(maxsize=128)
def refusal_reason(text: str) -> RefusalReason:
    """The class of a refusal by its public text."""
    for start, reason in _REFUSALS:
        if text.startswith(start):
            return reason
    return RefusalReason.MALFORMED


def loss_reason(text: str) -> LossReason:
    """The class of an expired ticket by its reason: ``why it is over; what it waited for``."""
    waited_for = text.partition("; ")[2]
    if not waited_for:
        return LossReason.NEVER_TRIED
    for start, reason in _LOSSES:
        if waited_for.startswith(start):
            return reason
    # Whatever else it waited for is the text of a transaction, or of an endpoint, that failed.
    return LossReason.TRANSACTION
