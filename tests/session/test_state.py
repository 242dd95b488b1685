"""Checklist L42: every rule of live.md 8.4 on a clock of the test's own."""

from dataclasses import replace

import pytest

from lpnode.session.state import Assessment, Observation, SessionState, assess

NOW_S = 1000.0
LOADING = SessionState.LOADING
OFFLINE = SessionState.OFFLINE
ONLINE = SessionState.ONLINE
DEGRADED_INPUT = SessionState.DEGRADED_INPUT
DEGRADED_INFERENCE = SessionState.DEGRADED_INFERENCE
ERROR = SessionState.ERROR

# A stream of 100 s that does well.
HEALTHY = Observation(
    now_s=NOW_S,
    previous=ONLINE,
    is_alive=True,
    is_ready=True,
    has_stream=True,
    started_s=NOW_S - 100,
    ready_s=NOW_S - 500,
    last_params_update_s=NOW_S - 100,
    last_input_s=NOW_S - 0.04,
    last_output_s=NOW_S - 0.04,
    last_error_s=None,
    last_restart_s=None,
    input_fps=24.0,
    inference_fps=24.0,
)


def state(**changes: object) -> SessionState:
    return assess(replace(HEALTHY, **changes)).state  # type: ignore[arg-type]


def ago(seconds: float) -> float:
    return NOW_S - seconds


def fresh(seconds: float, **changes: object) -> SessionState:
    """A stream that began ``seconds`` ago on a loaded pipeline and has shown nothing yet."""
    return state(
        **{
            "started_s": ago(seconds),
            "last_params_update_s": ago(seconds),
            "last_output_s": None,
            "input_fps": 0.0,
            "inference_fps": 0.0,
            **changes,
        }
    )


def test_a_stream_that_does_well_is_online() -> None:
    assert assess(HEALTHY) == Assessment(ONLINE, must_stop=False)


def test_rule_1_error_is_sticky() -> None:
    assert assess(replace(HEALTHY, previous=ERROR)) == Assessment(ERROR, must_stop=True)


@pytest.mark.parametrize("is_ready", [True, False])
def test_rule_1_a_dead_pipeline_is_an_error(is_ready: bool) -> None:
    assert state(is_alive=False, is_ready=is_ready) is ERROR


@pytest.mark.parametrize(
    ("since_start_s", "expected"), [(0, LOADING), (182, LOADING), (182.1, ERROR)]
)
def test_rule_2_a_pipeline_that_is_not_ready_is_loading_for_three_minutes(
    since_start_s: float, expected: SessionState
) -> None:
    assert fresh(since_start_s, is_ready=False, ready_s=None) is expected


def test_rule_2_a_reload_counts_from_the_update_that_caused_it() -> None:
    assert state(is_ready=False, last_params_update_s=ago(10), started_s=ago(3000)) is LOADING


@pytest.mark.parametrize(
    ("last_input_s", "expected"),
    [(None, OFFLINE), (ago(3.1), OFFLINE), (ago(3), DEGRADED_INPUT), (ago(0), DEGRADED_INPUT)],
)
def test_rule_3_without_a_stream_it_is_offline_after_three_seconds(
    last_input_s: float | None, expected: SessionState
) -> None:
    assert state(has_stream=False, last_input_s=last_input_s) is expected


@pytest.mark.parametrize(
    ("since_input_s", "expected"),
    [
        (60, Assessment(DEGRADED_INPUT, must_stop=False)),
        (60.1, Assessment(DEGRADED_INPUT, must_stop=True)),
        (89.9, Assessment(DEGRADED_INPUT, must_stop=True)),
        (90, Assessment(ERROR, must_stop=True)),
    ],
)
def test_rule_4_a_stream_without_input_for_60_s_must_stop(
    since_input_s: float, expected: Assessment
) -> None:
    times = {"last_input_s": ago(since_input_s), "last_output_s": ago(since_input_s)}
    assert assess(replace(HEALTHY, **times)) == expected


def test_rule_4_input_that_never_came_counts_from_the_start() -> None:
    seen = replace(HEALTHY, last_input_s=None, last_output_s=None, started_s=ago(61))
    assert assess(seen).must_stop


