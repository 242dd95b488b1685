"""Updates, loading frames, events and starts of a live session, end to end.

Checklist: live.md section 19, L23 to L41.
"""

import asyncio
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import pytest
from live_input import h264_input
from node_bench import Gateway, NodeBench, Script, until

from lpnode.errors import BadParameters, ConfigError, HostError, NotBuilt
from lpnode.session.live import LiveConfig
from lpnode.session.stop_reason import StopReason


@pytest.fixture
def script() -> Iterator[Script]:
    script = Script()
    yield script
    script.let_everything_go()


async def applied(gateway: Gateway) -> dict[str, Any]:
    """Waits for the next status that carries parameters."""
    while True:
        status = await gateway.next_event("status")
        if status["inference_status"]["last_params"] is not None:
            params: dict[str, Any] = status["inference_status"]["last_params"]
            return params


async def test_an_update_replaces_the_whole_set(script: Script) -> None:
    """L27, L30: a key that is absent goes back to its default."""
    async with NodeBench(script=script).running() as bench:
        gateway = bench.start({"max_framerate": 30, "show_reloading_frame": False})
        assert await applied(gateway) == {"max_framerate": 30, "show_reloading_frame": False}
        gateway.update({"max_framerate": 50})
        bench.jumped_s += 10
        assert await applied(gateway) == {"max_framerate": 50}
        params = gateway.session.params
        assert (params.max_framerate, params.show_reloading_frame) == (50, True)
        gateway.control.close()
        await bench.ended()


async def test_a_keep_alive_changes_nothing() -> None:
    """L23."""
    async with NodeBench().running() as bench:
        gateway = bench.start({"max_framerate": 30})
        gateway.update({"keep": "alive"})
        gateway.update(b"")
        gateway.control.close()
        events = await gateway.remaining_events()
        await bench.ended()
    assert gateway.session.params.max_framerate == 30
    assert not [event for event in events if event["type"] == "error"]


async def test_a_large_message_in_small_pieces_is_applied() -> None:
    """L24."""
    message = b'{"max_framerate":30,"ignored":"' + b"x" * 100_000 + b'"}'
    async with NodeBench().running() as bench:
        gateway = bench.start()
        segment = gateway.control.begin()
        for begin in range(0, len(message), 1000):
            segment.write(message[begin : begin + 1000])
            await asyncio.sleep(0)
        segment.close()
        await until(lambda: gateway.session.params.max_framerate == 30)
        gateway.control.close()
        await bench.ended()


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (b'{"max_framerate":', "control message is not JSON"),
        (b'["x"]', "control message must be a JSON object, got list"),
        ({"max_framerate": 90}, "max_framerate"),
        ({"width": 640}, "Cannot change output resolution mid-stream (512x512 to 640x512)"),
    ],
    ids=["cut", "array", "value", "resolution"],
)
async def test_a_bad_update_is_an_error_event_and_the_stream_goes_on(
    message: Any, reason: str
) -> None:
    """L25, L40."""
    async with NodeBench().running() as bench:
        gateway = bench.start({"max_framerate": 30})
        gateway.update(message)
        error = await gateway.next_event("error")
        assert error["message"].startswith("Error updating params: ")
        assert reason in error["message"]
        assert gateway.session.params.max_framerate == 30
        await gateway.exchange(h264_input(5))
        gateway.input.close()
        await bench.ended()


@pytest.mark.parametrize(
    "failure",
    [
        BadParameters("lora_dict: there is no LoRA 'x'"),
        HostError("lora_dict: the file is damaged"),
        ConfigError("lora_dict: there is no such model folder"),
        NotBuilt("lora_dict: this build cannot"),
        ValueError("lora_dict: nobody knows"),
    ],
    ids=lambda error: type(error).__name__,
)
async def test_an_update_that_fails_for_any_reason_leaves_the_stream_running(
    script: Script, failure: Exception
) -> None:
    """L25, L40."""
    script.update_errors = [failure]
    async with NodeBench(script=script).running() as bench:
        gateway = bench.start({"max_framerate": 30})
        await until(lambda: gateway.session.is_ready)
        gateway.update({"max_framerate": 50})
        error = await gateway.next_event("error")
        assert error["message"].startswith("Error updating params: ")
        assert str(failure) in error["message"]
        assert gateway.session.params.max_framerate == 30
        await gateway.exchange(h264_input(3))
        gateway.input.close()
        await bench.ended()


