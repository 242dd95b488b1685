"""Watches one session's health and tells when it must stop. Source: live.md section 8."""

from typing import Protocol

from lpnode.schedule.hosted_stream import Restart
from lpnode.session.clock import Clock
from lpnode.session.events import Events
from lpnode.session.state import GRACE_S, Observation, SessionState, assess
from lpnode.session.stop_reason import StopReason
from lpnode.session.vitals import Vitals


class WatchedStream(Protocol):
    """What can be seen of a session's place on a model."""

    @property
    def is_alive(self) -> bool:
        """Whether it is ready or may yet become so."""

    @property
    def is_ready(self) -> bool:
        """Whether it takes frames."""

    @property
    def ready_at_s(self) -> float | None:
        """When it last became ready."""

    @property
    def last_restart(self) -> Restart | None:
        """The latest restart of the model; another object after each."""

    @property
    def restart_count(self) -> int:
        """Restarts of the model so far."""

    def fail(self, reason: str) -> None:
        """Hears that the session gave it up."""


class Guardian:
    """Judges the session once a second: ``tick`` reports, and says when to stop.

    Whatever hangs (a native call, the pipeline, a peer that sends nothing) shows as the absence of
    input or output, so nothing else needs to be watched.
    """

    def __init__(
        self,
        *,
        vitals: Vitals,
        stream: WatchedStream,
        events: Events,
        clock: Clock,
        input_timeout_s: float,
    ) -> None:
        self.state = SessionState.LOADING
        self._vitals = vitals
        self._stream = stream
        self._events = events
        self._clock = clock
        self._input_timeout_s = input_timeout_s
        self._restart_seen = stream.last_restart
        self._load_began_s: float | None = None
        vitals.restart_count = stream.restart_count

    def tick(self) -> StopReason | None:
        """Reports restarts, errors and status that are due. Returns why to stop, if so."""
        now_s = self._clock.now()
        vitals, stream = self._vitals, self._stream
        restart = stream.last_restart
        if restart is not None and restart is not self._restart_seen:
            self._restart_seen = restart
            vitals.saw_restart(list(restart.logs), restart.count, now_s)
            self._events.restart()
        if stream.is_ready:
            self._load_began_s = None
        elif self._load_began_s is None:
            self._load_began_s = now_s
        vitals.roll(now_s)
        self.state = assess(self._observe(now_s)).state
        self._events.tick(self.state)
        if self._idle_s(now_s) >= self._input_timeout_s:
            return StopReason.NO_INPUT
        if self.state is SessionState.ERROR:
            if stream.is_alive:
                stream.fail(f"no output for {self._silent_s(now_s):.1f} s")
            return StopReason.PIPELINE_FAILED
        return None

    def _observe(self, now_s: float) -> Observation:
        vitals, stream = self._vitals, self._stream
        return Observation(
            now_s=now_s,
            previous=self.state,
            is_alive=stream.is_alive,
            is_ready=stream.is_ready,
            has_stream=True,
            started_s=self._started_s(),
            # A reload may take as long as a first load, however long ago that was.
            ready_s=stream.ready_at_s if self._load_began_s is None else self._load_began_s,
            last_params_update_s=vitals.params_updated_s,
            last_input_s=vitals.last_input_s,
            last_output_s=self._output_expected_since_s(),
            last_error_s=vitals.last_error_s,
            last_restart_s=vitals.last_restart_s,
            input_fps=vitals.input_rate.fps,
            inference_fps=vitals.output_rate.fps,
        )

    def _started_s(self) -> float:
        """When the stream began; before its first output, no earlier than two seconds before input.

        Taken literally, the rules would find the first output overdue in the instant in which a
        late first frame comes.
        """
        vitals = self._vitals
        first_s = None if vitals.last_output_s is not None else vitals.unanswered_since_s
        if first_s is None or not self._stream.is_ready:
            return vitals.start_s
        return max(vitals.start_s, first_s - GRACE_S)

    def _output_expected_since_s(self) -> float | None:
        """The last output, or the first input after it if that came later.

        The rules compare the ages of input and output once a second. Taken literally, they would
        find an output too old in the instant after a pause of the input has ended.
        """
        vitals = self._vitals
        if vitals.last_output_s is None or vitals.unanswered_since_s is None:
            return vitals.last_output_s
        return max(vitals.last_output_s, vitals.unanswered_since_s)

    def _idle_s(self, now_s: float) -> float:
        last_s = self._vitals.last_input_s
        return now_s - (self._vitals.start_s if last_s is None else last_s)

    def _silent_s(self, now_s: float) -> float:
        last_s = self._vitals.last_output_s
        return now_s - (self._vitals.start_s if last_s is None else last_s)
