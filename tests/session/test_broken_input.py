"""Whatever comes in, a session skips it or ends with a clear reason, and leaves nothing behind."""

import asyncio

import pytest
from broken_streams import BROKEN
from live_input import h264_input
from node_bench import NodeBench

from lpnode.session.stop_reason import StopReason


def segments() -> list[bytes]:
    made: list[bytearray] = []
    for frame in h264_input(24, gop=8, width=320, height=240):
        if frame.starts_segment:
            made.append(bytearray())
        made[-1] += frame.data
    return [bytes(segment) for segment in made]


@pytest.mark.parametrize("name", list(BROKEN))
async def test_a_broken_stream_is_survived_or_refused_with_a_reason(name: str) -> None:
    async with NodeBench().running() as bench:
        gateway = bench.start()
        events = asyncio.create_task(gateway.remaining_events())
        damaged = BROKEN[name](segments())
        segment = gateway.input.begin()
        for begin in range(0, len(damaged), 5000):
            segment.write(damaged[begin : begin + 5000])
            await asyncio.sleep(0)
        segment.close()
        gateway.input.close()
        await gateway.receive_all()
        await bench.ended()
        messages = [event["message"] for event in await events if event["type"] == "error"]
    reason = gateway.session.stop_reason
    assert reason in {StopReason.INPUT_ENDED, StopReason.MEDIA_FAILED}
    assert messages or reason is StopReason.INPUT_ENDED


async def test_a_session_goes_on_after_damage() -> None:
    async with NodeBench().running() as bench:
        gateway = bench.start()
        await gateway.exchange(h264_input(4, gop=8))
        gateway.input.publish(BROKEN["bits flipped at random"](segments())[:20_000])
        frames = list(h264_input(5, first_frame=200))
        for frame in frames:
            gateway.send(frame)
            await asyncio.sleep(0.05)
        gateway.input.close()
        await gateway.receive_all()
        await bench.ended()
    assert gateway.pictures()[-1].pts == frames[-1].pts_ticks
