import asyncio
import threading

import pytest
from schedule.conftest import COLOUR, Direction, Hosting, frame, luma_of, picture

from lpnode.errors import BadParameters, ConfigError, HostError, NotCapable, OutOfDeviceMemory
from lpnode.pipeline.catalog import built_in
from lpnode.pipeline.frame_runner import Shown
from lpnode.pipeline.params import BaseParams
from lpnode.schedule.hosted_model import ModelState, RestartConfig
from lpnode.schedule.local_host import LocalHost, LocalHostConfig

PARAMS = BaseParams()


async def test_a_frame_goes_through_the_model_and_keeps_its_pts(hosting: Hosting) -> None:
    async with hosting(models={"noop": True}) as host:
        stream = host.open_stream("noop", host.parse("noop", {}))
        await stream.wait_ready()
        out = picture()
        assert await stream.process(frame(90_000, width=1280, height=720), out, COLOUR) == Shown(
            90_000
        )
        assert abs(luma_of(out) - 120) <= 1
        await stream.close()


async def test_opening_a_stream_does_not_wait_for_a_cold_model(
    hosting: Hosting, direction: Direction
) -> None:
    direction.may_load.clear()
    async with hosting(models={"directed": False}) as host:
        stream = host.open_stream("directed", PARAMS)
        assert not stream.is_ready
        assert stream.is_alive
        with pytest.raises(HostError, match="model directed is not ready"):
            await stream.process(frame(0), picture(), COLOUR)
        direction.may_load.set()
        await stream.wait_ready()
        assert stream.ready_at_s is not None
        assert await stream.process(frame(7), picture(), COLOUR) == Shown(7)


async def test_a_cold_model_is_loaded_only_when_wanted(
    hosting: Hosting, direction: Direction
) -> None:
    async with hosting(models={"directed": False, "noop": True}) as host:
        await host.wait_warm()
        assert [status.state for status in host.snapshot()] == [ModelState.COLD, ModelState.READY]
        assert direction.calls == []


async def test_every_model_runs_on_a_thread_of_its_own_named_after_it(
    hosting: Hosting, direction: Direction
) -> None:
    async with hosting() as host:
        stream = host.open_stream("directed", PARAMS)
        await stream.wait_ready()
        await stream.process(frame(0), picture(), COLOUR)
    assert direction.threads == {"lpnode cpu directed"}


async def test_frames_that_wait_together_form_one_batch(
    hosting: Hosting, direction: Direction
) -> None:
    direction.max_batch = 3
    async with hosting() as host:
        streams = [host.open_stream("directed", PARAMS) for _ in range(5)]
        for stream in streams:
            await stream.wait_ready()
        direction.may_run.clear()
        async with asyncio.TaskGroup() as tasks:
            first = tasks.create_task(streams[0].process(frame(0), picture(), COLOUR))
            await direction.until(lambda: direction.batches)
            others = [
                tasks.create_task(stream.process(frame(pts), picture(), COLOUR))
                for pts, stream in enumerate(streams[1:], start=1)
            ]
            await asyncio.sleep(0)
            direction.may_run.set()
        assert first.result() == Shown(0)
        assert [task.result() for task in others] == [Shown(1), Shown(2), Shown(3), Shown(4)]
        assert direction.batches == [[0], [1, 2, 3], [4]]


async def test_frames_of_different_sizes_share_a_batch(
    hosting: Hosting, direction: Direction
) -> None:
    direction.max_batch = 3
    async with hosting() as host:
        small, large = BaseParams(width=384, height=384), BaseParams(width=640, height=384)
        streams = [host.open_stream("directed", params) for params in (small, large, small)]
        for stream in streams:
            await stream.wait_ready()
        direction.may_run.clear()
        blocker = host.open_stream("directed", small)
        await blocker.wait_ready()
        outs = [picture(*stream.output_size) for stream in streams]
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(blocker.process(frame(0), picture(384, 384), COLOUR))
            await direction.until(lambda: direction.batches)
            for luma, stream, out in zip((50, 100, 150), streams, outs, strict=True):
                tasks.create_task(stream.process(frame(luma, luma=luma), out, COLOUR))
            await asyncio.sleep(0)
            direction.may_run.set()
        assert direction.batches[1] == [50, 100, 150]
        for luma, out in zip((50, 100, 150), outs, strict=True):
            assert abs(luma_of(out) - luma) <= 1


