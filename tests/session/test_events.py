"""Source: live.md section 6; checklist L29, L30, L33."""

import json
from typing import Any

from lpnode.protocol.live_event import Trace
from lpnode.session.clock import Clock
from lpnode.session.events import Events
from lpnode.session.vitals import Vitals

EPOCH_S = 1_730_000_000.0


class Recorder:
    """A channel that keeps what is published."""

    def __init__(self) -> None:
        self.segments: list[dict[str, Any]] = []

    def publish(self, data: bytes) -> None:
        self.segments.append(json.loads(data))

    def take(self) -> list[dict[str, Any]]:
        taken, self.segments = self.segments, []
        return taken


class Bench:
    """Events over a clock that tests move by hand; it starts at 100 s."""

    def __init__(self, *, is_open: bool = True) -> None:
        self.now_s = 100.0
        self.clock = Clock(lambda: self.now_s, lambda: EPOCH_S)
        self.vitals = Vitals(self.now_s)
        self.channel = Recorder()
        self.events = Events(self.channel, "noop", self.vitals, self.clock)
        if is_open:
            self.events.open()

    def run_to(self, now_s: float, state: str = "ONLINE") -> list[dict[str, Any]]:
        while self.now_s < now_s:
            self.now_s = min(self.now_s + 1.0, now_s)
            self.events.tick(state)
        return self.channel.take()


def test_a_status_has_exactly_the_fields_and_types_of_the_contract() -> None:
    bench = Bench()
    bench.vitals.saw_params({"prompt": "cat"}, 100.0)
    bench.events.tick("LOADING")
    [segment] = bench.channel.take()
    assert segment["queue_event_type"] == "ai_stream_events"
    event = segment["event"]
    assert event == {
        "type": "status",
        "pipeline": "noop",
        "start_time": 1_730_000_000_000,
        "state": "LOADING",
        "last_state_update_time": 1_730_000_000_000,
        "input_status": {"last_input_time": None, "fps": 0.0},
        "inference_status": {
            "last_output_time": None,
            "fps": 0.0,
            "last_params_update_time": 1_730_000_000_000,
            "last_params": {"prompt": "cat"},
            "last_params_hash": event["inference_status"]["last_params_hash"],
            "last_error_time": None,
            "last_error": None,
            "last_restart_time": None,
            "last_restart_logs": None,
            "restart_count": 0,
        },
        "last_status_timestamp": 1_730_000_000_000,
        "timestamp": 1_730_000_000_000,
    }
    assert len(event["inference_status"]["last_params_hash"]) == 32


def test_statuses_come_at_once_and_then_every_ten_seconds() -> None:
    bench = Bench()
    bench.events.tick("ONLINE")
    bench.channel.take()
    times = [segment["event"]["timestamp"] for segment in bench.run_to(145.0)]
    assert times == [1_730_000_000_000 + s * 1000 for s in (10, 20, 30, 40)]


def test_a_change_of_state_is_reported_at_once_and_does_not_move_the_period() -> None:
    bench = Bench()
    bench.events.tick("LOADING")
    bench.run_to(103.0, "LOADING")
    [change] = bench.run_to(104.0, "ONLINE")
    assert change["event"]["state"] == "ONLINE"
    assert change["event"]["last_state_update_time"] == change["event"]["timestamp"]
    [periodic] = bench.run_to(110.0)
    assert periodic["event"]["timestamp"] == 1_730_000_010_000
    assert periodic["event"]["last_status_timestamp"] == 1_730_000_004_000
    assert periodic["event"]["last_state_update_time"] == 1_730_000_004_000


def test_params_and_restart_logs_are_in_the_first_status_after_a_change_only() -> None:
    bench = Bench()
    bench.vitals.saw_params({"a": 1}, 100.0)
    bench.vitals.saw_restart(["line"], 1, 100.0)
    bench.events.tick("ONLINE")
    first, second = [*bench.channel.take(), *bench.run_to(110.0)]
    assert first["event"]["inference_status"]["last_params"] == {"a": 1}
    assert first["event"]["inference_status"]["last_restart_logs"] == ["line"]
    later = second["event"]["inference_status"]
    assert (later["last_params"], later["last_restart_logs"]) == (None, None)
    assert later["last_params_hash"] is not None
    assert later["restart_count"] == 1


def test_fps_is_zero_until_ten_seconds_have_passed() -> None:
    bench = Bench()
    bench.events.tick("ONLINE")
    for frame in range(300):
        bench.vitals.saw_input(100 + frame / 30)
        bench.vitals.saw_output(100 + frame / 30)
    *_, status = [*bench.channel.take(), *bench.run_to(109.0)]
    assert status["event"]["input_status"]["fps"] == 0.0
    [status] = bench.run_to(110.0)
    assert status["event"]["input_status"]["fps"] == 30.0
    assert status["event"]["inference_status"]["fps"] == 30.0


def test_only_the_newest_error_between_two_ticks_is_sent_and_only_once() -> None:
    bench = Bench()
    bench.events.tick("ONLINE")
    bench.channel.take()
    bench.vitals.saw_error("first", 100.25)
    bench.vitals.saw_error("second", 100.5)
    [segment] = bench.run_to(102.0)
    assert segment["event"] == {
        "type": "error",
        "pipeline": "noop",
        "message": "second",
        "time": EPOCH_S + 0.5,
        "timestamp": 1_730_000_001_000,
    }


def test_a_restart_event_carries_the_newest_hundred_lines() -> None:
    bench = Bench()
    bench.vitals.saw_restart([f"line {number}" for number in range(250)], 2, 100.0)
    bench.events.restart()
    [segment] = bench.channel.take()
    event = segment["event"]
    assert (event["type"], event["restart_count"], event["restart_time"]) == ("restart", 2, EPOCH_S)
    assert (len(event["restart_logs"]), event["restart_logs"][-1]) == (100, "line 249")


def test_a_trace_is_sent_once_to_its_own_queue() -> None:
    bench = Bench()
    bench.events.trace(Trace.RECEIVE_STREAM_REQUEST, 5)
    bench.events.trace(Trace.RECEIVE_STREAM_REQUEST, 6)
    assert bench.channel.take() == [
        {
            "event": {"type": "runner_receive_stream_request", "timestamp": 5},
            "queue_event_type": "stream_trace",
        }
    ]


def test_events_before_the_gateway_listens_are_kept_in_order() -> None:
    bench = Bench(is_open=False)
    bench.events.trace(Trace.RECEIVE_STREAM_REQUEST, 5)
    bench.events.tick("ONLINE")
    assert bench.channel.take() == []
    bench.events.open()
    assert [segment["event"]["type"] for segment in bench.channel.take()] == [
        "runner_receive_stream_request",
        "status",
    ]
