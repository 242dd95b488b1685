"""Starting, counting, draining and cleaning up sessions."""

import asyncio
import gc
import os
import threading

import pytest
from live_input import h264_input
from node_bench import KEY, MODEL, NOBODY, NodeBench, until

from lpnode.errors import BadParameters, ConfigError, HostError, NoCapacity
from lpnode.protocol.live_job import LiveJob
from lpnode.session.ingest import Decoded, Ingest
from lpnode.session.live import LiveConfig
from lpnode.session.stop_reason import StopReason


async def test_all_four_channels_stand_at_zero_before_the_answer() -> None:
    """L8."""
    async with NodeBench().running() as bench:
        gateway = bench.start()
        mid = gateway.session.id
        for name in (mid, f"{mid}-out", f"{mid}-control", f"{mid}-events"):
            assert bench.channels.find(name).next == 0
        assert len(mid) >= 16
        gateway.input.close()
        await bench.ended()


async def test_of_two_jobs_for_the_last_slot_one_is_refused() -> None:
    """L4, L9: reserving is one step, wherever the two requests wait afterwards."""
    async with NodeBench(slots=1).running() as bench:
        with bench.sessions.reserve(MODEL):
            with pytest.raises(NoCapacity, match="insufficient capacity"):
                bench.sessions.reserve(MODEL)
            assert bench.capacity.idle(KEY) == 0
        assert bench.capacity.idle(KEY) == 1
        with pytest.raises(NoCapacity):
            bench.sessions.reserve("unknown model")


async def test_bad_parameters_leave_nothing_behind() -> None:
    """L7."""
    async with NodeBench().running() as bench:
        for _ in range(3):
            with pytest.raises(BadParameters, match="width"):
                bench.start({"width": 100})
        assert bench.capacity.idle(KEY) == 1
        assert len(bench.channels) == 0
        assert len(bench.sessions) == 0


