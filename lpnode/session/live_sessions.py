"""All live sessions of a node: starting, watching over and draining them."""

import asyncio
import logging
import secrets
from dataclasses import dataclass
from typing import Self

from lpnode.admission.admit import Admission
from lpnode.errors import NoCapacity
from lpnode.metrics import Metrics
from lpnode.payment.meter import Meter
from lpnode.protocol.capability import PIPELINES
from lpnode.protocol.live_job import LiveJob
from lpnode.schedule.capacity import Capacity, ModelKey, Slot
from lpnode.schedule.local_host import LocalHost
from lpnode.session.clock import Clock
from lpnode.session.live import LiveConfig, LiveSession
from lpnode.session.live_channels import LiveChannels
from lpnode.session.stop_reason import StopReason
from lpnode.trickle.channels import Channels

_log = logging.getLogger(__name__)

LIVE_PIPELINE = "live-video-to-video"
_CAPABILITY = PIPELINES[LIVE_PIPELINE]


@dataclass(frozen=True, slots=True)
class SessionStatus:
    """What an operator may want to know of a session. Times in milliseconds since the epoch."""

    manifest_id: str
    model_id: str
    stream_id: str
    request_id: str
    sender: str
    state: str
    start_time_ms: int
    input_fps: float
    output_fps: float
    num_frames_in: int
    num_frames_out: int
    restart_count: int
    last_error: str | None


class Reservation:
    """A slot and a manifest id, held while the rest of a request is checked.

    Leaving its ``with`` block gives the slot back, unless a session has taken it over.
    """

    __slots__ = ("_slot", "manifest_id", "model_id")

    def __init__(self, model_id: str, slot: Slot) -> None:
        self.model_id = model_id
        # Nobody can guess a channel's name, which is all that protects it: 64 bits of it.
        self.manifest_id = secrets.token_hex(8)
        self._slot: Slot | None = slot

    def take(self) -> Slot:
        """Hands the slot over to the session that gives it back from now on."""
        slot, self._slot = self._slot, None
        assert slot is not None  # one reservation starts one session
        return slot

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._slot is not None:
            self._slot.release()


class LiveSessions:
    """Owns every live session of the node. Used from the event loop only.

    A job is started in two steps, ``with sessions.reserve(model_id) as place`` and
    ``sessions.start(place, …)``: the slot is taken, in one step with looking for it, before
    anything else is checked.
    """

    def __init__(
        self,
        config: LiveConfig,
        *,
        channels: Channels,
        capacity: Capacity,
        host: LocalHost,
        metrics: Metrics,
        clock: Clock | None = None,
    ) -> None:
        self._config = config
        self._channels = channels
        self._capacity = capacity
        self._host = host
        self._metrics = metrics
        self._clock = clock or Clock()
        self._sessions: dict[str, LiveSession] = {}
        self._tasks: asyncio.TaskGroup | None = None
        self._is_draining = False
        self._changed = asyncio.Event()

    def __len__(self) -> int:
        return len(self._sessions)

    async def run(self) -> None:
        """Keeps sessions going until cancelled; then stops them all and waits for their end."""
        try:
            async with asyncio.TaskGroup() as self._tasks:
                await asyncio.get_running_loop().create_future()
        finally:
            self._tasks = None

    def reserve(self, model_id: str) -> Reservation:
        """Takes a slot for a model. Raises: NoCapacity: none is free, or the node is draining."""
        if self._tasks is None or self._is_draining:
            raise NoCapacity
        return Reservation(model_id, self._capacity.lease(ModelKey(_CAPABILITY, model_id)))

    def start(
        self,
        reservation: Reservation,
        job: LiveJob,
        admission: Admission,
        meter: Meter | None = None,
    ) -> LiveSession:
        """Validates the parameters, makes the channels and starts the pipeline in the background.

        Takes well under a millisecond: models load while the stream already runs. ``meter`` debits
        the work; None when it is free. It is the session's from here on, and closed with it.
        Raises:
            BadParameters: names the field.
            HostError: the model has failed for good.
        On an error no channel, slot or task is left behind.
        """
        tasks = self._tasks
        if tasks is None or self._is_draining:
            raise NoCapacity
        params = self._host.parse(job.model_id, job.params)
        channels = LiveChannels(
            self._channels,
            reservation.manifest_id,
            max_control_bytes=self._config.max_control_bytes,
        )
        slot = reservation.take()
        try:
            session = LiveSession(
                job=job,
                params=params,
                admission=admission,
                channels=channels,
                slot=slot,
                host=self._host,
                config=self._config,
                clock=self._clock,
                metrics=self._metrics,
                meter=meter,
            )
        except BaseException:  # no session is there to give these back
            channels.close()
            slot.release()
            raise
        self._sessions[session.id] = session
        self._metrics.live_sessions.set(len(self._sessions))
        self._metrics.ai_models_requested.increase(pipeline=LIVE_PIPELINE, model_name=job.model_id)
        task = tasks.create_task(_contained(session), name=f"session {session.id}")
        # A task that is cancelled before its first step runs none of its code.
        task.add_done_callback(lambda _: self._ended(session))
        return session

    def count_refusal(self, model_id: str, error: Exception) -> None:
        """Notes for the operator that a job did not start.

        What peers choose freely, model names they invent and texts, makes no labels.
        """
        is_known = ModelKey(_CAPABILITY, model_id) in self._capacity.keys()  # noqa: SIM118 a method
        self._metrics.ai_request_errors.increase(
            error_code=type(error).__name__,
            pipeline=LIVE_PIPELINE,
            model_name=model_id if is_known else "",
            sender="",
        )

    async def drain(self, deadline_s: float) -> None:
        """Refuses new sessions, lets running ones end until the deadline, then stops them."""
        self._is_draining = True
        try:
            async with asyncio.timeout(deadline_s):
                await self.wait_ended()
        except TimeoutError:
            _log.warning("stopping %d live sessions at the deadline", len(self._sessions))
            for session in list(self._sessions.values()):
                session.stop(StopReason.SHUTDOWN)
            await self.wait_ended()

    def snapshot(self) -> list[SessionStatus]:
        """Every running session, oldest first."""
        return [self._status(session) for session in self._sessions.values()]

    async def wait_ended(self) -> None:
        """Returns when no session is left."""
        while self._sessions:
            self._changed.clear()
            await self._changed.wait()

    def _ended(self, session: LiveSession) -> None:
        session.abandon()
        del self._sessions[session.id]
        self._metrics.live_sessions.set(len(self._sessions))
        self._changed.set()

    def _status(self, session: LiveSession) -> SessionStatus:
        vitals = session.vitals
        return SessionStatus(
            manifest_id=session.id,
            model_id=session.job.model_id,
            stream_id=session.job.stream_id,
            request_id=session.job.request_id,
            sender=f"0x{session.admission.sender.hex()}",
            state=session.state,
            start_time_ms=self._clock.wall_ms(vitals.start_s),
            input_fps=vitals.input_rate.fps,
            output_fps=vitals.output_rate.fps,
            num_frames_in=vitals.input_rate.total,
            num_frames_out=vitals.output_rate.total,
            restart_count=vitals.restart_count,
            last_error=vitals.last_error,
        )


async def _contained(session: LiveSession) -> None:
    try:
        await session.run()
    except Exception:  # noqa: BLE001 - a session beyond repair must not take the others with it
        _log.exception("session %s could not be cleaned up", session.id)