async def test_a_failing_run_fails_its_frame_and_not_the_next(
    hosting: Hosting, direction: Direction
) -> None:
    async with hosting() as host:
        stream = host.open_stream("directed", PARAMS)
        await stream.wait_ready()
        direction.run_errors = [ValueError("bad latent"), MemoryError("full")]
        with pytest.raises(HostError, match="ValueError: bad latent"):
            await stream.process(frame(0), picture(), COLOUR)
        with pytest.raises(OutOfDeviceMemory, match="full"):
            await stream.process(frame(1), picture(), COLOUR)
        assert await stream.process(frame(2), picture(), COLOUR) == Shown(2)
        assert stream.is_ready
        assert stream.restart_count == 0


async def test_a_frame_that_cannot_be_converted_fails_alone_in_its_batch(
    hosting: Hosting, direction: Direction
) -> None:
    direction.max_batch = 2
    async with hosting() as host:
        good, bad = host.open_stream("directed", PARAMS), host.open_stream("directed", PARAMS)
        await good.wait_ready()
        await bad.wait_ready()
        results = await asyncio.gather(
            good.process(frame(1), picture(), COLOUR),
            bad.process(frame(2), picture(64, 64), COLOUR),
            return_exceptions=True,
        )
        assert results[0] == Shown(1)
        assert isinstance(results[1], Exception)


async def test_an_update_lands_between_two_frames(hosting: Hosting, direction: Direction) -> None:
    async with hosting() as host:
        stream = host.open_stream("directed", PARAMS)
        await stream.wait_ready()
        new = BaseParams(max_framerate=30)
        await stream.update(new)
        assert stream.params is new
        assert direction.calls == ["load", "prepare", "update"]


async def test_a_declined_update_leaves_the_old_parameters(
    hosting: Hosting, direction: Direction
) -> None:
    async with hosting() as host:
        stream = host.open_stream("directed", PARAMS)
        await stream.wait_ready()
        direction.update_errors = [BadParameters("no such style")]
        with pytest.raises(BadParameters, match="no such style"):
            await stream.update(BaseParams(max_framerate=30))
        assert stream.params is PARAMS
        assert await stream.process(frame(0), picture(), COLOUR) == Shown(0)


async def test_the_output_size_cannot_change_in_mid_stream(hosting: Hosting) -> None:
    async with hosting() as host:
        stream = host.open_stream("directed", PARAMS)
        with pytest.raises(
            BadParameters,
            match=r"^Cannot change output resolution mid-stream \(512x512 to 768x512\)$",
        ):
            await stream.update(BaseParams(width=768))
        await stream.wait_ready()
        with pytest.raises(BadParameters, match="mid-stream"):
            await stream.update(BaseParams(height=768))
        assert stream.params is PARAMS


async def test_an_update_that_needs_a_reload_makes_the_stream_unready_until_it_is_done(
    hosting: Hosting, direction: Direction
) -> None:
    now_s = [100.0]
    async with hosting(monotonic=lambda: now_s[0]) as host:
        stream = host.open_stream("directed", PARAMS)
        await stream.wait_ready()
        assert stream.ready_at_s == 100.0
        direction.is_dynamic = False
        direction.may_update.clear()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(stream.update(BaseParams(max_framerate=30)))
            await asyncio.sleep(0)
            assert not stream.is_ready
            now_s[0] = 105.0
            direction.may_update.set()
        assert stream.is_ready
        assert stream.ready_at_s == 105.0


async def test_parameters_given_while_the_model_loads_are_the_ones_it_starts_with(
    hosting: Hosting, direction: Direction
) -> None:
    direction.may_load.clear()
    async with hosting() as host:
        stream = host.open_stream("directed", PARAMS)
        new = BaseParams(max_framerate=30)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(stream.update(new))
            await asyncio.sleep(0)
            assert stream.params is new
            direction.may_load.set()
        assert stream.is_ready
        assert stream.params is new
        assert "update" not in direction.calls


