"""Payments for a stream, interval by interval, to a real node over TLS; only the clock is ours.

Source: payments.md sections 2.11 and 7; live.md section 10.
"""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from live_input import h264_input
from node_bench import KEY, MODEL, Gateway
from paid_node import PRICE, PaidNode, serving_paid_node
from paying_gateway import GATEWAY, Funds, PaymentBench
from payment_vectors import VECTORS

from lpnode.admission.price import PriceBook
from lpnode.errors import ProtocolError, Refused, SpendingLimitExceeded
from lpnode.gateway.discover import demand_for, get_orchestrator
from lpnode.gateway.live_job import LiveJobRequest, start_live_job
from lpnode.gateway.live_payment import LivePayer, LivePayment, LivePaymentConfig
from lpnode.gateway.spending_limits import SpendingLimits
from lpnode.payment.params import PricingConfig
from lpnode.payment.work_units import LIVE_PREPAID_S, LIVE_UNITS_PER_S
from lpnode.protocol import lp_rpc_pb2 as pb
from lpnode.protocol.capability import LIVE_VIDEO_TO_VIDEO
from lpnode.protocol.ethereum import Address
from lpnode.session.stop_reason import StopReason

S = 1_000_000_000
DEMAND = demand_for(LIVE_VIDEO_TO_VIDEO, MODEL)


class TimeIsUp(Exception):
    """The test has seen enough."""


@dataclass
class ChainOfSender:
    """What a gateway reads of the node's own chain, which may be ahead of the node's view."""

    money: PaymentBench
    blocks_ahead: int = 0

    async def l1_block(self) -> int:
        return self.money.chain.last_l1_block + self.blocks_ahead

    async def funds(self, recipient: Address) -> Funds:
        return await self.money.chain.sender_funds(GATEWAY.address)


@dataclass
class PaidStream:
    """A stream at a node, its payments, and time that passes only in ``run``."""

    node: PaidNode
    payment: LivePayment
    media: Gateway
    manifest_id: str
    between: Callable[[int], None] = lambda _: None
    """Called before each payment with its number, from 1."""
    num_intervals: int = 0
    most_intervals: int = 0
    frames: Any = field(default_factory=lambda: h264_input(1000))

    async def run(self, num_intervals: int) -> None:
        self.most_intervals = self.num_intervals + num_intervals
        with pytest.raises(TimeIsUp):
            await self.payment.run()

    async def pass_time(self, seconds: float) -> None:
        if self.num_intervals == self.most_intervals:
            raise TimeIsUp
        self.num_intervals += 1
        self.node.money.now_ns += round(seconds * S)
        await self.media.exchange([next(self.frames)])
        self.between(self.num_intervals)

    @property
    def fee_per_s(self) -> Fraction:
        return LIVE_UNITS_PER_S * self.payment.start_price


async def prepaid(node: PaidNode, payer: LivePayer) -> tuple[LivePayment, pb.OrchestratorInfo, str]:
    """Everything before the job is asked for; the text is the payment's header."""
    found = await get_orchestrator(node.service_uri, payer.discovery_request(DEMAND))
    payment = await payer.stream(found.info, DEMAND)
    assert payment is not None
    return payment, found.info, await payment.prepay()


@asynccontextmanager
async def paid_stream(
    folder: Path,
    *,
    pricing: PricingConfig | None = None,
    limits: SpendingLimits | None = None,
    config: LivePaymentConfig | None = None,
    blocks_ahead: int | None = None,
) -> AsyncIterator[PaidStream]:
    """``blocks_ahead``: of the gateway's chain; None: it has no chain."""
    async with serving_paid_node(folder, pricing=pricing) as node:
        streams: list[PaidStream] = []
        money = node.money
        payer = LivePayer(
            GATEWAY,
            limits,
            config,
            chain=None if blocks_ahead is None else ChainOfSender(money, blocks_ahead),
            now_ns=lambda: money.now_ns,
            sleep=lambda seconds: streams[0].pass_time(seconds),
        )
        payment, info, header = await prepaid(node, payer)
        job = await start_live_job(
            info, DEMAND, LiveJobRequest(model_id=MODEL), account=GATEWAY, payment=header
        )
        payment.begin(job.manifest_id)
        media = Gateway(node.bench.channels, node.bench.sessions._sessions[job.manifest_id])
        streams.append(PaidStream(node, payment, media, job.manifest_id))
        yield streams[0]


