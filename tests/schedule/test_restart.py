"""What a host does about models that fail or hang. Source: live.md section 8.5."""

import asyncio
import logging
import threading

import pytest
from schedule.conftest import COLOUR, Direction, Hosting, frame, picture

from lpnode.errors import HostError, LpnodeError
from lpnode.pipeline.frame_runner import Shown
from lpnode.pipeline.params import BaseParams
from lpnode.schedule.hosted_model import ModelState, RestartConfig
from lpnode.schedule.hosted_stream import HostedStream
from lpnode.schedule.local_host import LocalHost

PARAMS = BaseParams()
FAST = RestartConfig(hang_s=1e-6, release_timeout_s=0.02)


async def hang(stream: HostedStream, direction: Direction, tasks: asyncio.TaskGroup) -> None:
    """Leaves a frame of ``stream`` stuck in the pipeline."""

    async def stuck() -> None:
        with pytest.raises(HostError, match="no output"):
            await stream.process(frame(0), picture(), COLOUR)

    direction.may_run.clear()
    runs = direction.calls.count("run")
    tasks.create_task(stuck())
    await direction.until(lambda: direction.calls.count("run") > runs)


async def break_it(host: LocalHost, direction: Direction, reason: str) -> HostedStream:
    """Has the model fail on the frame of a stream, which then gives it up."""
    stream = host.open_stream("directed", PARAMS)
    await stream.wait_ready()
    direction.run_errors = [ValueError("bad latent")]
    with pytest.raises(HostError, match="bad latent"):
        await stream.process(frame(0), picture(), COLOUR)
    stream.fail(reason)
    await stream.close()
    return stream


async def test_a_hung_model_is_restarted_without_waiting_for_the_hung_call(
    hosting: Hosting, direction: Direction
) -> None:
    async with hosting(FAST) as host:
        stream = host.open_stream("directed", PARAMS)
        await stream.wait_ready()
        async with asyncio.TaskGroup() as tasks:
            await hang(stream, direction, tasks)
            stream.fail("no output for 5 s")
        await stream.close()
        assert not direction.may_run.is_set()
        following = host.open_stream("directed", PARAMS)
        await following.wait_ready()
        assert following.restart_count == 1
        direction.may_run.set()
        assert await following.process(frame(1), picture(), COLOUR) == Shown(1)


async def test_streams_that_shared_a_hung_model_go_on_after_the_restart(
    hosting: Hosting, direction: Direction
) -> None:
    async with hosting(FAST) as host:
        one, two = host.open_stream("directed", PARAMS), host.open_stream("directed", PARAMS)
        await one.wait_ready()
        await two.wait_ready()
        new = BaseParams(max_framerate=30)
        await two.update(new)
        async with asyncio.TaskGroup() as tasks:
            await hang(one, direction, tasks)
            one.fail("no output for 5 s")
        assert not two.is_ready
        assert two.is_alive
        direction.may_run.set()
        await two.wait_ready()
        assert two.params is new
        assert await two.process(frame(2), picture(), COLOUR) == Shown(2)
        assert two.last_restart is not None


async def test_parameters_refused_after_a_restart_leave_the_last_that_ran_in_force(
    hosting: Hosting, direction: Direction
) -> None:
    """Source: live.md section 7.1."""
    async with hosting(FAST) as host:
        one, two = host.open_stream("directed", PARAMS), host.open_stream("directed", PARAMS)
        await one.wait_ready()
        await two.wait_ready()
        ran = BaseParams(max_framerate=30)
        await two.update(ran)
        direction.may_load.clear()
        async with asyncio.TaskGroup() as tasks:
            await hang(one, direction, tasks)
            one.fail("no output for 5 s")
        direction.prepare_errors = [HostError("lora_dict: the file is damaged")]
        updating = asyncio.ensure_future(two.update(BaseParams(max_framerate=40)))
        await asyncio.sleep(0)
        direction.may_run.set()
        direction.may_load.set()
        with pytest.raises(HostError, match="the file is damaged"):
            await updating
        assert two.params is ran
        assert await two.process(frame(2), picture(), COLOUR) == Shown(2)


