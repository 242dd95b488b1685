"""What a session tells its gateway. Source: live.md section 6."""

import logging
from typing import Protocol

from lpnode.errors import EndOfChannel, TooLarge
from lpnode.protocol.live_event import (
    ErrorEvent,
    InferenceStatus,
    InputStatus,
    RestartEvent,
    StatusEvent,
    Trace,
    encode_event,
    encode_trace,
)
from lpnode.session.clock import Clock
from lpnode.session.vitals import Vitals

_log = logging.getLogger(__name__)

STATUS_PERIOD_S = 10.0
MAX_LOG_LINES = 100


class SegmentPublisher(Protocol):
    """A channel to write whole segments to."""

    def publish(self, data: bytes) -> None:
        """Writes one segment, from its first byte to its end."""


class Events:
    """Writes the events channel of one session. Used from the event loop only.

    A gateway reads the channel from the next segment on when it has the answer to its job request,
    so what is written earlier is never seen: events are kept back until ``open``.
    Errors go out through ``tick``, the newest of a second, so that a stream which fails on each
    frame stays below the ten events a second that gateways can take.
    """

    def __init__(
        self, publisher: SegmentPublisher, pipeline: str, vitals: Vitals, clock: Clock
    ) -> None:
        self._publisher = publisher
        self._pipeline = pipeline
        self._vitals = vitals
        self._clock = clock
        self._kept_back: list[bytes] | None = []
        self._traced: set[Trace] = set()
        self._state: str | None = None
        self._state_since_s = vitals.start_s
        self._last_status_s = vitals.start_s
        self._next_status_s = vitals.start_s

    def open(self) -> None:
        """Lets events out, those kept back first."""
        kept_back, self._kept_back = self._kept_back, None
        for data in kept_back or ():
            self._publish(data)

    def finish(self) -> None:
        """Sends the newest error, and only then what was kept back.

        The channel ends right behind it: a gateway that waits for the next event reads that one.
        """
        kept_back, self._kept_back = self._kept_back, None
        self.flush_error()
        for data in kept_back or ():
            self._publish(data)

    def trace(self, trace: Trace, timestamp_ms: int) -> None:
        """Sends a milestone, the first time it is reached."""
        if trace not in self._traced:
            self._traced.add(trace)
            self._send(encode_trace(trace, timestamp_ms))

    def tick(self, state: str) -> None:
        """Sends what is due: the newest error, and a status each 10 s and on a change of state."""
        now_s = self._clock.now()
        self._vitals.roll(now_s)
        self.flush_error()
        is_change = state != self._state
        if is_change:
            self._state, self._state_since_s = state, now_s
        if is_change or now_s >= self._next_status_s:
            self._send_status(now_s, state)
        while self._next_status_s <= now_s:
            self._next_status_s += STATUS_PERIOD_S

    def flush_error(self) -> None:
        """Sends the newest error if no event has carried it."""
        vitals = self._vitals
        if not vitals.error_is_news or vitals.last_error is None or vitals.last_error_s is None:
            return
        vitals.error_is_news = False
        event = ErrorEvent(
            pipeline=self._pipeline,
            message=vitals.last_error,
            time=self._clock.wall_s(vitals.last_error_s),
            timestamp=self._clock.wall_ms(self._clock.now()),
        )
        self._send(encode_event(event))

    def restart(self) -> None:
        """Sends the restart that ``vitals`` has just recorded."""
        vitals = self._vitals
        now_s = self._clock.now()
        event = RestartEvent(
            pipeline=self._pipeline,
            restart_count=vitals.restart_count,
            restart_time=self._clock.wall_s(vitals.last_restart_s or now_s),
            restart_logs=(vitals.restart_logs or [])[-MAX_LOG_LINES:],
            timestamp=self._clock.wall_ms(now_s),
        )
        self._send(encode_event(event))

    def _send_status(self, now_s: float, state: str) -> None:
        vitals, clock = self._vitals, self._clock
        event = StatusEvent(
            pipeline=self._pipeline,
            start_time=clock.wall_ms(vitals.start_s),
            state=state,
            last_state_update_time=clock.wall_ms(self._state_since_s),
            input_status=InputStatus(
                last_input_time=self._maybe_ms(vitals.last_input_s), fps=vitals.input_rate.fps
            ),
            inference_status=InferenceStatus(
                last_output_time=self._maybe_ms(vitals.last_output_s),
                fps=vitals.output_rate.fps,
                last_params_update_time=self._maybe_ms(vitals.params_updated_s),
                last_params=vitals.params if vitals.params_are_news else None,
                last_params_hash=vitals.params_hash,
                last_error_time=self._maybe_ms(vitals.last_error_s),
                last_error=vitals.last_error,
                last_restart_time=self._maybe_ms(vitals.last_restart_s),
                last_restart_logs=vitals.restart_logs,
                restart_count=vitals.restart_count,
            ),
            last_status_timestamp=clock.wall_ms(self._last_status_s),
            timestamp=clock.wall_ms(now_s),
        )
        self._send(encode_event(event))
        vitals.params_are_news = False
        vitals.restart_logs = None
        self._last_status_s = now_s

    def _maybe_ms(self, moment_s: float | None) -> int | None:
        return None if moment_s is None else self._clock.wall_ms(moment_s)

    def _send(self, data: bytes) -> None:
        if self._kept_back is None:
            self._publish(data)
        else:
            self._kept_back.append(data)

    def _publish(self, data: bytes) -> None:
        try:
            self._publisher.publish(data)
        except (EndOfChannel, TooLarge) as error:
            # A gateway may close the channel and go on without events; nor is a node short of
            # memory for segments a reason to end the stream here.
            _log.debug("event not sent: %s", error)
