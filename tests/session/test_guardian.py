"""Source: live.md sections 6.2, 8.2, 8.4 and 8.5; checklist L31, L32, L36, L37."""

import json
from typing import Any

import pytest

from lpnode.schedule.hosted_stream import Restart
from lpnode.session.clock import Clock
from lpnode.session.events import Events
from lpnode.session.guardian import Guardian
from lpnode.session.stop_reason import StopReason
from lpnode.session.vitals import Vitals


class Place:
    """A place on a model, in the state a test puts it."""

    def __init__(self) -> None:
        self.is_alive = True
        self.is_ready = True
        self.ready_at_s: float | None = 0.0
        self.last_restart: Restart | None = None
        self.restart_count = 0
        self.failures: list[str] = []

    def fail(self, reason: str) -> None:
        self.failures.append(reason)


class Watch:
    """A guardian over a clock that tests move, one second a tick."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.segments: list[dict[str, Any]] = []
        self.place = Place()
        self.clock = Clock(lambda: self.now_s, lambda: 1_730_000_000.0)
        self.vitals = Vitals(0.0)
        self.events = Events(self, "noop", self.vitals, self.clock)
        self.events.open()
        self.guardian = Guardian(
            vitals=self.vitals,
            stream=self.place,
            events=self.events,
            clock=self.clock,
            input_timeout_s=60.0,
        )

    def publish(self, data: bytes) -> None:
        self.segments.append(json.loads(data)["event"])

    def run(
        self, seconds: int, *, fps_in: float = 30, fps_out: float = 30
    ) -> tuple[StopReason | None, float]:
        """Ticks until a reason to stop, or for ``seconds``. Returns the reason and the time."""
        for _ in range(seconds):
            start_s = self.now_s
            self.now_s += 1
            for number in range(int(fps_in)):
                self.vitals.saw_input(start_s + (number + 1) / fps_in)
            for number in range(int(fps_out)):
                self.vitals.saw_output(start_s + (number + 1) / fps_out)
            reason = self.guardian.tick()
            if reason is not None:
                return reason, self.now_s
        return None, self.now_s


@pytest.fixture
def watch() -> Watch:
    return Watch()


def test_a_healthy_stream_becomes_online_when_its_rate_is_known(watch: Watch) -> None:
    assert watch.run(9)[0] is None
    assert watch.guardian.state == "DEGRADED_INPUT"
    watch.run(2)
    assert watch.guardian.state == "ONLINE"


def test_a_hung_pipeline_is_given_up_after_five_seconds_without_output(watch: Watch) -> None:
    watch.run(30)
    reason, at_s = watch.run(20, fps_out=0)
    assert (reason, at_s) == (StopReason.PIPELINE_FAILED, 36)
    assert len(watch.place.failures) == 1
    assert watch.segments[-1]["state"] == "ERROR"


def test_a_pipeline_that_never_gives_output_is_given_up_after_twelve_seconds(watch: Watch) -> None:
    reason, at_s = watch.run(30, fps_out=0)
    assert (reason, at_s) == (StopReason.PIPELINE_FAILED, 12)


def test_the_first_frame_may_come_late(watch: Watch) -> None:
    """The health check may fall between the first frame and its output."""
    assert watch.run(20, fps_in=0, fps_out=0)[0] is None
    assert watch.run(1, fps_in=1, fps_out=0)[0] is None
    assert watch.run(5)[0] is None


def test_a_late_first_frame_is_waited_for_no_longer_than_another(watch: Watch) -> None:
    watch.run(20, fps_in=0, fps_out=0)
    reason, at_s = watch.run(30, fps_out=0)
    assert (reason, at_s) == (StopReason.PIPELINE_FAILED, 31)


def test_missing_input_is_not_the_pipelines_fault(watch: Watch) -> None:
    watch.run(20)
    reason, at_s = watch.run(100, fps_in=0, fps_out=0)
    assert (reason, at_s) == (StopReason.NO_INPUT, 80)
    assert watch.place.failures == []


def test_slow_input_does_not_hide_a_hung_pipeline(watch: Watch) -> None:
    """Each of the rare frames makes the input young again; what it waits for is still missing."""
    watch.run(30)
    reason = None
    while reason is None and watch.now_s < 60:
        reason, _ = watch.run(1, fps_in=1, fps_out=0)
        if reason is None:
            reason, _ = watch.run(1, fps_in=0, fps_out=0)
    assert reason is StopReason.PIPELINE_FAILED
    assert watch.now_s < 40


def test_a_model_that_is_given_up_ends_the_session_without_blaming_it_again(watch: Watch) -> None:
    watch.run(20)
    watch.place.is_alive = False
    assert watch.run(1)[0] is StopReason.PIPELINE_FAILED
    assert watch.place.failures == []


def test_an_error_degrades_the_stream_for_fifteen_seconds(watch: Watch) -> None:
    watch.run(30)
    watch.vitals.saw_error("boom", watch.now_s)
    watch.run(14)
    assert watch.guardian.state == "DEGRADED_INFERENCE"
    watch.run(2)
    assert watch.guardian.state == "ONLINE"


def test_a_restart_is_told_once_and_counted(watch: Watch) -> None:
    """L32."""
    watch.run(30)
    watch.place.last_restart = Restart(1, 1_730_000_030.0, ("loading",))
    watch.place.restart_count = 1
    watch.place.ready_at_s = watch.now_s
    watch.segments.clear()
    watch.run(3)
    restarts = [event for event in watch.segments if event["type"] == "restart"]
    assert [(event["restart_count"], event["restart_logs"]) for event in restarts] == [
        (1, ["loading"])
    ]
    assert watch.guardian.state == "DEGRADED_INFERENCE"
    statuses = [event for event in watch.segments if event["type"] == "status"]
    assert statuses[0]["inference_status"]["last_restart_logs"] == ["loading"]
    assert statuses[0]["inference_status"]["restart_count"] == 1


def test_restarts_before_the_session_are_not_its_events(watch: Watch) -> None:
    place = Place()
    place.last_restart, place.restart_count = Restart(2, 0.0, ()), 2
    guardian = Guardian(
        vitals=watch.vitals,
        stream=place,
        events=watch.events,
        clock=watch.clock,
        input_timeout_s=60.0,
    )
    guardian.tick()
    assert [event["type"] for event in watch.segments] == ["status"]
    assert watch.segments[0]["inference_status"]["restart_count"] == 2


def test_a_reload_is_loading_and_ends_in_an_error_after_three_minutes(watch: Watch) -> None:
    """Three minutes of its own, on a stream that has run for longer."""
    watch.run(1000)
    watch.place.is_ready = False
    watch.run(170, fps_out=0)
    assert watch.guardian.state == "LOADING"
    reason, at_s = watch.run(300, fps_out=0)
    assert reason is StopReason.PIPELINE_FAILED
    assert at_s == 1001 + 183