async def test_an_update_refused_after_the_load_is_an_error_event_and_the_stream_goes_on(
    script: Script,
) -> None:
    """L25, L40."""
    script.may_load.clear()
    script.prepare_errors = [BadParameters("lora_dict: there is no LoRA 'x'")]
    async with NodeBench(script=script, is_warm=False).running() as bench:
        gateway = bench.start({"max_framerate": 30})
        gateway.update({"max_framerate": 50})
        await until(lambda: gateway.session.params.max_framerate == 50)
        script.may_load.set()
        error = await gateway.next_event("error")
        assert "Error updating params: lora_dict: there is no LoRA 'x'" in error["message"]
        assert gateway.session.params.max_framerate == 30
        assert gateway.session.vitals.params == {"max_framerate": 30}
        await gateway.exchange(h264_input(3))
        gateway.input.close()
        await bench.ended()


async def test_of_several_updates_the_last_is_applied(script: Script) -> None:
    """L26: those that pile up behind a slow one are skipped."""
    async with NodeBench(script=script).running() as bench:
        gateway = bench.start()
        await gateway.exchange(h264_input(2))
        script.may_update.clear()
        for max_framerate in (10, 20, 30, 40):
            gateway.update({"max_framerate": max_framerate})
            await asyncio.sleep(0)
        await asyncio.sleep(0.05)
        script.may_update.set()
        await until(lambda: gateway.session.params.max_framerate == 40)
        assert gateway.session.vitals.params == {"max_framerate": 40}
        gateway.control.close()
        await bench.ended()


async def test_a_reload_shows_loading_frames_that_do_not_count_as_output(script: Script) -> None:
    """L38."""
    script.reloads = True
    frames = list(h264_input(15))
    async with NodeBench(script=script).running() as bench:
        gateway = bench.start()
        await until(lambda: gateway.session.is_ready)
        await gateway.exchange(frames[:5])
        script.may_update.clear()
        gateway.update({"max_framerate": 30})
        await until(lambda: not gateway.session.is_ready)
        await gateway.exchange(frames[5:10])
        assert gateway.session.vitals.output_rate.total == 5
        script.may_update.set()
        await until(lambda: gateway.session.is_ready)
        await gateway.exchange(frames[10:])
        gateway.input.close()
        await bench.ended()
    pictures = gateway.pictures()
    assert [picture.pts for picture in pictures] == [frame.pts_ticks for frame in frames]
    # The input is grey: darkened loading frames stand out by their mean luma.
    means = [picture.to_ndarray()[:512].mean() for picture in pictures]
    assert max(means[6:10]) < min(*means[:5], *means[11:]) - 15


async def test_without_loading_frames_a_reload_is_silent_and_survived(script: Script) -> None:
    """L39."""
    script.reloads = True
    frames = list(h264_input(12))
    async with NodeBench(script=script).running() as bench:
        gateway = bench.start({"show_reloading_frame": False})
        await until(lambda: gateway.session.is_ready)
        await gateway.exchange(frames[:4])
        script.may_update.clear()
        gateway.update({"show_reloading_frame": False, "max_framerate": 30})
        await until(lambda: not gateway.session.is_ready)
        for frame in frames[4:8]:
            gateway.send(frame)
            await asyncio.sleep(0.02)
        script.may_update.set()
        await until(lambda: gateway.session.is_ready)
        await gateway.exchange(frames[8:])
        gateway.input.close()
        await bench.ended()
    shown = [picture.pts for picture in gateway.pictures()]
    assert shown == [frame.pts_ticks for frame in frames[:4] + frames[8:]]


async def test_a_cold_model_shows_loading_frames_until_it_is_ready(script: Script) -> None:
    """L2, L34: the start does not wait for the model; status flows meanwhile."""
    script.may_load.clear()
    frames = list(h264_input(10))
    async with NodeBench(script=script, is_warm=False).running() as bench:
        gateway = bench.start()
        await gateway.exchange(frames[:4])
        assert (await gateway.next_event("status"))["state"] == "LOADING"
        assert gateway.session.vitals.output_rate.total == 0
        script.may_load.set()
        assert (await gateway.next_event("status"))["state"] != "LOADING"
        await gateway.exchange(frames[4:])
        gateway.input.close()
        await bench.ended()
    assert len(gateway.pictures()) == 10