def test_rule_4_does_not_stop_what_is_not_running() -> None:
    seen = replace(HEALTHY, has_stream=False, last_input_s=ago(300))
    assert assess(seen) == Assessment(OFFLINE, must_stop=False)


@pytest.mark.parametrize(
    ("since_start_s", "expected"),
    [
        (0, ONLINE),
        (3.9, ONLINE),
        (4, DEGRADED_INFERENCE),
        (11.9, DEGRADED_INFERENCE),
        (12, ERROR),
    ],
)
def test_rule_5_the_first_output_may_take_ten_seconds_after_the_grace(
    since_start_s: float, expected: SessionState
) -> None:
    assert fresh(since_start_s) is expected


def test_rule_5_lets_a_slow_kind_of_pipeline_take_longer() -> None:
    assert fresh(31.9, first_output_timeout_s=30.0) is DEGRADED_INFERENCE
    assert fresh(32, first_output_timeout_s=30.0) is ERROR


def test_rule_5_blames_the_input_when_none_came_since_the_load() -> None:
    assert fresh(20, last_input_s=None) is DEGRADED_INPUT
    assert state(ready_s=ago(12), last_output_s=ago(13), last_input_s=ago(13)) is DEGRADED_INPUT


def test_rule_5_output_from_before_a_reload_does_not_count() -> None:
    assert state(ready_s=ago(20), last_output_s=ago(19)) is ERROR
    assert state(ready_s=ago(20), last_output_s=ago(17)) is not ONLINE
    assert state(ready_s=ago(3), last_output_s=ago(4)) is ONLINE


@pytest.mark.parametrize(
    ("since_output_s", "since_input_s", "expected"),
    [
        (5.1, 0.04, ERROR),
        (5.0, 0.04, DEGRADED_INFERENCE),
        (5.1, 4.2, DEGRADED_INPUT),
        (30.0, 28.9, ERROR),
        (30.0, 29.0, DEGRADED_INPUT),
    ],
)
def test_rule_6_output_that_stops_while_input_goes_on_is_an_error(
    since_output_s: float, since_input_s: float, expected: SessionState
) -> None:
    assert state(last_output_s=ago(since_output_s), last_input_s=ago(since_input_s)) is expected


def test_rule_6_an_error_stops_the_session_at_once() -> None:
    assert assess(replace(HEALTHY, last_output_s=ago(6))).must_stop


def test_rule_7_an_error_degrades_inference_for_15_s() -> None:
    assert state(last_error_s=ago(14.9)) is DEGRADED_INFERENCE
    assert state(last_error_s=ago(15)) is ONLINE


def test_rule_7_a_restart_degrades_inference_for_60_s() -> None:
    assert state(last_restart_s=ago(59.9)) is DEGRADED_INFERENCE
    assert state(last_restart_s=ago(60)) is ONLINE


@pytest.mark.parametrize(
    ("since_input_s", "input_fps", "expected"),
    [(2.1, 24, DEGRADED_INPUT), (2.0, 24, ONLINE), (0, 14.9, DEGRADED_INPUT), (0, 15, ONLINE)],
)
def test_rule_8_late_or_slow_input_is_named(
    since_input_s: float, input_fps: float, expected: SessionState
) -> None:
    times = {"last_input_s": ago(since_input_s), "last_output_s": ago(0)}
    assert state(input_fps=input_fps, **times) is expected


def test_rule_8_a_fresh_stream_shows_degraded_input_until_its_first_rates_are_known() -> None:
    assert fresh(5, last_output_s=ago(0.04)) is DEGRADED_INPUT


@pytest.mark.parametrize(
    ("input_fps", "inference_fps", "expected"),
    [
        (24, 10, ONLINE),
        (24, 9.9, DEGRADED_INFERENCE),
        (60, 10, ONLINE),
        (15, 10, ONLINE),
        (15, 9.9, DEGRADED_INFERENCE),
    ],
)
def test_rule_9_slow_inference_is_named(
    input_fps: float, inference_fps: float, expected: SessionState
) -> None:
    assert state(input_fps=input_fps, inference_fps=inference_fps) is expected


def test_rule_9_late_output_is_named() -> None:
    assert state(last_output_s=ago(2.1)) is DEGRADED_INFERENCE
    assert state(last_output_s=ago(2.0)) is ONLINE
