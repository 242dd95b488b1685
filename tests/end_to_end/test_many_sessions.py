"""Sessions that start and end in every way there is leave nothing on one node process."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import psutil
import pytest
from end_to_end.clients import http1_tls
from end_to_end.gateway_peer import Killed, ask, live_job, run_good_session
from end_to_end.processes import node_process, stream_process
from end_to_end.raw_requests import http1
from end_to_end.whole_node import SLOTS, eventually, live_sessions, scrape
from live_input import h264_input

from lpnode.command.node_process import NodeProcess
from lpnode.errors import NoCapacity
from lpnode.gateway.discover import demand_for, discovery_request, get_orchestrator
from lpnode.protocol.capability import LIVE_VIDEO_TO_VIDEO
from lpnode.protocol.segment_header import SEGMENT_HEADER, ai_segment, segment_header

MIB = 1 << 20
INPUT_TIMEOUT_S = 2.0
NUM_EACH = 10
FRAMES = list(h264_input(15, width=512, height=512, has_audio=True))


@dataclass(frozen=True)
class Level:
    """What a node holds."""

    free_slots: int
    sessions: int
    channels: int
    tasks: int
    threads: int
    files: int
    memory_mib: float

    @property
    def counts(self) -> tuple[int, ...]:
        """All but the memory, which an allocator gives back when it likes."""
        return (
            self.free_slots,
            self.sessions,
            self.channels,
            self.tasks,
            self.threads,
            self.files,
        )


async def level_of(node: NodeProcess) -> Level:
    samples = await scrape(node.operator_uri)
    process = psutil.Process(node.pid)
    return Level(
        free_slots=int(samples["livepeer_ai_container_idle noop"]),
        sessions=len(await live_sessions(node.operator_uri)),
        channels=int(samples["lpnode_trickle_channels"]),
        tasks=int(samples["lpnode_asyncio_tasks"]),
        threads=process.num_threads(),
        files=process.num_fds(),
        memory_mib=process.memory_info().rss / MIB,
    )


async def start_and_stop(node: NodeProcess) -> None:
    async with live_job(node.service_uri) as job:
        await job.exchange(FRAMES)
        await job.stop()


async def start_and_break_all_connections(node: NodeProcess) -> None:
    async with live_job(node.service_uri) as job:
        await job.exchange(FRAMES)
        raise Killed


async def never_feed(node: NodeProcess) -> None:
    async with live_job(node.service_uri) as job:
        await job.ended()


async def never_connect(node: NodeProcess) -> None:
    await ask(node.service_uri)


async def close_control_alone(node: NodeProcess) -> None:
    async with live_job(node.service_uri) as job:
        await job.exchange(FRAMES[:5])
        await job.delete(job.answer.control_url)
        await job.ended()


async def abort_the_request(node: NodeProcess) -> None:
    """In the middle of the body, and with the answer on its way."""
    demand = demand_for(LIVE_VIDEO_TO_VIDEO, "noop")
    found = await get_orchestrator(
        node.service_uri, discovery_request(demand, ignore_capacity=True)
    )
    permit = segment_header(ai_segment(b"noop", demand, found.info.auth_token))
    request = http1(
        "POST",
        "/live-video-to-video",
        b'{"model_id":"noop"}',
        ("Content-Type", "application/json"),
        (SEGMENT_HEADER, permit),
    )
    port = int(node.service_uri.rpartition(":")[2])
    for sent in (request[:-5], request):
        _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=http1_tls())
        writer.write(sent)
        await asyncio.sleep(0.02)
        writer.transport.abort()
        await asyncio.sleep(0)


WAYS: Mapping[str, Callable[[NodeProcess], Awaitable[None]]] = {
    way.__name__.replace("_", " "): way
    for way in (
        start_and_stop,
        start_and_break_all_connections,
        never_feed,
        never_connect,
        close_control_alone,
        abort_the_request,
    )
}


NUM_KILLED = 2
NUM_SESSIONS = NUM_EACH * len(WAYS) + NUM_KILLED


async def retried(way: Callable[[NodeProcess], Awaitable[None]], node: NodeProcess) -> None:
    """Waits for a slot as a gateway with one node would have to."""
    while True:
        try:
            await way(node)
        except NoCapacity:
            await asyncio.sleep(0.2)
        else:
            return


async def run_sessions(node: NodeProcess, num_each: int) -> None:
    """All ways at once, as many as there are slots for."""
    slots = asyncio.Semaphore(SLOTS)

    async def one(way: Callable[[NodeProcess], Awaitable[None]]) -> None:
        async with slots:
            await retried(way, node)

    async with asyncio.TaskGroup() as tasks:
        for number in range(num_each):
            for name, way in WAYS.items():
                tasks.create_task(one(way), name=f"{name} {number}")


async def kill_clients(node: NodeProcess, folder: Path, count: int) -> None:
    """SIGKILL to real client processes in mid-stream."""
    async with contextlib.AsyncExitStack() as stack:
        clients = [
            await stack.enter_async_context(stream_process(node.service_uri, folder))
            for _ in range(count)
        ]

        async def all_stream() -> bool:
            found = await live_sessions(node.operator_uri)
            return sum(each["num_frames_out"] > 20 for each in found) == count

        await eventually(all_stream, within_s=60)
        for client in clients:
            client.kill()


async def settled(node: NodeProcess, counts: tuple[int, ...] | None = None) -> Level:
    """Waits until nothing runs, and the counts are as they were before if given."""
    seen: list[Level] = []

    async def is_settled() -> bool:
        seen.append(await level_of(node))
        now = seen[-1]
        is_idle = (now.free_slots, now.sessions, now.channels) == (SLOTS, 0, 0)
        return is_idle and (counts is None or now.counts == counts)

    try:
        await eventually(is_settled, within_s=30)
    except TimeoutError:
        pytest.fail(f"not as before, {counts}, but {seen[-1]}")
    return seen[-1]


@pytest.mark.slow
@pytest.mark.timeout(240)
async def test_a_node_is_as_before_after_sessions_that_end_in_every_way(tmp_path: Path) -> None:
    async with node_process(tmp_path, "-liveInputTimeout", f"{INPUT_TIMEOUT_S:g}s") as node:
        await run_sessions(node, 2)
        await settled(node)
        await kill_clients(node, tmp_path, 1)
        before = await settled(node)
        await run_sessions(node, NUM_EACH)
        await settled(node)
        await kill_clients(node, tmp_path, NUM_KILLED)
        after = await settled(node, before.counts)
        print(f"\nbefore: {before}\nafter {NUM_SESSIONS} sessions: {after}")
        # Allocators keep what they had at a busy moment, tens of MiB more or less; a session that
        # left a single picture or TLS buffer behind would show above that.
        assert after.memory_mib < before.memory_mib + NUM_SESSIONS
        await run_good_session(node.service_uri)
        async with aiohttp.ClientSession() as http, http.get(node.operator_uri + "/healthz") as ok:
            assert ok.status == 200
    log = (tmp_path / "log.txt").read_text()
    assert "Traceback" not in log
    assert "could not be cleaned up" not in log