async def test_a_model_that_never_loads_ends_the_session(script: Script) -> None:
    """Source: live.md section 8.4, rule 2."""
    script.may_load.clear()
    async with NodeBench(script=script, is_warm=False).running() as bench:
        gateway = bench.start()
        for frame in h264_input(40):
            gateway.send(frame)
            await asyncio.sleep(0.03)
            bench.jumped_s += 8
            if gateway.output.channel.is_closed:
                break
        await bench.ended()
        script.let_everything_go()
    assert gateway.session.stop_reason == StopReason.PIPELINE_FAILED


async def test_the_milestones_come_once_and_in_order() -> None:
    """L33."""
    async with NodeBench().running() as bench:
        gateway = bench.start()
        events = asyncio.create_task(gateway.remaining_events())
        await gateway.exchange(h264_input(45))
        gateway.input.close()
        await bench.ended()
        traces = [event for event in await events if event["type"].startswith("runner_")]
    assert [event["type"] for event in traces] == [
        "runner_receive_stream_request",
        "runner_receive_first_ingest_segment",
        "runner_send_first_processed_segment",
    ]
    assert traces[0]["timestamp"] == 7
    assert traces[1]["timestamp"] <= traces[2]["timestamp"]


async def test_status_comes_at_once_and_every_ten_seconds() -> None:
    """L29, L34: with and without input."""
    async with NodeBench().running() as bench:
        gateway = bench.start()
        times = []
        for _ in range(4):
            times.append((await gateway.next_event("status"))["timestamp"])
            bench.jumped_s += 9.9
        gateway.input.close()
        await bench.ended()
    gaps_ms = [after - before for before, after in pairwise(times)]
    assert max(gaps_ms[1:]) <= 11_000


async def test_a_stream_that_was_swapped_here_goes_on_where_it_is() -> None:
    """L55: the last update is replayed at once, and the running segment comes in one go."""
    running = list(h264_input(60, gop=60, first_frame=72_000))
    async with NodeBench().running() as bench:
        gateway = bench.start({"max_framerate": 30})
        gateway.update({"max_framerate": 60, "show_reloading_frame": False})
        for frame in running[:40]:
            gateway.send(frame)
        assert await gateway.receive()
        params = gateway.session.params
        assert (params.max_framerate, params.show_reloading_frame) == (60, False)
        for frame in running[40:]:
            gateway.send(frame)
        async with asyncio.timeout(20):
            while gateway.pictures()[-1].pts != running[-1].pts_ticks:
                await gateway.receive()
        gateway.input.close()
        await bench.ended()


async def test_events_wait_for_the_gateway_to_listen() -> None:
    """A gateway that begins to read just after its answer sees the first status."""
    config = LiveConfig(tick_s=0.02, first_event_delay_s=0.1)
    async with NodeBench(config=config).running() as bench:
        gateway = bench.start()
        assert gateway.events.channel.next == 0
        await asyncio.sleep(0.02)
        gateway.events.jump_to_latest()
        assert (await gateway.next_event("runner_receive_stream_request"))["timestamp"] == 7
        gateway.input.close()
        await bench.ended()


async def test_the_next_stream_on_a_slot_starts_from_nothing() -> None:
    """L41."""
    async with NodeBench().running() as bench:
        first = bench.start({"max_framerate": 5})
        first.update(b"nonsense")
        await first.next_event("error")
        await first.exchange(h264_input(1))
        first.input.close()
        await bench.ended()
        second = bench.start()
        status = await second.next_event("status")
        assert status["inference_status"]["last_error"] is None
        assert status["input_status"] == {"last_input_time": None, "fps": 0.0}
        assert second.session.params.max_framerate == 24
        frames = list(h264_input(3, first_frame=50))
        await second.exchange(frames)
        second.input.close()
        await bench.ended()
    assert [p.pts for p in second.pictures()] == [frame.pts_ticks for frame in frames]
