"""Wire forms of the events channel. Source: live.md section 6.

Times follow the reference, which mixes units: ``*_time`` of a status, ``timestamp`` and
``last_status_timestamp`` are integer milliseconds; ``time`` of an error and ``restart_time`` of a
restart event are float seconds.
"""

import hashlib
import json
from collections.abc import Mapping
from enum import StrEnum
from typing import Any

import msgspec


class QueueType(StrEnum):
    """Where a gateway forwards an event to."""

    STREAM_EVENTS = "ai_stream_events"
    STREAM_TRACE = "stream_trace"


class Trace(StrEnum):
    """Milestones of a job, each sent once and in this order."""

    RECEIVE_STREAM_REQUEST = "runner_receive_stream_request"
    RECEIVE_FIRST_INGEST_SEGMENT = "runner_receive_first_ingest_segment"
    SEND_FIRST_PROCESSED_SEGMENT = "runner_send_first_processed_segment"


class InputStatus(msgspec.Struct, frozen=True, kw_only=True):
    """``fps`` is 0 until the first window of 10 s has closed."""

    last_input_time: int | None
    fps: float


class InferenceStatus(msgspec.Struct, frozen=True, kw_only=True):
    """``last_params`` and ``last_restart_logs`` are sent once after a change, else null."""

    last_output_time: int | None
    fps: float
    last_params_update_time: int | None
    last_params: Mapping[str, Any] | None
    last_params_hash: str | None
    last_error_time: int | None
    last_error: str | None
    last_restart_time: int | None
    last_restart_logs: list[str] | None
    restart_count: int


class StatusEvent(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="status"):
    """Source: live.md section 6.3."""

    pipeline: str
    start_time: int
    state: str
    last_state_update_time: int
    input_status: InputStatus
    inference_status: InferenceStatus
    last_status_timestamp: int
    timestamp: int


class ErrorEvent(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="error"):
    """``time`` in seconds since the epoch."""

    pipeline: str
    message: str
    time: float
    timestamp: int


class RestartEvent(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="restart"):
    """``restart_time`` in seconds since the epoch; at most 100 lines of logs, the newest."""

    pipeline: str
    restart_count: int
    restart_time: float
    restart_logs: list[str]
    timestamp: int


class _TraceEvent(msgspec.Struct, frozen=True):
    type: str
    timestamp: int


class _Envelope(msgspec.Struct, frozen=True):
    event: StatusEvent | ErrorEvent | RestartEvent | _TraceEvent
    queue_event_type: str


_encode = msgspec.json.Encoder().encode


def encode_event(event: StatusEvent | ErrorEvent | RestartEvent) -> bytes:
    """One event in its envelope: the whole of one segment."""
    return _encode(_Envelope(event, QueueType.STREAM_EVENTS))


def encode_trace(trace: Trace, timestamp_ms: int) -> bytes:
    """A milestone in its envelope: the whole of one segment."""
    return _encode(_Envelope(_TraceEvent(trace, timestamp_ms), QueueType.STREAM_TRACE))


def params_hash(params: Mapping[str, Any]) -> str:
    """MD5 of the parameters serialised with sorted keys; opaque to whoever reads it."""
    text = json.dumps(params, sort_keys=True)
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()