async def test_a_model_that_works_for_others_is_not_restarted(
    hosting: Hosting, direction: Direction
) -> None:
    async with hosting() as host:
        one, two = host.open_stream("directed", PARAMS), host.open_stream("directed", PARAMS)
        await one.wait_ready()
        await two.wait_ready()
        one.fail("no output for 5 s")
        assert not one.is_alive
        assert two.is_ready
        assert await two.process(frame(2), picture(), COLOUR) == Shown(2)
        assert two.restart_count == 0
        await one.close()


async def test_the_call_that_hung_ends_its_thread_when_it_returns(
    hosting: Hosting, direction: Direction
) -> None:
    async with hosting(FAST) as host:
        stream = host.open_stream("directed", PARAMS)
        await stream.wait_ready()
        async with asyncio.TaskGroup() as tasks:
            await hang(stream, direction, tasks)
            hung = [t for t in threading.enumerate() if t.name == "lpnode cpu directed"]
            stream.fail("no output for 5 s")
        direction.may_run.set()
        await direction.until(lambda: "unload" in direction.calls)
        for thread in hung:
            thread.join(5)
            assert not thread.is_alive()


async def test_a_restart_tells_its_count_time_and_the_newest_log_lines(
    hosting: Hosting, direction: Direction, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "lpnode")
    logger = logging.getLogger("lpnode.pipeline.directed")
    async with hosting() as host:
        await host.wait_warm()
        for number in range(150):
            logger.info("line %d", number)
        logging.getLogger("lpnode.session").info("somebody's secret")
        broken = await break_it(host, direction, "no output for 5 s")
        assert broken.last_restart is not None
        following = host.open_stream("directed", PARAMS)
        await following.wait_ready()
        restart = following.last_restart
        assert restart is not None
        assert (restart.count, restart.time_s) == (1, 1_700_000_000.5)
        assert len(restart.logs) == 100
        assert restart.logs[0].endswith("line 52")
        assert not any("secret" in line for line in restart.logs)
        assert restart.logs[-2].endswith("model directed failed: no output for 5 s")


async def test_a_model_that_failed_four_times_is_given_up(
    hosting: Hosting, direction: Direction
) -> None:
    async with hosting() as host:
        for count in (1, 2, 3):
            broken = await break_it(host, direction, "no output")
            assert broken.restart_count == count
        late = await break_it(host, direction, "no output again")
        with pytest.raises(HostError, match="no output again"):
            await late.wait_ready()
        with pytest.raises(HostError, match="is not available: no output again"):
            host.open_stream("directed", PARAMS)
        assert host.snapshot()[0].state is ModelState.FAILED
        assert host.snapshot()[0].restart_count == 3


async def test_whoever_watches_hears_of_every_state(hosting: Hosting, direction: Direction) -> None:
    direction.load_errors = [ValueError("weights are damaged")]
    seen: list[tuple[ModelState, int]] = []
    async with hosting(RestartConfig(max_restarts=1)) as host:
        host.watch(lambda status: seen.append((status.state, status.restart_count)))
        await break_it(host, direction, "no output")
    assert seen == [
        (ModelState.LOADING, 0),
        (ModelState.WARMING, 1),
        (ModelState.READY, 1),
        (ModelState.FAILED, 1),
    ]


async def test_a_model_that_was_given_up_comes_back_after_a_rest(
    hosting: Hosting, direction: Direction
) -> None:
    states: asyncio.Queue[ModelState] = asyncio.Queue()
    async with hosting(RestartConfig(max_restarts=0, rest_s=0.01)) as host:
        await host.wait_warm()
        host.watch(lambda status: states.put_nowait(status.state))
        await break_it(host, direction, "no output")
        expected = (ModelState.FAILED, ModelState.LOADING, ModelState.WARMING, ModelState.READY)
        assert tuple([await states.get() for _ in expected]) == expected
        stream = host.open_stream("directed", PARAMS)
        await stream.wait_ready()


