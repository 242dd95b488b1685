"""Payments as they come: parameters out, tickets in.

Note [Order of a payment]
Checked (cheap things first, then the signatures, off the event loop) → nonces claimed in memory →
written, with the winners and the credit, in one change → only then credited in memory and
answered. So a crash at any moment loses no winner and no credit that a gateway was told of, and
lets no nonce through twice. A peer that leaves in the middle changes nothing about it.

Unlike the reference, each valid ticket is credited, also behind one that is not; the answer is
still the last error, and a ticket that won is kept whatever else is wrong with it. Tickets worth
nothing, which anybody can have for free work, are taken without a trace: neither their number nor
that of their makers is limited by anything.

Source: payments.md sections 1.8, 2.4 to 2.7 and 9.
"""

import asyncio
import logging
import sqlite3
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass, field
from fractions import Fraction

from lpnode.errors import ChainError, ConfigError, Refused, TicketRejected
from lpnode.payment.balance import BalanceKey, Balances
from lpnode.payment.chain_view import ChainView, SenderFunds
from lpnode.payment.ledger import PaymentRow, add_payment
from lpnode.payment.max_float import available_wei, is_unlocking_soon, max_float_wei
from lpnode.payment.nonce_rows import add_nonces
from lpnode.payment.nonces import MAX_NONCES, Nonces, NonceVerdict
from lpnode.payment.outcome import NONCE_ERRORS, Outcome, judge
from lpnode.payment.params import (
    PARAMS_LIFETIME_BLOCKS,
    PricingConfig,
    Terms,
    face_value_wei,
    win_prob,
)
from lpnode.payment.received import INVALID_RECIPIENT_RAND, TicketBatch, read_payment
from lpnode.payment.senders import Senders
from lpnode.payment.store import PaymentStore
from lpnode.payment.summary import Offer, PaymentTally
from lpnode.payment.ticket import (
    SignedTicket,
    Ticket,
    TicketParams,
    recipient_rand_hash,
)
from lpnode.payment.verifier import TicketVerifier, Verdicts
from lpnode.payment.winning import Winner, WinningTickets, add_winner, is_recorded
from lpnode.protocol import lp_rpc_pb2 as pb
from lpnode.protocol.ethereum import SIGNATURE_BYTES, Address, Signature, checksum_text

_log = logging.getLogger(__name__)

_SEED_BYTES = 32
_NO_HASH = bytes(32)
_FREE = Fraction(0)
_MIN_BLOCKS_TO_REDEEM = 2 * PARAMS_LIFETIME_BLOCKS