async def test_parameters_given_during_the_preparation_replace_it(
    hosting: Hosting, direction: Direction
) -> None:
    async with hosting() as host:
        await host.wait_warm()
        direction.may_prepare.clear()
        stream = host.open_stream("directed", PARAMS)
        await direction.until(lambda: "prepare" in direction.calls)
        new = BaseParams(max_framerate=30)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(stream.update(new))
            await asyncio.sleep(0)
            direction.may_prepare.set()
        assert stream.is_ready
        assert stream.params is new
        assert direction.calls == ["load", "prepare", "release", "prepare"]


async def test_parameters_refused_after_a_load_leave_the_ones_before_in_force(
    hosting: Hosting, direction: Direction
) -> None:
    """Source: live.md section 7.1."""
    direction.may_load.clear()
    direction.prepare_errors = [BadParameters("lora_dict: there is no such LoRA")]
    async with hosting() as host:
        stream = host.open_stream("directed", PARAMS)
        updating = asyncio.ensure_future(stream.update(BaseParams(max_framerate=30)))
        await asyncio.sleep(0)
        direction.may_load.set()
        with pytest.raises(BadParameters, match="there is no such LoRA"):
            await updating
        assert stream.params is PARAMS
        assert await stream.process(frame(0), picture(), COLOUR) == Shown(0)


async def test_a_stream_ends_when_the_parameters_before_are_refused_too(
    hosting: Hosting, direction: Direction
) -> None:
    direction.may_load.clear()
    direction.prepare_errors = [BadParameters("not these"), HostError("nor those")]
    async with hosting() as host:
        stream = host.open_stream("directed", PARAMS)
        updating = asyncio.ensure_future(stream.update(BaseParams(max_framerate=30)))
        await asyncio.sleep(0)
        direction.may_load.set()
        with pytest.raises(HostError, match="nor those"):
            await updating
        assert not stream.is_alive


async def test_parameters_that_were_replaced_before_they_were_refused_end_nothing(
    hosting: Hosting, direction: Direction
) -> None:
    async with hosting() as host:
        await host.wait_warm()
        direction.may_prepare.clear()
        direction.prepare_errors = [BadParameters("style image is gone")]
        stream = host.open_stream("directed", PARAMS)
        await direction.until(lambda: "prepare" in direction.calls)
        new = BaseParams(max_framerate=30)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(stream.update(new))
            await asyncio.sleep(0)
            direction.may_prepare.set()
        assert stream.params is new
        assert stream.is_ready


async def test_a_stream_that_cannot_be_prepared_ends_alone(
    hosting: Hosting, direction: Direction
) -> None:
    async with hosting() as host:
        direction.prepare_errors = [BadParameters("style image is gone")]
        refused = host.open_stream("directed", PARAMS)
        with pytest.raises(BadParameters, match="style image is gone"):
            await refused.wait_ready()
        assert not refused.is_alive
        stream = host.open_stream("directed", PARAMS)
        await stream.wait_ready()


async def test_a_closed_stream_is_released_and_takes_no_frames(
    hosting: Hosting, direction: Direction
) -> None:
    async with hosting() as host:
        stream = host.open_stream("directed", PARAMS)
        await stream.wait_ready()
        await stream.close()
        await stream.close()
        assert direction.calls == ["load", "prepare", "release"]
        assert host.snapshot()[0].num_streams == 0
        with pytest.raises(HostError, match="not ready"):
            await stream.process(frame(0), picture(), COLOUR)


