"""How a live session is doing: one word, computed from what was seen and when."""

from dataclasses import dataclass
from enum import StrEnum

GRACE_S = 2.0
"""How long after a load or update nothing is expected yet."""
INPUT_TIMEOUT_S = 60.0
INPUT_DEAD_S = 90.0
LOAD_TIMEOUT_S = 180.0
OUTPUT_TIMEOUT_S = 5.0


class SessionState(StrEnum):
    """The words of the wire. Source: live.md section 6.3."""

    LOADING = "LOADING"
    OFFLINE = "OFFLINE"
    ONLINE = "ONLINE"
    DEGRADED_INPUT = "DEGRADED_INPUT"
    DEGRADED_INFERENCE = "DEGRADED_INFERENCE"
    ERROR = "ERROR"


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """What is known at ``now_s``. Times are seconds on one monotonic clock, None for never."""

    now_s: float
    previous: SessionState
    is_alive: bool
    """Whether the pipeline runs or may yet become ready."""
    is_ready: bool
    """Whether the pipeline takes frames; false during loads and reloads."""
    has_stream: bool
    started_s: float
    """When the stream began."""
    ready_s: float | None
    """When the pipeline was last loaded or reloaded."""
    last_params_update_s: float | None
    last_input_s: float | None
    """When the last frame came in."""
    last_output_s: float | None
    """When the last frame that is no loading frame came out."""
    last_error_s: float | None
    last_restart_s: float | None
    input_fps: float
    inference_fps: float
    first_output_timeout_s: float = 10.0
    """How long the first output after a load may take; ComfyUI gets 30 s."""


@dataclass(frozen=True, slots=True)
class Assessment:
    """The state, and whether the session must stop."""

    state: SessionState
    must_stop: bool


def assess(seen: Observation) -> Assessment:
    """Computes the state; to be called every second.

    Source: live.md section 8.4; the numbers in the comments are its rules.
    """
    since_input_s = seen.now_s - _latest(seen.last_input_s, seen.started_s)
    state = _state(seen, since_input_s)
    is_starved = seen.has_stream and since_input_s > INPUT_TIMEOUT_S
    return Assessment(state, must_stop=state is SessionState.ERROR or is_starved)


def _state(seen: Observation, since_input_s: float) -> SessionState:
    if seen.previous is SessionState.ERROR or not seen.is_alive:  # 1
        return SessionState.ERROR
    expected_for_s = _expected_for_s(seen)
    if not seen.is_ready:  # 2
        is_late = expected_for_s > LOAD_TIMEOUT_S
        return SessionState.ERROR if is_late else SessionState.LOADING
    if not seen.has_stream:  # 3
        is_idle = since_input_s > 3 or seen.last_input_s is None
        return SessionState.OFFLINE if is_idle else SessionState.DEGRADED_INPUT
    if since_input_s > INPUT_TIMEOUT_S:  # 4
        is_dead = since_input_s >= INPUT_DEAD_S
        return SessionState.ERROR if is_dead else SessionState.DEGRADED_INPUT
    since_output_s = _since(seen.now_s, seen.last_output_s)
    if since_output_s is None or since_output_s >= expected_for_s:  # 5
        return _before_first_output(seen, since_input_s, expected_for_s)
    if since_output_s > since_input_s + 1 and since_output_s > OUTPUT_TIMEOUT_S:  # 6
        return SessionState.ERROR
    if _is_within(seen, seen.last_error_s, 15) or _is_within(seen, seen.last_restart_s, 60):  # 7
        return SessionState.DEGRADED_INFERENCE
    if since_input_s > 2 or seen.input_fps < 15:  # 8
        return SessionState.DEGRADED_INPUT
    if since_output_s > 2 or seen.inference_fps < min(10, 0.8 * seen.input_fps):  # 9
        return SessionState.DEGRADED_INFERENCE
    return SessionState.ONLINE  # 10


def _before_first_output(
    seen: Observation, since_input_s: float, expected_for_s: float
) -> SessionState:
    """Rule 5: nothing has come out since the pipeline was loaded or given new parameters."""
    if expected_for_s < 2:
        return SessionState.ONLINE
    if since_input_s > expected_for_s:
        return SessionState.DEGRADED_INPUT
    if expected_for_s < seen.first_output_timeout_s:
        return SessionState.DEGRADED_INFERENCE
    return SessionState.ERROR


def _expected_for_s(seen: Observation) -> float:
    """Seconds for which output could have been expected: ``T`` of the source."""
    began_s = _latest(seen.last_params_update_s, _latest(seen.ready_s, seen.started_s))
    return max(0.0, seen.now_s - began_s - GRACE_S)


def _latest(time_s: float | None, other_s: float) -> float:
    return other_s if time_s is None else max(time_s, other_s)


def _since(now_s: float, time_s: float | None) -> float | None:
    return None if time_s is None else now_s - time_s


def _is_within(seen: Observation, time_s: float | None, window_s: float) -> bool:
    return time_s is not None and seen.now_s - time_s < window_s