async def test_ten_minutes_are_paid_and_both_sides_count_the_same(tmp_path: Path) -> None:
    async with paid_stream(tmp_path) as stream:
        await stream.run(120)
        paid = stream.payment.paid
        assert paid.num_payments == 121
        assert (paid.num_refused, paid.num_lost, paid.num_refreshes) == (0, 0, 0)
        assert paid.fee_wei == (LIVE_PREPAID_S + 600) * stream.fee_per_s
        assert paid.ev_wei == paid.fee_wei + stream.payment.credit_wei
        # The node is to be paid for a minute that it has not worked yet.
        balance = stream.node.balance(stream.manifest_id)
        assert balance == stream.payment.credit_wei + LIVE_PREPAID_S * stream.fee_per_s
        assert 0 <= stream.payment.credit_wei < stream.payment.terms.params.expected_value
        assert stream.media.session.stop_reason is None


async def test_large_tickets_go_out_only_when_credit_is_used_up(tmp_path: Path) -> None:
    pricing = PricingConfig(ev_wei=3 * 10**12 - 1, max_face_value_wei=10**15)
    async with paid_stream(tmp_path, pricing=pricing) as stream:
        await stream.run(24)
        paid = stream.payment.paid
        assert paid.num_payments == 25
        assert paid.num_tickets < 25
        assert stream.media.session.stop_reason is None


async def test_time_between_payments_is_paid_to_the_last_fraction(tmp_path: Path) -> None:
    config = LivePaymentConfig(interval_s=3.000000007)
    async with paid_stream(tmp_path, config=config) as stream:
        await stream.run(11)
        units = LIVE_UNITS_PER_S * 11 * 3_000_000_007 // S
        prepaid = LIVE_PREPAID_S * LIVE_UNITS_PER_S
        assert stream.payment.paid.fee_wei == (prepaid + units) * stream.payment.start_price


async def test_a_gateway_that_stops_paying_is_cut_when_its_money_is_used_up(
    tmp_path: Path,
) -> None:
    """A2: nothing is owed in the end, and nothing is worked for that is not paid."""
    async with paid_stream(tmp_path, config=LivePaymentConfig(stop_after_s=30.0)) as stream:
        stream.most_intervals = 6
        await stream.payment.run()
        assert stream.payment.has_stopped
        assert stream.payment.paid.num_payments == 7
        media, unpaid_s = stream.media, 0
        while media.session.stop_reason is None:
            stream.node.money.now_ns += 5 * S
            media.send(next(stream.frames))
            if not await media.receive():
                break
            unpaid_s += 5
        assert media.session.stop_reason is StopReason.UNPAID
        assert LIVE_PREPAID_S <= unpaid_s <= LIVE_PREPAID_S + 5
        await stream.node.bench.ended()
        left = stream.node.balance(stream.manifest_id)
        assert left is not None
        assert 0 <= left < 5 * stream.fee_per_s


@pytest.mark.parametrize("case", VECTORS["params_expiry"])
async def test_parameters_are_replaced_a_block_before_they_expire(
    tmp_path: Path, case: dict[str, Any]
) -> None:
    async with paid_stream(tmp_path, blocks_ahead=0) as stream:
        assert stream.payment.terms.params.expiration_block == case["expiration_block"]
        ahead = case["last_l1_block"] - stream.node.money.chain.last_l1_block
        chain = stream.payment._payer.chain
        assert isinstance(chain, ChainOfSender)
        chain.blocks_ahead = ahead
        await stream.run(1)
        is_replaced = not case["gateway_would_send"]
        assert stream.payment.paid.num_refreshes == is_replaced
        assert stream.payment.paid.num_refused == 0


async def test_without_a_chain_parameters_are_replaced_by_their_age(tmp_path: Path) -> None:
    """The node has no new ones to give with its answers."""
    async with paid_stream(tmp_path, config=LivePaymentConfig(interval_s=20.0)) as stream:
        hashes = dict(stream.node.money.chain.round_hashes)

        def lack_round(number: int) -> None:
            stream.node.money.chain.round_hashes = {} if number < 5 else hashes

        stream.between = lack_round
        stream.payment._payer.config = LivePaymentConfig(interval_s=20.0, params_life_s=125.0)
        await stream.run(4)
        first = stream.payment.terms
        assert stream.payment.paid.num_refreshes == 0
        await stream.run(1)
        assert stream.payment.paid.num_refreshes == 1
        assert stream.payment.terms != first
        assert stream.payment.paid.num_refused == 0


