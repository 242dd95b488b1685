"""What parameters need beside the model is loaded while frames of all streams go on."""

import asyncio
import threading

import pytest
from schedule.conftest import COLOUR, Direction, Hosting, frame, picture

from lpnode.errors import BadParameters, HostError
from lpnode.pipeline.frame_runner import Shown
from lpnode.pipeline.params import BaseParams
from lpnode.schedule.hosted_model import RestartConfig

PARAMS = BaseParams()
LARGE, LARGER, SMALL = (BaseParams(max_framerate=rate) for rate in (61, 62, 20))


@pytest.fixture
def slow(direction: Direction) -> Direction:
    """Parameters of more than 60 frames a second need something, which may not be loaded yet."""
    direction.needs_fetch = lambda params: (params.max_framerate or 0) > 60
    direction.is_dynamic = False
    direction.may_fetch.clear()
    return direction


async def test_frames_of_every_stream_go_on_while_what_an_update_needs_is_loaded(
    hosting: Hosting, slow: Direction
) -> None:
    async with hosting() as host, asyncio.TaskGroup() as tasks:
        one, two = host.open_stream("directed", PARAMS), host.open_stream("directed", PARAMS)
        await one.wait_ready()
        await two.wait_ready()
        updating = tasks.create_task(one.update(LARGE))
        await slow.until(lambda: "fetch" in slow.calls)
        for pts, stream in enumerate((one, two, one)):
            assert stream.is_ready
            assert await stream.process(frame(pts), picture(), COLOUR) == Shown(pts)
        assert one.params is PARAMS
        await two.update(SMALL)
        assert slow.updates == [SMALL]
        slow.may_fetch.set()
        await updating
        assert one.params is LARGE
        await slow.until(lambda: not slow.held)


async def test_updates_of_one_stream_wait_for_those_before_in_order(
    hosting: Hosting, slow: Direction
) -> None:
    async with hosting() as host:
        stream = host.open_stream("directed", PARAMS)
        await stream.wait_ready()
        async with asyncio.TaskGroup() as tasks:
            for params in (LARGE, SMALL, LARGER):
                tasks.create_task(stream.update(params))
            await slow.until(lambda: "fetch" in slow.calls)
            assert slow.updates == []
            slow.may_fetch.set()
        assert slow.updates == [LARGE, SMALL, LARGER]
        assert stream.params is LARGER
        await slow.until(lambda: not slow.held)


async def test_what_cannot_be_loaded_leaves_the_parameters_before(
    hosting: Hosting, slow: Direction
) -> None:
    slow.may_fetch.set()
    slow.fetch_errors = [BadParameters("lora_dict: there is none"), MemoryError("full")]
    async with hosting() as host:
        stream = host.open_stream("directed", PARAMS)
        await stream.wait_ready()
        for error, message in ((BadParameters, "lora_dict: there is none"), (HostError, "full")):
            with pytest.raises(error, match=message):
                await stream.update(LARGE)
            await slow.until(lambda: not slow.held)
        assert stream.params is PARAMS
        assert slow.updates == []
        assert await stream.process(frame(0), picture(), COLOUR) == Shown(0)
        await stream.update(LARGE)
        assert stream.params is LARGE


async def test_a_stream_that_ends_while_something_is_loaded_for_it_is_not_updated(
    hosting: Hosting, slow: Direction
) -> None:
    async with hosting() as host:
        one, two = host.open_stream("directed", PARAMS), host.open_stream("directed", PARAMS)
        await one.wait_ready()
        await two.wait_ready()
        closed = asyncio.create_task(one.update(LARGE))
        cancelled = asyncio.create_task(two.update(LARGER))
        await slow.until(lambda: len(slow.held) == 2)
        await one.close()
        cancelled.cancel()
        await slow.until(lambda: LARGER not in slow.held)
        slow.may_fetch.set()
        with pytest.raises(HostError, match="not ready"):
            await closed
        await slow.until(lambda: not slow.held)
        assert slow.updates == []
        assert two.params is PARAMS


async def test_a_new_stream_s_weights_are_loaded_beside_the_others_frames(
    hosting: Hosting, slow: Direction
) -> None:
    async with hosting() as host:
        other = host.open_stream("directed", PARAMS)
        await other.wait_ready()
        stream, gone = (host.open_stream("directed", params) for params in (LARGE, LARGER))
        await slow.until(lambda: len(slow.held) == 2 and "fetch" in slow.calls)
        assert await other.process(frame(0), picture(), COLOUR) == Shown(0)
        assert not stream.is_ready
        await gone.close()
        slow.may_fetch.set()
        await stream.wait_ready()
        await slow.until(lambda: not slow.held)
        assert slow.calls.count("prepare") == 2


async def test_a_node_that_stops_does_not_wait_for_what_is_being_loaded(
    hosting: Hosting, slow: Direction
) -> None:
    stuck = slow.may_fetch
    async with hosting(RestartConfig(release_timeout_s=0.05)) as host:
        stream = host.open_stream("directed", PARAMS)
        await stream.wait_ready()
        updating = asyncio.create_task(stream.update(LARGE))
        await slow.until(lambda: "fetch" in slow.calls)
        opened = host.open_stream("directed", LARGER)
        slow.may_fetch = threading.Event()  # the host's end lets this one go
    with pytest.raises(HostError):
        await updating
    with pytest.raises(HostError, match="shutting down"):
        await opened.wait_ready()
    assert slow.updates == []
    assert "unload" in slow.calls
    stuck.set()
    for thread in threading.enumerate():
        if thread.name.endswith("directed"):
            await asyncio.to_thread(thread.join)
    assert slow.calls.count("fetch") == 1
