"""Whole paid streams, media and money, over real sockets; clocks of money run sixty times as fast.

Source: payments.md sections 2.11 and 7.
"""

import asyncio
import re
import time
from fractions import Fraction
from pathlib import Path

import pytest
from node_bench import MODEL
from paid_node import PaidNode, serving_paid_node
from paying_gateway import GATEWAY, Funds

from lpnode.admission.price import PriceBook
from lpnode.errors import DiscoveryRefused, PaymentRequired, Refused, SpendingLimitExceeded
from lpnode.gateway.live_payment import LivePayer, LivePaymentConfig
from lpnode.gateway.live_stream import LiveStream, StreamPlan
from lpnode.gateway.picture_input import PictureInput
from lpnode.gateway.spending_limits import SpendingLimits
from lpnode.media.frame import Frame
from lpnode.media.test_source import read_mark
from lpnode.payment.work_units import LIVE_PREPAID_S

SIZE = (320, 240)
SPEED = 60


def fast_ns() -> int:
    return time.monotonic_ns() * SPEED


async def fast_sleep(seconds: float) -> None:
    await asyncio.sleep(seconds / SPEED)


def payer(
    config: LivePaymentConfig | None = None, limits: SpendingLimits | None = None
) -> LivePayer:
    return LivePayer(GATEWAY, limits, config, now_ns=fast_ns, sleep=fast_sleep)


def read_key(frame: Frame) -> int | None:
    return read_mark(frame.picture, SIZE)


def stream_to(node: PaidNode, payer: LivePayer | None, duration_s: float = 2.0) -> LiveStream:
    return LiveStream(
        StreamPlan(uri=node.service_uri, model_id=MODEL),
        PictureInput(SIZE, 30, duration_s=duration_s),
        read_key=read_key,
        payer=payer,
    )


async def test_a_paid_stream_runs_to_its_end_and_the_node_has_what_was_paid(
    tmp_path: Path,
) -> None:
    async with serving_paid_node(tmp_path, now_ns=fast_ns) as node:
        stream = stream_to(node, payer())
        await stream.run()
        assert stream.failure is None
        assert stream.meter.returns
        assert stream.payment is not None
        paid = stream.payment.paid
        assert paid.num_payments > 3
        assert (paid.num_refused, paid.num_lost) == (0, 0)
        credits = await node.payments.store.write(
            lambda c: c.execute("SELECT num_credited, credit, manifest_id FROM payments").fetchall()
        )
        assert {row[2] for row in credits} == {stream.manifest_id}
        # The last payment may have been on its way when the stream ended.
        missing = paid.ev_wei - sum(Fraction(row[1]) for row in credits)
        assert 0 <= missing < LIVE_PREPAID_S * 27_648_000 * stream.payment.start_price


async def test_a_stream_that_is_paid_no_more_is_cut_and_shows_the_nodes_reason(
    tmp_path: Path,
) -> None:
    async with serving_paid_node(tmp_path, now_ns=fast_ns) as node:
        stream = stream_to(node, payer(LivePaymentConfig(stop_after_s=20.0)), duration_s=60.0)
        await stream.run()
        assert stream.payment is not None
        assert stream.payment.has_stopped
        assert "the node closed the" in str(stream.failure)
        said = re.fullmatch(
            r"insufficient balance, mid=(\w+), fee=(\d+), balance=(\d+)", stream.events.errors[-1]
        )
        assert said
        assert said[1] == stream.manifest_id
        assert int(said[3]) < int(said[2])
        await node.bench.ended()
        left = node.balance(stream.manifest_id)
        assert left is not None
        assert int(left) == int(said[3])
        debits = await node.payments.store.write(
            lambda c: [Fraction(row[0]) for row in c.execute("SELECT fee FROM debits")]
        )
        assert sum(debits) == stream.payment.paid.ev_wei - left


async def test_a_node_that_refuses_payments_ends_the_stream_with_its_words(
    tmp_path: Path,
) -> None:
    async with serving_paid_node(tmp_path, now_ns=fast_ns) as node:
        stream = stream_to(node, payer(), duration_s=60.0)
        running = asyncio.create_task(stream.run())
        while not stream.meter.returns:  # noqa: ASYNC110 - frames announce nothing
            await asyncio.sleep(0.01)
        node.money.chain.is_recipient_active = False
        await running
        assert isinstance(stream.failure, Refused)
        assert "is inactive in round" in str(stream.failure)
        assert stream.meter.returns


async def test_a_price_that_nobody_is_there_to_pay_is_said_with_how_to(tmp_path: Path) -> None:
    async with serving_paid_node(tmp_path) as node:
        with pytest.raises(PaymentRequired, match=r"signed requests only.*--pay KEYFILE"):
            await stream_to(node, None).run()
        node.orchestrator._signer = None
        node.money.chain.funds[GATEWAY.address] = Funds()
        asked = r"asks 1212 wei per unit, 120633753600000 wei \(0\.0001206 ETH\) an hour.*--pay"
        with pytest.raises(PaymentRequired, match=asked):
            await stream_to(node, None).run()
        assert len(node.payments.balances) == 0


async def test_free_work_is_not_paid_for_even_with_a_key(tmp_path: Path) -> None:
    async with serving_paid_node(tmp_path) as node:
        node.prices.replace(PriceBook(base={}))
        stream = stream_to(node, payer(), duration_s=0.5)
        await stream.run()
        assert stream.failure is None
        assert stream.payment is None
        assert len(node.payments.balances) == 0


async def test_a_node_that_costs_too_much_is_not_asked_for_work(tmp_path: Path) -> None:
    async with serving_paid_node(tmp_path) as node:
        limits = SpendingLimits(max_price=Fraction(1000))
        with pytest.raises(SpendingLimitExceeded, match="1212 wei per unit"):
            await stream_to(node, payer(limits=limits)).run()
        assert len(node.payments.balances) == 0


async def test_an_account_without_reserve_is_told_so_by_the_node(tmp_path: Path) -> None:
    async with serving_paid_node(tmp_path) as node:
        node.money.chain.funds[GATEWAY.address] = Funds(reserve_wei=0)
        with pytest.raises(DiscoveryRefused, match="insufficient sender reserve"):
            await stream_to(node, payer()).run()