async def test_parameters_that_take_no_more_tickets_are_replaced(tmp_path: Path) -> None:
    """A node takes 600 tickets for each; a quote that is never renewed runs out of them."""
    async with paid_stream(tmp_path) as stream:
        room = stream.payment._payer.tickets.room(stream.payment.terms.params)
        hashes = dict(stream.node.money.chain.round_hashes)
        per_payment = 21
        most = room // per_payment

        def lack_round(number: int) -> None:
            stream.node.money.chain.round_hashes = {} if number <= most else hashes

        stream.between = lack_round
        await stream.run(most + 1)
        paid = stream.payment.paid
        assert (paid.num_refreshes, paid.num_refused) == (1, 0)


async def test_a_payment_with_expired_parameters_is_made_again_with_new_ones(
    tmp_path: Path,
) -> None:
    async with paid_stream(tmp_path) as stream:
        chain = stream.node.money.chain

        def expire(number: int) -> None:
            chain.last_l1_block += 40 if number == 2 else 0

        stream.between = expire
        await stream.run(3)
        paid = stream.payment.paid
        assert (paid.num_refused, paid.num_refreshes, paid.num_payments) == (1, 1, 5)
        assert paid.fee_wei == (LIVE_PREPAID_S + 15) * stream.fee_per_s


async def test_a_node_that_refuses_twice_ends_the_stream_with_its_words(tmp_path: Path) -> None:
    async with paid_stream(tmp_path) as stream:
        stream.most_intervals = 1
        stream.node.money.chain.is_recipient_active = False
        refused = r"the node refused a payment: HTTP 400: orchestrator 0x70\w+ is inactive in round"
        with pytest.raises(Refused, match=refused):
            await stream.payment.run()
        assert stream.payment.paid.num_refused == 2


async def test_a_price_that_more_than_doubles_ends_the_stream_unpaid(tmp_path: Path) -> None:
    async with paid_stream(tmp_path) as stream:

        def raise_price(number: int) -> None:
            book = PriceBook(base={}, models={None: {KEY: 3 * PRICE}})
            stream.node.prices.replace(book)

        stream.between = raise_price
        stream.most_intervals = 3
        with pytest.raises(SpendingLimitExceeded, match="more than twice the price at the start"):
            await stream.payment.run()
        assert stream.payment.paid.num_payments == 2
        assert stream.num_intervals == 2


async def test_a_payment_that_finds_nobody_is_lost_and_not_made_up_for(tmp_path: Path) -> None:
    async with paid_stream(tmp_path) as stream:
        uri = stream.payment._uri

        def lose_way(number: int) -> None:
            stream.payment._uri = "https://127.0.0.1:1" if number == 2 else uri

        stream.between = lose_way
        await stream.run(3)
        paid = stream.payment.paid
        assert (paid.num_lost, paid.num_payments) == (1, 4)
        assert paid.fee_wei == (LIVE_PREPAID_S + 10) * stream.fee_per_s


@pytest.mark.parametrize(
    ("limits", "pricing", "complaint"),
    [
        ({"max_price": Fraction(1000)}, {}, r"asks 1212 wei per unit, .* highest price"),
        ({"max_ticket_ev_wei": 10**9}, {}, "worth 8000000000 wei"),
        ({"max_total_ev_wei": 10**12}, {}, "payment of 252 tickets"),
        ({}, {"ev_wei": 10**9}, "-ticketEV is too low for its price"),
    ],
)
async def test_what_is_over_a_limit_is_never_sent(
    tmp_path: Path, limits: dict[str, Any], pricing: dict[str, int], complaint: str
) -> None:
    async with serving_paid_node(tmp_path, pricing=PricingConfig(**pricing)) as node:
        payer = LivePayer(GATEWAY, SpendingLimits(**limits))
        with pytest.raises(SpendingLimitExceeded, match=complaint):
            await prepaid(node, payer)


async def test_an_account_without_funds_does_not_begin(tmp_path: Path) -> None:
    async with serving_paid_node(tmp_path) as node:
        payer = LivePayer(GATEWAY, chain=ChainOfSender(node.money))
        found = await get_orchestrator(node.service_uri, payer.discovery_request(DEMAND))
        node.money.chain.funds[GATEWAY.address] = Funds(deposit_wei=0)
        with pytest.raises(SpendingLimitExceeded, match="needs a deposit and a reserve"):
            await payer.stream(found.info, DEMAND)


async def test_terms_that_expire_at_once_are_not_begun_with(tmp_path: Path) -> None:
    async with serving_paid_node(tmp_path) as node:
        payer = LivePayer(GATEWAY, chain=ChainOfSender(node.money, blocks_ahead=39))
        with pytest.raises(ProtocolError, match="expire at L1 block 140, and the chain is at 139"):
            await prepaid(node, payer)
