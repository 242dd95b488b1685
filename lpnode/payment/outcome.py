"""Verdicts on signatures → who is credited, who won, and what is wrong with the rest.

Source: payments.md sections 2.5 to 2.7, steps 6 to 9, and 3.2.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from lpnode.payment.nonces import Nonces, NonceVerdict
from lpnode.payment.params import InsufficientReserve
from lpnode.payment.received import TicketBatch
from lpnode.payment.verifier import Verdicts

NONCE_ERRORS = {verdict: f"invalid ticket senderNonce: {verdict.value}" for verdict in NonceVerdict}
"""What gateways look for; the sender and the nonce follow."""


@dataclass(slots=True)
class Outcome:
    """What a batch comes to, all by place in the list."""

    credited: list[int] = field(default_factory=list)
    winners: Sequence[int] = ()
    errors: dict[int, str] = field(default_factory=dict)


def judge(
    batch: TicketBatch,
    verdicts: Verdicts,
    *,
    left_wei: int,
    nonces: Nonces,
    last_l1_block: int,
) -> Outcome:
    """Claims the nonces of what will be credited. One step, so it sees one state.

    ``left_wei``: what the sender can still pay us at most.
    """
    errors = dict.fromkeys(verdicts.invalid, "invalid ticket signature")
    outcome = Outcome(winners=verdicts.winners, errors=errors)
    expiration_block = batch.terms.expiration_block
    valid = [index for index in range(len(verdicts)) if verdicts.is_valid(index)]
    if nonces.has_expired(expiration_block, last_l1_block):
        errors.update(dict.fromkeys(valid, "TicketParams expired"))
        return outcome
    end = _end_of_funds(left_wei // batch.terms.face_value_wei, verdicts)
    errors.update(dict.fromkeys([i for i in valid if i >= end], str(InsufficientReserve())))
    payable = [index for index in valid if index < end]
    if payable:
        claims = nonces.claim(
            batch.rand_hash, expiration_block, [batch.nonces[index] for index in payable]
        )
        for index, claim in zip(payable, claims, strict=True):
            if claim is NonceVerdict.NEW:
                outcome.credited.append(index)
            else:
                errors[index] = NONCE_ERRORS[claim]
    return outcome


def _end_of_funds(num_payable: int, verdicts: Verdicts) -> int:
    """Index of the first ticket that the sender could not pay if it won.

    Each win of the payment leaves less for the tickets behind it, so that one payment brings no
    more credit on the same funds than many.
    """
    if num_payable <= 0:
        return 0
    winners = verdicts.winners
    return winners[num_payable - 1] + 1 if len(winners) >= num_payable else len(verdicts)
