"""A live session that is paid for, until it is not. Source: payments.md section 2.11."""

import asyncio
from dataclasses import dataclass, field
from fractions import Fraction

from live_input import h264_input
from node_bench import NodeBench

from lpnode.payment.meter import Meter, MeterConfig
from lpnode.session.stop_reason import StopReason

S = 1_000_000_000


@dataclass
class Purse:
    """Money for one stream."""

    balance_wei: Fraction
    manifest_id: str = "8badf00d"
    fees: list[Fraction] = field(default_factory=list)
    closed: list[str] = field(default_factory=list)

    def debit(self, units: int, fee_wei: Fraction) -> bool:
        if self.balance_wei < fee_wei:
            return False
        self.balance_wei -= fee_wei
        self.fees.append(fee_wei)
        return True

    def close(self, reason: str) -> None:
        self.closed.append(reason)


@dataclass
class Stream:
    """A purse, its meter at 1 wei a second, and the clock that it goes by."""

    purse: Purse
    now_ns: int = 0

    def meter(self) -> Meter:
        return Meter(
            MeterConfig(units_per_s=1),
            self.purse,
            price=Fraction(1),
            now_ns=lambda: self.now_ns,
        )


async def test_input_is_debited_by_the_clock_and_the_meter_is_closed_at_the_end() -> None:
    stream = Stream(Purse(Fraction(100)))
    frames = list(h264_input(6))
    async with NodeBench().running() as bench:
        gateway = bench.start(meter=stream.meter())
        await gateway.exchange(frames[:3])
        stream.now_ns += 7 * S
        await gateway.exchange(frames[3:5])
        assert stream.purse.fees == [7]
        gateway.input.close()
        await gateway.receive_all()
        await bench.ended()
    assert stream.purse.closed == [str(StopReason.INPUT_ENDED)]
    assert stream.purse.balance_wei == 93


async def test_a_stream_that_is_not_paid_for_ends_at_once_and_its_gateway_reads_why() -> None:
    """A2: nothing is debited for the interval, and nothing of it is worked on."""
    stream = Stream(Purse(Fraction(9)))
    frames = list(h264_input(6))
    async with NodeBench().running() as bench:
        gateway = bench.start(meter=stream.meter())
        await gateway.exchange(frames[:3])
        stream.now_ns += 10 * S
        reading = asyncio.create_task(gateway.remaining_events())
        gateway.send(frames[3])
        await gateway.receive_all()
        events = await reading
        await bench.ended()
        assert gateway.session.stop_reason is StopReason.UNPAID
    assert len(gateway.pictures()) == 3
    errors = [event["message"] for event in events if event["type"] == "error"]
    assert errors == ["insufficient balance, mid=8badf00d, fee=10, balance=9"]
    assert (stream.purse.fees, stream.purse.balance_wei) == ([], 9)
    assert stream.purse.closed == [str(StopReason.UNPAID)]


async def test_one_endless_segment_is_billed_like_many() -> None:
    stream = Stream(Purse(Fraction(100)))
    async with NodeBench().running() as bench:
        gateway = bench.start(meter=stream.meter())
        segment = gateway.input.begin()
        for frame in h264_input(8):
            segment.write(frame.data)
            await gateway.receive()
            stream.now_ns += 5 * S
        gateway.input.close()
        await bench.ended()
    assert stream.purse.fees == [5] * 7


async def test_a_paused_stream_costs_nothing_while_it_sends_nothing() -> None:
    stream = Stream(Purse(Fraction(1)))
    frames = list(h264_input(3))
    async with NodeBench().running() as bench:
        gateway = bench.start(meter=stream.meter())
        await gateway.exchange(frames[:2])
        stream.now_ns += 3600 * S
        gateway.input.close()
        await bench.ended()
        assert gateway.session.stop_reason is StopReason.INPUT_ENDED
    assert stream.purse.fees == []