@dataclass(frozen=True, slots=True, kw_only=True)
class RecipientConfig:
    """How payments are taken.

    Attributes:
        recipient: whom tickets pay.
        pricing: how tickets are made.
        max_tickets: what is looked at of one payment; more of one recipient rand never count.
        num_inline: up to as many tickets are verified without leaving the event loop.
    """

    recipient: Address
    pricing: PricingConfig = field(default_factory=PricingConfig)
    max_tickets: int = MAX_NONCES
    num_inline: int = 4

    def __post_init__(self) -> None:
        if self.max_tickets <= 0:
            raise ConfigError(f"max_tickets must be positive, got {self.max_tickets}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """What a payment brought.

    ``price``: wei per unit that came with the tickets, and is bound to them; None without tickets.
    ``ev_wei``: what one of its tickets is worth; 0 without tickets.
    """

    sender: Address
    price: Fraction | None = None
    ev_wei: Fraction = Fraction(0)
    num_tickets: int = 0
    num_credited: int = 0
    num_won: int = 0

    @property
    def credit_wei(self) -> Fraction:
        """What was added to the balance."""
        return self.num_credited * self.ev_wei


class Recipient:
    """Issues parameters and takes payments for one recipient. Used from the event loop only."""

    def __init__(
        self,
        config: RecipientConfig,
        *,
        params_key: bytes,
        chain: ChainView,
        senders: Senders,
        store: PaymentStore,
        balances: Balances,
        nonces: Nonces,
        winners: WinningTickets,
        verifier: TicketVerifier,
        threads: Executor,
        entropy: Callable[[int], bytes],
        now_s: Callable[[], float],
        tally: PaymentTally,
    ) -> None:
        """``threads`` verify big payments. ``entropy``: n → n random bytes. ``now_s``: seconds
        since the epoch."""
        self.config = config
        self._params_key = params_key
        self._chain = chain
        self._senders = senders
        self._store = store
        self._balances = balances
        self._nonces = nonces
        self._winners = winners
        self._verifier = verifier
        self._threads = threads
        self._entropy = entropy
        self._now_s = now_s
        self._tally = tally
        self._first_expiration_block = chain.last_l1_block + PARAMS_LIFETIME_BLOCKS

    async def face_value_wei(self, sender: Address) -> int:
        """What a ticket of the sender would pay now, for a price that is not 0.

        Raises: InsufficientReserve, ChainError.
        """
        pricing = self.config.pricing
        funds = await self._senders.funds(sender)
        float_wei = max_float_wei(funds, self._chain.pool_size, self._winners.pending_wei(sender))
        value_wei = face_value_wei(
            float_wei,
            self._chain.gas_price_wei,
            ev_wei=pricing.ev_wei,
            redeem_gas=pricing.redeem_gas,
            max_face_value_wei=pricing.max_face_value_wei,
        )
        self._tally.offered(sender, Offer(max_float_wei=float_wei, face_value_wei=value_wei))
        return value_wei

    async def tx_cost_multiplier(self, sender: Address) -> Fraction:
        """Face value / cost of redeeming; 0 while gas costs nothing.

        Raises: InsufficientReserve, ChainError.
        """
        tx_cost_wei = self.config.pricing.redeem_gas * self._chain.gas_price_wei
        if not tx_cost_wei:
            return Fraction(0)
        return Fraction(await self.face_value_wei(sender), tx_cost_wei)

    async def ticket_params(self, sender: Address, price: Fraction) -> TicketParams:
        """New parameters for ``sender``, bound to ``price`` as it stands beside them, wei per unit.

        Raises: InsufficientReserve, ChainError; Refused: tickets of this round could never be
        redeemed.
        """
        value_wei = await self.face_value_wei(sender) if price > 0 else 0
        number, block_hash = self._creation_round(is_priced=price > 0)
        terms = Terms(
            recipient=self.config.recipient,
            sender=sender,
            face_value_wei=value_wei,
            win_prob=win_prob(value_wei, self.config.pricing.ev_for(price, value_wei)),
            expiration_block=self._chain.last_l1_block + PARAMS_LIFETIME_BLOCKS,
            price=price,
            creation_round=number,
            creation_round_block_hash=block_hash,
            seed=int.from_bytes(self._entropy(_SEED_BYTES)),
        )
        return terms.params(terms.recipient_rand(self._params_key))

    async def receive(
        self, message: pb.Payment, manifest_id: str, *, lowest_price: Fraction = _FREE
    ) -> Receipt:
        """Takes a payment towards ``manifest_id``; one without tickets is as welcome.

        ``lowest_price``: what the work that it pays for must be paid with, wei per unit. Tickets
        made for cheaper work are not taken, unless they were made before the process began: what
        had been quoted then is not known, and the caller bills ``lowest_price`` at least.
        Raises:
            TicketRejected: with a text that gateways know. What was valid of it is credited.
            StorageFailed: nothing is credited.
        """
        num_tickets = len(message.ticket_sender_params)
        self._tally.num_tickets += num_tickets
        try:
            payment = read_payment(message, max_tickets=self.config.max_tickets)
            batch = payment.batch
            if batch is None:
                return Receipt(sender=payment.sender)
            if batch.terms.expiration_block >= self._first_expiration_block:
                _check_price(batch.terms.price, lowest_price)
            recipient_rand = self._check_terms(batch)
            params = batch.terms.params(recipient_rand)
            ev_wei = params.expected_value
            if not ev_wei:
                return Receipt(sender=payment.sender, price=payment.price, num_tickets=num_tickets)
            funds = await self._funds(payment.sender)
        except TicketRejected as error:
            self._tally.refused(str(error), [str(error)] * num_tickets)
            raise
        verdicts = await self._verify(batch, params, recipient_rand)
        pending_wei = self._winners.pending_wei(payment.sender)
        outcome = judge(
            batch,
            verdicts,
            left_wei=available_wei(funds, self._chain.pool_size, pending_wei),
            nonces=self._nonces,
            last_l1_block=self._chain.last_l1_block,
        )
        left_out = range(len(batch.nonces), num_tickets)
        outcome.errors.update(dict.fromkeys(left_out, NONCE_ERRORS[NonceVerdict.TOO_MANY]))
        receipt = Receipt(
            sender=payment.sender,
            price=payment.price,
            ev_wei=ev_wei,
            num_tickets=num_tickets,
            num_credited=len(outcome.credited),
            num_won=len(outcome.winners),
        )
        if outcome.credited or outcome.winners:
            await self._record(receipt, batch, params, recipient_rand, outcome, manifest_id)
        if outcome.errors:
            last = max(outcome.errors)
            text = outcome.errors[last]
            self._tally.refused(text, outcome.errors.values())
            if text in NONCE_ERRORS.values():
                nonce = message.ticket_sender_params[last].sender_nonce
                text += f" sender={checksum_text(payment.sender)} nonce={nonce}"
            raise TicketRejected(text)
        return receipt

    def _creation_round(self, *, is_priced: bool) -> tuple[int, bytes]:
        chain = self._chain
        number = chain.last_initialized_round
        block_hash = chain.round_block_hash(number)
        if block_hash != _NO_HASH:
            return number, block_hash
        # Tickets of the round before can be redeemed until the present one ends, and not before
        # their parameters have expired.
        block_hash = chain.round_block_hash(number - 1)
        is_time_left = (
            chain.is_round_initialized and chain.num_round_blocks_left > _MIN_BLOCKS_TO_REDEEM
        )
        if block_hash != _NO_HASH and (is_time_left or not is_priced):
            return number - 1, block_hash
        if is_priced:
            raise Refused(f"round {number} has no block hash, so its tickets cannot be redeemed")
        return number, _NO_HASH

    def _check_terms(self, batch: TicketBatch) -> bytes:
        """What needs neither chain nor signature. Returns the recipient rand."""
        if batch.terms.recipient != self.config.recipient:
            raise TicketRejected("invalid ticket recipient")
        recipient_rand = batch.terms.recipient_rand(self._params_key)
        if recipient_rand_hash(recipient_rand) != batch.rand_hash:
            raise TicketRejected(INVALID_RECIPIENT_RAND)
        if not self._chain.is_recipient_active:
            raise TicketRejected(
                f"orchestrator {checksum_text(self.config.recipient)} is inactive in round "
                f"{self._chain.last_initialized_round}, cannot process payments"
            )
        return recipient_rand

    async def _funds(self, sender: Address) -> SenderFunds:
        try:
            funds = await self._senders.funds(sender)
        except ChainError as error:
            raise TicketRejected(
                f"could not get sender info for {checksum_text(sender)}"
            ) from error
        if is_unlocking_soon(funds, self._chain.last_initialized_round):
            raise TicketRejected(
                f"deposit and reserve for sender {checksum_text(sender)} is set to unlock soon"
            )
        return funds

    async def _verify(
        self, batch: TicketBatch, params: TicketParams, recipient_rand: bytes
    ) -> Verdicts:
        arguments = (batch.terms.sender, params, recipient_rand, batch.nonces, batch.signatures)
        if len(batch.nonces) <= self.config.num_inline:
            return self._verifier.verify(*arguments)
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, self._verifier.verify, *arguments)

    async def _record(
        self,
        receipt: Receipt,
        batch: TicketBatch,
        params: TicketParams,
        recipient_rand: bytes,
        outcome: Outcome,
        manifest_id: str,
    ) -> None:
        key = BalanceKey(receipt.sender, manifest_id)
        now_s = self._now_s()
        nonces = [batch.nonces[index] for index in outcome.credited]
        row = PaymentRow(
            key=key,
            rand_hash=batch.rand_hash,
            num_tickets=receipt.num_tickets,
            num_credited=receipt.num_credited,
            credit_wei=receipt.credit_wei,
        )
        winners = [
            _winner(
                SignedTicket(
                    Ticket(params, receipt.sender, batch.nonces[index]),
                    Signature(_row(batch.signatures, index)),
                    recipient_rand,
                ),
                manifest_id,
                now_s,
            )
            for index in outcome.winners
        ]
        # By hash: a ticket that comes twice in one payment is one winner.
        unknown = {w.hash: w for w in winners if self._winners.get(w.hash) is None}
        if not nonces and not unknown:
            return

        def write(connection: sqlite3.Connection) -> list[Winner]:
            new = [w for w in unknown.values() if not is_recorded(connection, w.hash)]
            if not nonces and not new:
                # A replay must not make the store grow.
                return new
            payment_id = add_payment(connection, row, now_s)
            if nonces:
                add_nonces(connection, batch.rand_hash, params.expiration_block, nonces)
            for winner in new:
                add_winner(connection, winner, payment_id)
            return new

        expected_wei = sum(winner.face_value_wei for winner in unknown.values())
        self._winners.expect(receipt.sender, expected_wei)

        def made(new_winners: list[Winner]) -> None:
            self._winners.expect(receipt.sender, -expected_wei)
            if nonces:
                self._balances.credit_recorded(key, receipt.credit_wei)
            if nonces or new_winners:
                self._tally.took(
                    num_credited=receipt.num_credited,
                    credit_wei=receipt.credit_wei,
                    num_won=len(new_winners),
                )
            for winner in new_winners:
                self._winners.put_recorded(winner)
                _log.info(
                    "ticket won: %s, %d wei of %s",
                    winner.hash.hex(),
                    winner.face_value_wei,
                    checksum_text(winner.sender),
                )

        def failed() -> None:
            self._winners.expect(receipt.sender, -expected_wei)
            self._nonces.release(batch.rand_hash, nonces)

        await self._store.write(write, made=made, failed=failed)


def _check_price(price: Fraction, lowest_price: Fraction) -> None:
    if price < lowest_price:
        raise TicketRejected(
            f"payment price does not match the price of the work: got {price} wei per unit, "
            f"expected at least {lowest_price}"
        )


def _winner(signed: SignedTicket, manifest_id: str, now_s: float) -> Winner:
    return Winner(signed=signed, hash=signed.ticket.hash, manifest_id=manifest_id, won_at_s=now_s)


def _row(signatures: bytes, index: int) -> bytes:
    return signatures[index * SIGNATURE_BYTES : (index + 1) * SIGNATURE_BYTES]
