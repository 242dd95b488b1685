"""What gateways rely on, in the terms of live.md's checklist, against a whole node."""

import asyncio
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest
from end_to_end.gateway_peer import Job, live_job, run_good_session
from end_to_end.whole_node import operator_uri, scrape, until, whole_node
from live_input import InputFrame, h264_input

from lpnode.command.stream import mark_reader
from lpnode.gateway.live_client import LiveClientConfig
from lpnode.gateway.live_stream import LiveStream, StreamPlan, Update
from lpnode.gateway.picture_input import PictureInput
from lpnode.node import Node

TICKS_A_FRAME = 4500
SIZE = (320, 240)


def few_frames(count: int, first_frame: int = 0, *, gop: int = 20) -> Iterator[InputFrame]:
    return h264_input(count, first_frame=first_frame, gop=gop, width=320, height=240)


async def all_is_given_back(node: Node, job: Job) -> None:
    """Within two seconds of now: output and events closed, the slot free."""
    async with asyncio.timeout(2):
        await until(lambda: job.has_output_ended and job.have_events_ended)
        await node.sessions.wait_ended()
        assert all(node.capacity.in_use(key) == 0 for key in node.capacity.keys())  # noqa: SIM118


async def test_a_backlog_is_skipped_to_the_live_edge(tmp_path: Path) -> None:
    """L22: five seconds at network speed, as after a swap; then the stream goes on in real time."""
    async with whole_node(tmp_path) as node:
        async with live_job(node.service_uri) as job:
            sent = await job.send(few_frames(100, 1000))
            async with asyncio.timeout(1):
                await until(lambda: job.pts[-1:] == sent[-1:])
            await job.exchange(few_frames(5, 1100))
            await job.stop()
        frames = await scrape(operator_uri(node))
        assert frames["lpnode_frames_total decoded"] < 80
        assert job.pts == sorted(set(job.pts))


async def test_joining_a_running_stream_takes_the_replayed_update_and_the_running_segment(
    tmp_path: Path,
) -> None:
    """L55: the first time is far from 0 and half a segment comes at once."""
    half_segment = list(few_frames(15, 90_000, gop=100))
    async with whole_node(tmp_path) as node:
        async with live_job(node.service_uri) as job:
            async with asyncio.timeout(2):
                await job.update({"max_framerate": 10})
                await job.send(half_segment)
                await until(lambda: job.pts)
            status = await job.event("status")
            assert status["inference_status"]["last_params"] == {"max_framerate": 10}
            await job.send(few_frames(20, 90_015))
            await until(lambda: job.pts[-1] >= 90_033 * TICKS_A_FRAME)
            await job.stop()
        assert not job.events_of("error")
        later = [pts for pts in job.pts if pts >= 90_015 * TICKS_A_FRAME]
        # Ten frames a second, as the update says.
        assert min(after - before for before, after in pairwise(later)) >= 2 * TICKS_A_FRAME


async def test_the_end_of_the_control_channel_ends_the_job(tmp_path: Path) -> None:
    """L28: after a swap this is all that tells the old node."""
    async with whole_node(tmp_path) as node, live_job(node.service_uri) as job:
        await job.exchange(few_frames(3))
        await job.delete(job.answer.control_url)
        await all_is_given_back(node, job)


async def test_the_end_of_the_input_ends_the_job(tmp_path: Path) -> None:
    """L35."""
    async with whole_node(tmp_path) as node, live_job(node.service_uri) as job:
        await job.exchange(few_frames(3))
        await job.delete(job.answer.publish_url)
        await all_is_given_back(node, job)


async def test_input_that_stops_ends_the_job_after_its_time(tmp_path: Path) -> None:
    """L36 with 1.5 s; keep-alives on the control channel do not count as input."""
    async with whole_node(tmp_path, live_input_timeout_s=1.5) as node:
        async with live_job(node.service_uri) as job:
            await job.exchange(few_frames(3))
            stopped_at = time.monotonic()
            while not job.has_output_ended:
                if time.monotonic() < stopped_at + 1.0:
                    await job.update({"keep": "alive"})
                await asyncio.sleep(0.1)
            assert time.monotonic() >= stopped_at + 1.4
            await all_is_given_back(node, job)
        await run_good_session(node.service_uri)


async def test_the_output_closed_by_the_gateway_ends_the_job(tmp_path: Path) -> None:
    async with whole_node(tmp_path) as node, live_job(node.service_uri) as job:
        await job.exchange(few_frames(3))
        await job.delete(job.answer.subscribe_url)
        await all_is_given_back(node, job)


async def test_events_closed_by_the_gateway_do_not_end_the_job(tmp_path: Path) -> None:
    async with whole_node(tmp_path) as node, live_job(node.service_uri) as job:
        await job.exchange(few_frames(3))
        await job.delete(job.answer.events_url)
        await asyncio.sleep(1.5)
        await job.exchange(few_frames(3, 3))
        await job.stop()
    assert len(job.pts) == 6


@pytest.mark.slow
async def test_a_gateway_runs_without_a_swap_and_with_few_segments_in_flight(
    tmp_path: Path,
) -> None:
    """L53 for 20 s: a third unanswered input segment would end the stream."""
    async with whole_node(tmp_path) as node:
        stream = LiveStream(
            StreamPlan(
                uri=node.service_uri,
                model_id="noop",
                updates=[Update(5, {"max_framerate": 30}), Update(10, {})],
            ),
            PictureInput(SIZE, 30, duration_s=20),
            read_key=mark_reader(SIZE),
            config=LiveClientConfig(max_in_flight=2, keep_alive_s=2),
        )
        await stream.run()
    assert stream.failure is None
    assert stream.client is not None
    assert stream.client.num_segments_failed == 0
    assert stream.client.num_segments_sent >= 10
    assert stream.num_updates == 2
    assert stream.events.errors == []
    assert stream.events.by_type["status"] >= 2
    numbers = [frame.key for frame in stream.meter.returns]
    assert numbers == sorted(set(numbers))
    assert stream.meter.repeated == stream.meter.unknown == 0
