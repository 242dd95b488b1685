"""Paying for a live stream: for a minute in advance, and then for each interval as it passes.

Source: payments.md sections 2.11 and 7; live.md section 10.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Protocol

from google.protobuf.message import DecodeError

from lpnode.errors import ChainError, ConfigError, ProtocolError, Refused
from lpnode.gateway.credentials import address_signature, credentials_header
from lpnode.gateway.discover import discovery_request, get_orchestrator
from lpnode.gateway.http2_post import Answer, post
from lpnode.gateway.spending_limits import SpendingLimits
from lpnode.gateway.ticket_sender import TicketSender, tickets_needed
from lpnode.gateway.ticket_terms import TicketTerms, ticket_terms
from lpnode.payment.chain_view import SenderFunds
from lpnode.payment.meter import UnitClock
from lpnode.payment.work_units import LIVE_PREPAID_S, LIVE_UNITS_PER_S
from lpnode.protocol import lp_rpc_pb2 as pb
from lpnode.protocol.base64_message import encode_message
from lpnode.protocol.ethereum import Account, Address
from lpnode.protocol.payment_header import PAYMENT_HEADER
from lpnode.protocol.segment_header import SEGMENT_HEADER

_log = logging.getLogger(__name__)

_NS_PER_S = 1_000_000_000
_EXPIRY_MARGIN_BLOCKS = 1
# A token lives half an hour; gateways get a new one in its last tenth.
_TOKEN_MARGIN_S = 180


class SenderChain(Protocol):
    """What a gateway can know of the chain. Both may raise ``ChainError``."""

    async def l1_block(self) -> int:
        """The newest L1 block."""

    async def funds(self, recipient: Address) -> SenderFunds:
        """What the account has in TicketBroker."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LivePaymentConfig:
    """When a gateway pays. Times in seconds.

    Attributes:
        interval_s: between payments (``-livePaymentInterval``).
        stop_after_s: so long after the start it stops paying, to see the node cut the stream; None:
            never.
        params_life_s: how long ticket parameters live: 40 L1 blocks.
        max_age: the share of that life after which they are replaced, where no chain tells the
            block.
        payment_timeout_s: for the answer to a payment.
        refresh_timeout_s: for new parameters.
    """

    interval_s: float = 5.0
    stop_after_s: float | None = None
    params_life_s: float = 480.0
    max_age: float = 0.8
    payment_timeout_s: float = 60.0
    refresh_timeout_s: float = 2.5

    def __post_init__(self) -> None:
        for name in ("interval_s", "params_life_s", "payment_timeout_s", "refresh_timeout_s"):
            if getattr(self, name) <= 0:
                raise ConfigError(f"payment {name} must be positive, got {getattr(self, name)}")
        if not 0 < self.max_age < 1:
            raise ConfigError(f"payment max_age must be between 0 and 1, got {self.max_age:g}")
        if self.stop_after_s is not None and self.stop_after_s < 0:
            raise ConfigError(f"stop_after_s must not be negative, got {self.stop_after_s:g}")


@dataclass(slots=True)
class Paid:
    """What went out. A gateway counts tickets as spent when it sends them, whatever the answer.

    Attributes:
        num_payments: requests with a payment, the first one included.
        num_tickets: in them.
        ev_wei: what the tickets are worth on average.
        fee_wei: what the work costs that the node took them for.
        num_refused: payments that the node did not take.
        num_lost: payments that got no answer.
        num_refreshes: quotes that were asked for between payments.
    """

    num_payments: int = 0
    num_tickets: int = 0
    ev_wei: Fraction = field(default_factory=Fraction)
    fee_wei: Fraction = field(default_factory=Fraction)
    num_refused: int = 0
    num_lost: int = 0
    num_refreshes: int = 0


@dataclass(frozen=True, slots=True)
class _Staged:
    """A payment on its way, and the credit that is left if the node takes it."""

    header: str
    fee_wei: Fraction
    credit_wei: Fraction