async def test_a_frame_still_waiting_when_its_stream_is_closed_is_never_run(
    hosting: Hosting, direction: Direction
) -> None:
    async with hosting() as host:
        one, two = host.open_stream("directed", PARAMS), host.open_stream("directed", PARAMS)
        await one.wait_ready()
        await two.wait_ready()
        direction.may_run.clear()
        async with asyncio.TaskGroup() as tasks:
            begun = tasks.create_task(one.process(frame(1), picture(), COLOUR))
            await direction.until(lambda: direction.batches)

            async def waits() -> None:
                with pytest.raises(HostError, match="the stream is closed"):
                    await two.process(frame(2), picture(), COLOUR)

            tasks.create_task(waits())
            await asyncio.sleep(0)
            closing = tasks.create_task(two.close())
            await asyncio.sleep(0)
            direction.may_run.set()
            await closing
        assert begun.result() == Shown(1)
        assert direction.batches == [[1]]


async def test_a_pipeline_with_frames_in_flight_gives_earlier_ones(
    hosting: Hosting, direction: Direction
) -> None:
    direction.num_in_flight = 2
    async with hosting() as host:
        stream = host.open_stream("directed", PARAMS)
        await stream.wait_ready()
        shown = []
        for pts in (50, 60, 70, 80):
            out = picture()
            shown.append((await stream.process(frame(pts, luma=pts), out, COLOUR), luma_of(out)))
    assert [what for what, _ in shown] == [None, None, Shown(50), Shown(60)]
    assert [luma for _, luma in shown[2:]] == pytest.approx([50, 60], abs=1)


async def test_a_stream_closed_during_its_preparation_is_released(
    hosting: Hosting, direction: Direction
) -> None:
    direction.may_load.clear()
    async with hosting() as host:
        stream = host.open_stream("directed", PARAMS)
        direction.may_load.set()
        await direction.until(lambda: "prepare" in direction.calls)
        await stream.close()
        await direction.until(lambda: "release" in direction.calls)
        assert not stream.is_ready


async def test_a_cancelled_frame_that_has_not_begun_is_never_run(
    hosting: Hosting, direction: Direction
) -> None:
    async with hosting() as host:
        one, two = host.open_stream("directed", PARAMS), host.open_stream("directed", PARAMS)
        await one.wait_ready()
        await two.wait_ready()
        direction.may_run.clear()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(one.process(frame(1), picture(), COLOUR))
            await direction.until(lambda: direction.batches)
            waiting = tasks.create_task(two.process(frame(2), picture(), COLOUR))
            await asyncio.sleep(0)
            waiting.cancel()
            await asyncio.sleep(0)
            direction.may_run.set()
        assert await two.process(frame(3), picture(), COLOUR) == Shown(3)
        assert direction.batches == [[1], [3]]


async def test_stopping_the_host_unloads_its_models_and_ends_their_threads(
    hosting: Hosting, direction: Direction
) -> None:
    async with hosting() as host:
        await host.wait_warm()
    assert direction.calls == ["load", "unload"]
    assert not [thread for thread in threading.enumerate() if thread.name.endswith("directed")]


async def test_streams_left_open_end_with_the_host(hosting: Hosting) -> None:
    async with hosting() as host:
        stream = host.open_stream("directed", PARAMS)
        await stream.wait_ready()
    with pytest.raises(HostError, match="shutting down"):
        await stream.wait_ready()


async def test_a_model_the_host_does_not_serve_is_not_capable(hosting: Hosting) -> None:
    async with hosting() as host:
        with pytest.raises(NotCapable, match=r"'other' is not served; served: \['directed'\]"):
            host.open_stream("other", PARAMS)


def test_a_configured_model_must_be_known_to_the_build() -> None:
    with pytest.raises(ConfigError, match=r"unknown models \['sdxl'\]"):
        LocalHost(LocalHostConfig(models={"sdxl": True}), built_in())


@pytest.mark.parametrize("device", ["gpu", "cuda:", "cuda:x", "0", ""])
def test_a_device_is_named_as_torch_names_it(device: str) -> None:
    with pytest.raises(ConfigError, match="expected cpu, cuda or cuda:N"):
        LocalHostConfig(device=device, models={})


@pytest.mark.parametrize(
    "setting", ["load_timeout_s", "window_s", "rest_s", "hang_s", "release_timeout_s"]
)
def test_a_time_limit_is_positive(setting: str) -> None:
    with pytest.raises(ConfigError, match=f"{setting} must be positive, got 0"):
        RestartConfig(**{setting: 0})
