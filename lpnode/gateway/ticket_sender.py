"""A gateway's side of tickets: how many to send, their nonces, their signatures.

Source: payments.md sections 1.4, 7.1 and 7.4.
"""

import asyncio
import math
from collections import OrderedDict
from collections.abc import Iterable
from fractions import Fraction

from lpnode.gateway.ticket_terms import TicketTerms
from lpnode.payment.issued import to_message
from lpnode.payment.nonces import MAX_NONCES
from lpnode.payment.ticket import TicketParams
from lpnode.protocol import lp_rpc_pb2 as pb
from lpnode.protocol.ethereum import Account

# A signature takes some 40 us. As many as these keep the event loop no longer than 1 ms.
_MAX_ON_LOOP = 16
# Each lives eight minutes and a stream gets a new one every few seconds.
_MAX_COUNTERS = 10_000


def tickets_needed(credit_wei: Fraction, fee_wei: Fraction, ev_wei: Fraction) -> int:
    """How many tickets worth ``ev_wei`` pay ``fee_wei``, ``credit_wei`` being there already.

    Credit below one ticket's worth is filled up to that, whatever the fee.
    """
    lacking_wei = max(fee_wei, ev_wei) - credit_wei
    return max(0, math.ceil(lacking_wei / ev_wei))


class TicketSender:
    """Signs payments for one account. From the event loop only.

    Nonces count from 1 for each recipient rand hash, so all streams that pay from one account share
    a sender.
    """

    def __init__(self, account: Account) -> None:
        self.account = account
        self._num_sent: OrderedDict[bytes, int] = OrderedDict()

    def room(self, params: TicketParams) -> int:
        """How many more tickets the node will take with these parameters."""
        return MAX_NONCES - self._num_sent.get(params.recipient_rand_hash, 0)

    async def payment(self, terms: TicketTerms, num_tickets: int) -> pb.Payment:
        """A signed payment of so many new tickets; with 0 it only states the price.

        Many are signed on a thread. A nonce is used up even if the payment is never sent.
        """
        if not num_tickets:
            return pb.Payment(sender=self.account.address, expected_price=terms.price_info)
        nonces = self._next_nonces(terms.params.recipient_rand_hash, num_tickets)
        arguments = terms.params, terms.price_info, self.account, nonces
        if num_tickets <= _MAX_ON_LOOP:
            return signed_payment(*arguments)
        return await asyncio.to_thread(signed_payment, *arguments)

    def _next_nonces(self, recipient_rand_hash: bytes, num_tickets: int) -> range:
        num_sent = self._num_sent.get(recipient_rand_hash, 0)
        self._num_sent[recipient_rand_hash] = num_sent + num_tickets
        self._num_sent.move_to_end(recipient_rand_hash)
        if len(self._num_sent) > _MAX_COUNTERS:
            self._num_sent.popitem(last=False)
        return range(num_sent + 1, num_sent + num_tickets + 1)


def signed_payment(
    params: TicketParams, price: pb.PriceInfo, account: Account, nonces: Iterable[int]
) -> pb.Payment:
    """A payment of one ticket for each nonce, signed by ``account``."""
    # The Keccak hash of the packed ticket is the ticket's own, signed as a personal message.
    return pb.Payment(
        ticket_params=echoed(params),
        sender=account.address,
        expiration_params=pb.TicketExpirationParams(
            creation_round=params.creation_round,
            creation_round_block_hash=params.creation_round_block_hash,
        ),
        ticket_sender_params=[
            pb.TicketSenderParams(
                sender_nonce=nonce, sig=account.sign(params.preimage(account.address, nonce))
            )
            for nonce in nonces
        ],
        expected_price=price,
    )


def echoed(params: TicketParams) -> pb.TicketParams:
    """The parameters as a payment carries them: their round stands beside them, not in them."""
    message = to_message(params)
    message.ClearField("expiration_params")
    return message