async def test_a_stream_without_output_on_a_healthy_model_costs_nobody_the_model(
    hosting: Hosting,
) -> None:
    async with hosting() as host:
        for _ in range(5):
            stream = host.open_stream("directed", PARAMS)
            await stream.wait_ready()
            with pytest.raises(LpnodeError):
                await stream.process(frame(0), picture(64, 64), COLOUR)
            stream.fail("no output for 5 s")
            assert not stream.is_alive
            await stream.close()
        assert host.snapshot()[0].state is ModelState.READY
        assert host.snapshot()[0].restart_count == 0


async def test_failures_further_apart_than_the_window_are_forgiven(
    hosting: Hosting, direction: Direction
) -> None:
    now_s = [0.0]
    async with hosting(monotonic=lambda: now_s[0]) as host:
        for _ in range(6):
            await break_it(host, direction, "no output")
            now_s[0] += 1201.0
        survivor = host.open_stream("directed", PARAMS)
        await survivor.wait_ready()
        assert survivor.restart_count == 6


async def test_a_load_that_fails_is_tried_again(hosting: Hosting, direction: Direction) -> None:
    direction.load_errors = [ValueError("weights are damaged"), MemoryError("full")]
    async with hosting() as host:
        stream = host.open_stream("directed", PARAMS)
        await stream.wait_ready()
        assert stream.restart_count == 2
        assert direction.calls.count("load") == 3


async def test_a_load_that_keeps_failing_gives_the_model_up(
    hosting: Hosting, direction: Direction
) -> None:
    direction.load_errors = [ValueError("weights are damaged")] * 4
    async with hosting() as host:
        stream = host.open_stream("directed", PARAMS)
        with pytest.raises(HostError, match="ValueError: weights are damaged"):
            await stream.wait_ready()
        assert not stream.is_alive
        with pytest.raises(HostError, match="is not available"):
            host.open_stream("directed", PARAMS)
        await host.wait_warm()


async def test_a_load_that_hangs_is_given_up_after_its_time(
    hosting: Hosting, direction: Direction
) -> None:
    direction.may_load.clear()
    async with hosting(RestartConfig(load_timeout_s=0.05, max_restarts=0)) as host:
        stream = host.open_stream("directed", PARAMS)
        with pytest.raises(HostError, match=r"not loaded after 0\.05 s"):
            await stream.wait_ready()


async def test_closing_a_stream_does_not_wait_for_a_call_that_hangs(
    hosting: Hosting, direction: Direction
) -> None:
    async with hosting(RestartConfig(release_timeout_s=0.02)) as host:
        stream = host.open_stream("directed", PARAMS)
        await stream.wait_ready()
        direction.may_run.clear()
        async with asyncio.TaskGroup() as tasks:
            frames = tasks.create_task(stream.process(frame(0), picture(), COLOUR))
            await direction.until(lambda: direction.batches)
            await stream.close()
            direction.may_run.set()
            assert await frames == Shown(0)
        await direction.until(lambda: "release" in direction.calls)


async def test_a_host_stops_although_a_model_hangs(hosting: Hosting, direction: Direction) -> None:
    async with asyncio.TaskGroup() as tasks, hosting(FAST) as host:
        stream = host.open_stream("directed", PARAMS)
        await stream.wait_ready()
        direction.may_run.clear()

        async def stuck() -> None:
            with pytest.raises(HostError, match="shutting down"):
                await stream.process(frame(0), picture(), COLOUR)

        tasks.create_task(stuck())
        await direction.until(lambda: direction.batches)
        direction.let_everything_go = lambda: None  # type: ignore[method-assign]
    direction.may_run.set()