class LivePayer:
    """An account that pays for streams. From the event loop only."""

    def __init__(
        self,
        account: Account,
        limits: SpendingLimits | None = None,
        config: LivePaymentConfig | None = None,
        *,
        chain: SenderChain | None = None,
        now_ns: Callable[[], int] = time.monotonic_ns,
        now_s: Callable[[], float] = time.time,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """``now_ns``: monotonic; ``now_s``: since the epoch; ``sleep``: by the former."""
        self.account = account
        self.limits = limits or SpendingLimits()
        self.config = config or LivePaymentConfig()
        self.chain = chain
        self.tickets = TicketSender(account)
        self.now_ns = now_ns
        self.now_s = now_s
        self.sleep = sleep

    def discovery_request(
        self, demand: pb.Capabilities | None, *, ignore_capacity: bool = False
    ) -> pb.OrchestratorRequest:
        """A signed request for terms."""
        return discovery_request(
            demand,
            sender=self.account.address,
            signature=address_signature(self.account),
            ignore_capacity=ignore_capacity,
        )

    async def stream(
        self, info: pb.OrchestratorInfo, demand: pb.Capabilities
    ) -> "LivePayment | None":
        """Agrees to the terms of ``info``; None: the work is free.

        Raises: SpendingLimitExceeded: not to these. ProtocolError: they are no terms. ChainError.
        """
        terms = ticket_terms(info)
        if terms is None:
            return None
        self.limits.check_terms(terms)
        if self.chain is not None:
            self.limits.check_funds(terms, await self.chain.funds(terms.params.recipient))
            block = await self.chain.l1_block()
            if terms.params.expiration_block - block <= _EXPIRY_MARGIN_BLOCKS:
                raise ProtocolError(
                    f"the node's ticket parameters expire at L1 block "
                    f"{terms.params.expiration_block}, and the chain is at {block}"
                )
        return LivePayment(self, info, demand, terms)

    def header_without_payment(self, info: pb.OrchestratorInfo) -> str:
        """The ``Livepeer-Payment`` header for free work: it says whose the credentials are."""
        price = info.price_info if info.HasField("price_info") else None
        return encode_message(pb.Payment(sender=self.account.address, expected_price=price))


class LivePayment:
    """The payments for one stream: ``prepay``, then ``begin`` and ``run``.

    Attributes:
        terms: in force; every answer to a payment brings new ones.
        paid: what went out so far.
        credit_wei: what the node should still owe us, as we count; the node's count is its own.
        has_stopped: by ``stop_after_s``.
    """

    def __init__(
        self,
        payer: LivePayer,
        info: pb.OrchestratorInfo,
        demand: pb.Capabilities,
        terms: TicketTerms,
    ) -> None:
        self._payer = payer
        self._demand = demand
        self._uri = info.transcoder
        self._token = info.auth_token
        self._manifest_id = ""
        self._clock = self._new_clock()
        self._quoted_ns = payer.now_ns()
        self.start_price = terms.price
        self.terms = terms
        self.paid = Paid()
        self.credit_wei = Fraction(0)
        self.has_stopped = False

    async def prepay(self) -> str:
        """The ``Livepeer-Payment`` header of the request that starts the stream.

        Raises: SpendingLimitExceeded.
        """
        staged = await self._staged(LIVE_UNITS_PER_S * LIVE_PREPAID_S)
        # A request that fails ends the matter, so only success is ever counted on.
        self._count_taken(staged)
        return staged.header

    def begin(self, manifest_id: str) -> None:
        """The stream runs from now on; its payments go to ``manifest_id``, which the node gave."""
        self._manifest_id = manifest_id
        self._clock = self._new_clock()

    async def run(self) -> None:
        """Pays after each interval, until cancelled or told to stop by the configuration.

        A payment that gets no answer is lost and the next one goes out in its time, as with any
        gateway. One that is refused is made again with new terms, once.

        Raises:
            Refused: the node does not take our payments, or gives no new terms; with its words.
            SpendingLimitExceeded: a payment would be over a limit; it was not sent.
        """
        config = self._payer.config
        started_ns = self._payer.now_ns()
        while True:
            wait_s = config.interval_s
            if config.stop_after_s is not None:
                ran_s = (self._payer.now_ns() - started_ns) / _NS_PER_S
                if ran_s + wait_s > config.stop_after_s:
                    break
            await self._payer.sleep(wait_s)
            await self._pay_interval()
        self.has_stopped = True
        _log.info("stopped paying, as asked")

    async def _pay_interval(self) -> None:
        units = self._clock.units_due(self._payer.now_ns())
        # Paid for whatever becomes of it: a payment that was lost is not made up for.
        self._clock.bill(units)
        try:
            if await self._is_refresh_due(units):
                await self._refresh()
            answer = await self._send(units)
            if answer.status != 200:
                _log.warning("a payment was refused: %s", _said(answer))
                # They may have expired on the way, or be of before a restart of the node.
                await self._refresh()
                answer = await self._send(units)
        except ProtocolError as error:  # also a peer that is gone
            self.paid.num_lost += 1
            _log.warning("a payment was lost: %s", error)
            return
        if answer.status != 200:
            raise Refused(f"the node refused a payment: {_said(answer)}")

    async def _send(self, units: int) -> Answer:
        staged = await self._staged(units)
        headers = [
            (PAYMENT_HEADER, staged.header),
            (
                SEGMENT_HEADER,
                credentials_header(
                    self._manifest_id, self._demand, self._token, self._payer.account
                ),
            ),
        ]
        answer = await post(
            f"{self._uri}/payment",
            b"",
            headers,
            timeout_s=self._payer.config.payment_timeout_s,
        )
        if answer.status != 200:
            self.paid.num_refused += 1
            return answer
        self._count_taken(staged)
        self._take_over(_result_of(answer).info)
        return answer

    async def _staged(self, units: int) -> _Staged:
        """Signs a payment for ``units``; from here on it is spent."""
        terms, limits = self.terms, self._payer.limits
        limits.check_terms(terms, self.start_price)
        ev_wei = terms.params.expected_value
        fee_wei = units * terms.price
        num_tickets = tickets_needed(self.credit_wei, fee_wei, ev_wei)
        limits.check_total(terms, num_tickets)
        payment = await self._payer.tickets.payment(terms, num_tickets)
        self.paid.num_payments += 1
        self.paid.num_tickets += num_tickets
        self.paid.ev_wei += num_tickets * ev_wei
        staged = _Staged(
            encode_message(payment), fee_wei, self.credit_wei + num_tickets * ev_wei - fee_wei
        )
        self.credit_wei = Fraction(0)
        return staged

    def _count_taken(self, staged: _Staged) -> None:
        self.paid.fee_wei += staged.fee_wei
        self.credit_wei = staged.credit_wei

    async def _is_refresh_due(self, units: int) -> bool:
        params = self.terms.params
        num_tickets = tickets_needed(
            self.credit_wei, units * self.terms.price, params.expected_value
        )
        if num_tickets > self._payer.tickets.room(params):
            return True
        if self._token.expiration - self._payer.now_s() < _TOKEN_MARGIN_S:
            return True
        if self._payer.chain is not None:
            try:
                block = await self._payer.chain.l1_block()
            except ChainError as error:
                _log.warning("no L1 block, ticket parameters go by their age: %s", error)
            else:
                return params.expiration_block - block <= _EXPIRY_MARGIN_BLOCKS
        config = self._payer.config
        age_s = (self._payer.now_ns() - self._quoted_ns) / _NS_PER_S
        return age_s >= config.max_age * config.params_life_s

    async def _refresh(self) -> None:
        """Raises: DiscoveryRefused, PeerGone, ProtocolError."""
        found = await get_orchestrator(
            self._uri,
            self._payer.discovery_request(self._demand, ignore_capacity=True),
            timeout_s=self._payer.config.refresh_timeout_s,
        )
        self.paid.num_refreshes += 1
        session_id = self._token.session_id
        self._take_over(found.info)
        if self._token.session_id != session_id:
            # Gateways count by the session of the token, and begin anew with it.
            self.credit_wei = Fraction(0)

    def _take_over(self, info: pb.OrchestratorInfo) -> None:
        """A node that has no new terms to give sends none; those that we have stay good."""
        terms = ticket_terms(info)
        if terms is None:
            return
        self.terms = terms
        self._quoted_ns = self._payer.now_ns()
        if info.HasField("auth_token"):
            self._token = info.auth_token

    def _new_clock(self) -> UnitClock:
        return UnitClock(self._payer.now_ns(), units_per_s=LIVE_UNITS_PER_S, interval_ns=0)


def _result_of(answer: Answer) -> pb.PaymentResult:
    try:
        return pb.PaymentResult.FromString(answer.body)
    except DecodeError as error:
        raise ProtocolError("the answer to a payment is no PaymentResult") from error


def _said(answer: Answer) -> str:
    text = answer.body.decode(errors="replace").strip()
    return f"HTTP {answer.status}: {text[:500]}"
