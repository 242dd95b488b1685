"""The node as a process of its own: restarted, drained, hurried and killed."""

import asyncio
import signal
from pathlib import Path

import pytest
from end_to_end.gateway_peer import ask, live_job, run_good_session
from end_to_end.processes import node_process
from end_to_end.whole_node import eventually, live_sessions, until
from live_input import h264_input

from lpnode.command.node_process import NodeProcess
from lpnode.command.stream import mark_reader
from lpnode.errors import DiscoveryRefused, NoCapacity, PeerGone
from lpnode.gateway.discover import demand_for, discovery_request, get_orchestrator
from lpnode.gateway.live_job import LiveJobRequest, start_live_job
from lpnode.gateway.live_stream import LiveStream, StreamPlan
from lpnode.gateway.picture_input import PictureInput
from lpnode.protocol.capability import LIVE_VIDEO_TO_VIDEO

DEMAND = demand_for(LIVE_VIDEO_TO_VIDEO, "noop")
SIZE = (320, 240)


async def is_capped(node: NodeProcess) -> bool:
    """Whether the node has no place to offer, as it must have none once it has got a signal."""
    try:
        await get_orchestrator(node.service_uri, discovery_request(DEMAND))
    except DiscoveryRefused as refusal:
        return "OrchestratorCapped" in str(refusal)
    return False


async def end(node: NodeProcess) -> int:
    """SIGTERM, and the exit code."""
    node.send_signal(signal.SIGTERM)
    async with asyncio.timeout(20):
        return await node.wait()


async def test_credentials_and_certificate_survive_a_restart(tmp_path: Path) -> None:
    certificate = tmp_path / "data" / "cert.pem"
    async with node_process(tmp_path) as node:
        found = await get_orchestrator(node.service_uri, discovery_request(DEMAND))
        kept = certificate.read_bytes()
        assert await end(node) == 0
    async with node_process(tmp_path) as node:
        assert certificate.read_bytes() == kept
        found.info.transcoder = node.service_uri
        job = await start_live_job(found.info, DEMAND, LiveJobRequest(model_id="noop"))
        assert job.manifest_id
        await run_good_session(node.service_uri)


async def test_a_drain_lets_a_session_end_by_itself_and_refuses_new_ones(tmp_path: Path) -> None:
    async with node_process(tmp_path, "-drainTimeout", "60s") as node:
        info = (await get_orchestrator(node.service_uri, discovery_request(DEMAND))).info
        async with live_job(node.service_uri) as job:
            await job.exchange(h264_input(3))
            node.send_signal(signal.SIGTERM)
            await eventually(lambda: is_capped(node))
            with pytest.raises(NoCapacity, match="insufficient capacity"):
                await start_live_job(info, DEMAND, LiveJobRequest(model_id="noop"))
            await job.exchange(h264_input(10, first_frame=3))
            await job.stop()
        async with asyncio.timeout(20):
            assert await node.wait() == 0
    assert job.pts == [number * 4500 for number in range(13)]


async def test_a_drain_ends_sessions_at_its_deadline_and_exits_cleanly(tmp_path: Path) -> None:
    async with (
        node_process(tmp_path, "-drainTimeout", "500ms") as node,
        live_job(node.service_uri) as job,
    ):
        await job.exchange(h264_input(3))
        assert await end(node) == 0
        await job.ended()
    assert len(job.pts) == 3


async def test_a_second_signal_cuts_the_drain_short(tmp_path: Path) -> None:
    async with (
        node_process(tmp_path, "-drainTimeout", "1h") as node,
        live_job(node.service_uri) as job,
    ):
        await job.exchange(h264_input(3))
        node.send_signal(signal.SIGTERM)
        await eventually(lambda: is_capped(node))
        await job.exchange(h264_input(3, first_frame=3))
        assert await end(node) == 0
        await job.ended()


async def test_a_node_that_is_killed_is_a_failure_to_its_gateway(tmp_path: Path) -> None:
    """L54: nothing is said any more, so the broken connections have to tell."""
    async with node_process(tmp_path) as node:
        stream = LiveStream(
            StreamPlan(uri=node.service_uri, model_id="noop"),
            PictureInput(SIZE, 30, duration_s=60),
            read_key=mark_reader(SIZE),
        )
        async with asyncio.TaskGroup() as tasks:
            running = tasks.create_task(stream.run())
            await until(lambda: len(stream.meter.returns) > 10)
            node.send_signal(signal.SIGKILL)
            async with asyncio.timeout(35):
                await running
        assert await node.wait() == -signal.SIGKILL
    assert isinstance(stream.failure, PeerGone)


async def test_work_is_refused_with_503_while_all_slots_are_taken(tmp_path: Path) -> None:
    """L54: the text makes a gateway go on to the next node at once."""
    async with node_process(tmp_path) as node:
        jobs = [await ask(node.service_uri) for _ in range(4)]
        with pytest.raises(NoCapacity, match="insufficient capacity"):
            await ask(node.service_uri)
        assert len(await live_sessions(node.operator_uri)) == len(jobs)
        await ask(node.service_uri, model_id="passthrough")