async def test_a_model_that_cannot_take_streams_leaves_nothing_behind(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with NodeBench().running() as bench:

        def refuse(model_id: str, params: object) -> None:
            raise HostError("the model has failed too often")

        monkeypatch.setattr(bench.host, "open_stream", refuse)
        with pytest.raises(HostError):
            bench.start()
        assert bench.capacity.idle(KEY) == 1
        assert len(bench.channels) == 0


async def test_the_slot_is_free_as_soon_as_the_session_has_ended() -> None:
    async with NodeBench().running() as bench:
        gateway = bench.start()
        await gateway.exchange(h264_input(5))
        gateway.input.close()
        await bench.ended()
        bench.start().input.close()
        await bench.ended()


async def test_sessions_run_side_by_side() -> None:
    async with NodeBench(slots=3).running() as bench:
        gateways = [bench.start() for _ in range(3)]
        inputs = [list(h264_input(12, first_frame=100 * n)) for n in range(3)]
        await asyncio.gather(
            *(g.exchange(frames) for g, frames in zip(gateways, inputs, strict=True))
        )
        assert len(bench.sessions.snapshot()) == 3
        for gateway in gateways:
            gateway.input.close()
        await bench.ended()
        for gateway, frames in zip(gateways, inputs, strict=True):
            assert [p.pts for p in gateway.pictures()] == [frame.pts_ticks for frame in frames]


async def test_a_failing_session_leaves_its_neighbour_alone() -> None:
    async with NodeBench(slots=2).running() as bench:
        healthy, broken = bench.start(), bench.start()
        broken.session.stop(StopReason.INTERNAL_ERROR)
        await healthy.exchange(h264_input(5))
        await until(lambda: len(bench.sessions) == 1)
        await healthy.exchange(h264_input(5, first_frame=5))
        healthy.input.close()
        await bench.ended()


async def test_a_snapshot_tells_what_runs() -> None:
    async with NodeBench().running() as bench:
        gateway = bench.start()
        await gateway.exchange(h264_input(3))
        [status] = bench.sessions.snapshot()
        assert (status.manifest_id, status.model_id) == (gateway.session.id, MODEL)
        assert (status.num_frames_in, status.num_frames_out) == (3, 3)
        assert (status.sender, status.stream_id) == ("0x" + "00" * 20, "s")
        gateway.input.close()
        await bench.ended()


async def test_draining_refuses_new_jobs_and_lets_running_ones_end() -> None:
    async with NodeBench(slots=2).running() as bench:
        gateway = bench.start()
        drain = asyncio.create_task(bench.sessions.drain(deadline_s=20))
        await asyncio.sleep(0)
        with pytest.raises(NoCapacity):
            bench.sessions.reserve(MODEL)
        await gateway.exchange(h264_input(3))
        gateway.input.close()
        await drain
    assert gateway.session.stop_reason == StopReason.INPUT_ENDED


async def test_draining_stops_what_is_left_at_the_deadline() -> None:
    async with NodeBench().running() as bench:
        gateway = bench.start()
        await gateway.exchange(h264_input(3))
        await bench.sessions.drain(deadline_s=0.01)
        assert gateway.session.stop_reason == StopReason.SHUTDOWN
        assert gateway.output.channel.is_closed


async def test_cancelling_the_node_ends_sessions_old_and_just_born() -> None:
    async with NodeBench(slots=2).running() as bench:
        old = bench.start()
        await old.exchange(h264_input(3))
        young = bench.start()
    assert old.session.stop_reason == StopReason.SHUTDOWN
    assert young.output.channel.is_closed


async def test_a_hung_codec_call_keeps_neither_the_session_nor_its_slot(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A native call cannot be cancelled: its thread is given up, and ends when the call does."""
    released, is_hung = threading.Event(), threading.Event()
    feed = Ingest.feed

    def hang(self: Ingest, pieces: list[bytes]) -> Decoded:
        is_hung.set()
        released.wait()
        return feed(self, pieces)

    async with NodeBench().running() as bench:
        gateway = bench.start()
        await gateway.exchange(h264_input(3))
        threads = [t for t in threading.enumerate() if t.name.startswith(gateway.session.id)]
        assert len(threads) == 2
        monkeypatch.setattr(Ingest, "feed", hang)
        gateway.send(next(h264_input(1, first_frame=3)))
        await until(is_hung.is_set)
        bench.jumped_s += 61
        await bench.ended()
        assert gateway.session.stop_reason == StopReason.NO_INPUT
        assert bench.capacity.idle(KEY) == 1
        released.set()
        for thread in threads:
            thread.join(5)
            assert not thread.is_alive()


async def test_a_session_without_threads_to_run_on_takes_no_other_with_it(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with NodeBench(slots=2).running() as bench:
        healthy = bench.start()
        await healthy.exchange(h264_input(2))

        def refuse(self: threading.Thread) -> None:
            raise RuntimeError("can't start new thread")

        monkeypatch.setattr(threading.Thread, "start", refuse)
        broken = bench.start()
        await until(lambda: broken.output.channel.is_closed)
        monkeypatch.undo()
        assert broken.session.stop_reason == StopReason.INTERNAL_ERROR
        await healthy.exchange(h264_input(2, first_frame=2))
        healthy.input.close()
        await bench.ended()
    assert "can't start new thread" in caplog.text


@pytest.mark.slow
async def test_fifty_sessions_however_they_end_leave_nothing_behind() -> None:
    """Stopped, killed or never fed: no task, thread, file descriptor, slot or channel stays."""
    async with NodeBench(slots=2).running() as bench:

        async def one(number: int) -> None:
            gateway = bench.start()
            match number % 5:
                case 0:
                    await gateway.exchange(h264_input(3))
                    gateway.input.close()
                case 1:
                    await gateway.exchange(h264_input(3))
                    gateway.control.close()
                case 2:
                    bench.jumped_s += 61
                case 3:
                    gateway.send(next(h264_input(1)))
                    gateway.session.stop(StopReason.PIPELINE_FAILED)
                case 4:
                    gateway.input.publish(os.urandom(50_000))
                    gateway.output.channel.close()
            await bench.ended()

        await one(0)
        gc.collect()
        before = (
            len(asyncio.all_tasks()),
            threading.active_count(),
            len(os.listdir("/proc/self/fd")),
        )
        for number in range(50):
            await one(number)
            assert bench.capacity.in_use(KEY) == 0
            assert len(bench.channels) == 0
        gc.collect()
        after = (
            len(asyncio.all_tasks()),
            threading.active_count(),
            len(os.listdir("/proc/self/fd")),
        )
        assert after == before
        assert bench.channels.buffered_bytes == 0


@pytest.mark.slow
async def test_a_stream_at_thirty_frames_a_second_flows_without_growing() -> None:
    """L53, in short: real time, no cap; what is held stays the same."""
    frames = list(h264_input(240, fps=30, gop=60, width=512, height=512))
    async with NodeBench(config=LiveConfig()).running() as bench:
        gateway = bench.start({"max_framerate": 60})
        reader = asyncio.create_task(gateway.receive_all())
        events = asyncio.create_task(gateway.remaining_events())
        loop = asyncio.get_running_loop()
        start_s = loop.time()
        held: list[tuple[int, int, int]] = []
        for number, frame in enumerate(frames):
            await asyncio.sleep(start_s + number / 30 - loop.time())
            gateway.send(frame)
            if number in (90, 239):
                held.append((len(asyncio.all_tasks()), threading.active_count(), resident_bytes()))
        gateway.input.close()
        await bench.ended()
        await reader
        reported = await events
    assert held[0][:2] == held[1][:2]
    assert held[1][2] - held[0][2] < 16 << 20
    pts = [picture.pts for picture in gateway.pictures()]
    assert pts == sorted(set(pts))
    assert set(pts) <= {frame.pts_ticks for frame in frames}
    # On a machine with room all come out; a loaded one may drop, but the stream flows.
    assert len(pts) > 120
    assert not [event for event in reported if event["type"] == "error"]


def resident_bytes() -> int:
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def test_a_job_cannot_be_started_before_the_node_runs() -> None:
    bench = NodeBench()
    with pytest.raises(NoCapacity):
        bench.sessions.reserve(MODEL)


async def test_a_reservation_that_outlives_the_start_of_a_drain_starts_nothing() -> None:
    async with NodeBench().running() as bench:
        job = LiveJob(model_id=MODEL, params=None, stream_id="", request_id="", received_ms=0)
        with bench.sessions.reserve(MODEL) as place:
            await bench.sessions.drain(deadline_s=1)
            with pytest.raises(NoCapacity):
                bench.sessions.start(place, job, NOBODY)
        assert bench.capacity.idle(KEY) == 1


@pytest.mark.parametrize("field", ["input_timeout_s", "tick_s", "flush_s", "close_s"])
def test_times_must_be_positive(field: str) -> None:
    with pytest.raises(ConfigError, match=field):
        LiveConfig(**{field: 0})


def test_the_input_timeout_stays_below_the_age_that_is_an_error() -> None:
    with pytest.raises(ConfigError, match="at most 90"):
        LiveConfig(input_timeout_s=91)
