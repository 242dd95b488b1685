"""One live stream: everything that runs for it, from acceptance to the end of its stop."""

import asyncio
import logging
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from functools import partial
from typing import Any

from lpnode import log
from lpnode.admission.admit import Admission
from lpnode.errors import (
    ConfigError,
    EndOfChannel,
    InsufficientBalance,
    LpnodeError,
    first_cause,
)
from lpnode.media.decoder import DecoderConfig
from lpnode.metrics import Metrics
from lpnode.payment.meter import Meter
from lpnode.pipeline.params import BaseParams
from lpnode.protocol.live_event import Trace
from lpnode.protocol.live_job import LiveJob
from lpnode.schedule.capacity import Slot
from lpnode.schedule.local_host import LocalHost
from lpnode.session.clock import Clock
from lpnode.session.codec_thread import CodecThread
from lpnode.session.control import Control
from lpnode.session.events import Events
from lpnode.session.guardian import Guardian
from lpnode.session.ingest import Ingest
from lpnode.session.live_channels import LiveChannels
from lpnode.session.output import Output
from lpnode.session.stages import Stages
from lpnode.session.state import INPUT_DEAD_S, SessionState
from lpnode.session.stop_reason import StopReason
from lpnode.session.vitals import Vitals
from lpnode.trickle.local import LocalPublisher, LocalSubscriber

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveConfig:
    """Times of a live session, in seconds, and limits.

    Attributes:
        input_timeout_s: a session without an input frame for this long is stopped; at most 90.
        tick_s: how often health is judged.
        first_event_delay_s: a gateway reads events from the moment it has its answer on; what is
            sent before is lost to it.
        flush_s: how long frames on their way may take to come out after the input has ended.
        close_s: how long a native call or the host may take to let go of a session that stops.
        max_control_bytes: longest control message.
    """

    input_timeout_s: float = 60.0
    tick_s: float = 1.0
    first_event_delay_s: float = 0.5
    flush_s: float = 1.0
    close_s: float = 2.0
    max_control_bytes: int = 1 << 20

    def __post_init__(self) -> None:
        for name in ("input_timeout_s", "tick_s", "flush_s", "close_s", "max_control_bytes"):
            if getattr(self, name) <= 0:
                raise ConfigError(f"live {name} must be positive, got {getattr(self, name)}")
        if self.input_timeout_s > INPUT_DEAD_S:
            raise ConfigError(
                f"live input_timeout_s must be at most {INPUT_DEAD_S:g}, where a stream without "
                f"input is in ERROR, got {self.input_timeout_s:g}"
            )
        if not 0 <= self.first_event_delay_s < 10:
            raise ConfigError(
                f"live first_event_delay_s must be 0 to 10, got {self.first_event_delay_s}"
            )


# Nothing of the pipeline's can still come out, or nobody waits for it.
_WITHOUT_FLUSH = {StopReason.PIPELINE_FAILED, StopReason.OUTPUT_CLOSED, StopReason.UNPAID}


class LiveSession:
    """One admitted stream. ``run`` owns all its tasks, its threads, its channels and its slot.

    Nothing of a session is left when ``run`` returns, except a native call that never returns: its
    thread is abandoned, with a line in the log.
    Raises: HostError: the model cannot take a stream.
    """

    def __init__(
        self,
        *,
        job: LiveJob,
        params: BaseParams,
        admission: Admission,
        channels: LiveChannels,
        slot: Slot,
        host: LocalHost,
        config: LiveConfig,
        clock: Clock,
        metrics: Metrics,
        meter: Meter | None = None,
    ) -> None:
        """``meter`` debits the work; None when it is free. The session closes it."""
        self.id = channels.manifest_id
        self.job = job
        self.admission = admission
        self.vitals = Vitals(clock.now())
        self.vitals.saw_params(job.params or {}, clock.now())
        self.stop_reason: StopReason | None = None
        self._channels = channels
        self._slot = slot
        self._config = config
        self._clock = clock
        self._metrics = metrics
        self._meter = meter
        self._stopping = asyncio.Event()
        self._stream = host.open_stream(job.model_id, params)
        # Readers are attached before the answer is sent, at seq 0: nothing sent early is missed.
        self._input = LocalSubscriber(channels.publish, start=0)
        self._control = Control(
            LocalSubscriber(channels.control, start=0),
            max_bytes=config.max_control_bytes,
            parse=partial(host.parse, job.model_id),
            stream=self._stream,
            vitals=self.vitals,
            clock=clock,
        )
        self._events = Events(LocalPublisher(channels.events), job.model_id, self.vitals, clock)
        self._guardian = Guardian(
            vitals=self.vitals,
            stream=self._stream,
            events=self._events,
            clock=clock,
            input_timeout_s=config.input_timeout_s,
        )

    @property
    def state(self) -> SessionState:
        """Health as of the last tick. Source: live.md section 8.4."""
        return self._guardian.state

    @property
    def params(self) -> BaseParams:
        """The full set in force."""
        return self._stream.params

    @property
    def is_ready(self) -> bool:
        """Whether the pipeline takes frames; false during loads and reloads."""
        return self._stream.is_ready

    def stop(self, reason: StopReason) -> None:
        """Begins the stop; the first reason counts."""
        if self.stop_reason is None:
            self.stop_reason = reason
            if reason in _WITHOUT_FLUSH:
                # At once, so that the gateway moves on while the rest is cleaned up.
                self._channels.close()
            self._stopping.set()

    def abandon(self) -> None:
        """Gives everything back that ``run`` would have; for a session that never ran."""
        if self._meter is not None:
            self._meter.close("the session never ran")
        self._channels.close()
        self._slot.release()

    async def run(self) -> None:
        """Runs until the input ends, something fails, ``stop`` is called or the caller cancels.

        Failures are contained here: told to the gateway, logged, and the end of this session only.
        """
        log.session_id.set(self.id)
        _log.info(
            "session opened: model %s, stream %s, request %s, sender %s",
            self.job.model_id,
            self.job.stream_id,
            self.job.request_id,
            self.admission.sender.hex(),
        )
        threads: list[CodecThread] = []
        with self._slot:
            try:
                threads += (CodecThread(f"{self.id} {work}") for work in ("decode", "encode"))
                await self._run_tasks(*threads)
            except* LpnodeError as group:
                self._failed(StopReason.MEDIA_FAILED, group)
            except* Exception as group:  # noqa: BLE001 - a failure ends this session, not the node
                self._failed(StopReason.INTERNAL_ERROR, group)
            finally:
                if self.stop_reason is None:
                    self.stop_reason = StopReason.SHUTDOWN
                await self._clean_up(threads)

    async def _run_tasks(self, decode_thread: CodecThread, encode_thread: CodecThread) -> None:
        stages = Stages(
            subscriber=self._input,
            publisher=LocalPublisher(self._channels.subscribe),
            stream=self._stream,
            ingest=Ingest(
                max_framerate=self._stream.params.max_framerate,
                decoder=DecoderConfig(device=self._stream.device),
            ),
            output=Output(*self._stream.output_size, device=self._stream.device),
            decode_thread=decode_thread,
            encode_thread=encode_thread,
            vitals=self.vitals,
            events=self._events,
            clock=self._clock,
            metrics=self._metrics,
            may_go_on=None if self._meter is None else self._is_paid,
        )
        async with asyncio.TaskGroup() as tasks:

            def spawn(name: str, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
                return tasks.create_task(work, name=f"session {self.id} {name}")

            receive = spawn("receive", self._until(StopReason.INPUT_ENDED, stages.receive))
            flow = [
                receive,
                spawn("decode", stages.decode()),
                spawn("infer", stages.infer()),
                spawn("encode", stages.encode()),
                spawn("send", self._until(StopReason.OUTPUT_CLOSED, stages.send)),
            ]
            rest = [
                spawn("control", self._until(StopReason.CONTROL_ENDED, self._control.read)),
                spawn("update", self._control.apply()),
                spawn("guard", self._guard()),
            ]
            await self._stopping.wait()
            receive.cancel()
            stages.end_input()
            if self.stop_reason not in _WITHOUT_FLUSH:
                # The end of the input runs through the stages and takes the last frames along.
                await asyncio.wait(flow, timeout=self._config.flush_s)
            for task in (*flow, *rest):
                task.cancel()

    async def _until(
        self, reason: StopReason, work: Callable[[], Coroutine[Any, Any, None]]
    ) -> None:
        """Runs ``work``; the session stops when it ends, or meets the end of its channel."""
        try:
            await work()
        except EndOfChannel:
            _log.debug("%s", reason)
        self.stop(reason)

    def _is_paid(self) -> bool:
        """Debits what is due. If the balance does not cover it, the session ends, at once."""
        assert self._meter is not None
        try:
            self._meter.work_arrived()
        except InsufficientBalance as error:
            _log.info("session cut: %s", error)
            self.vitals.saw_error(str(error), self._clock.now())
            # The last words, before the channels close.
            self._events.finish()
            self.stop(StopReason.UNPAID)
            return False
        return True

    async def _guard(self) -> None:
        self._events.trace(Trace.RECEIVE_STREAM_REQUEST, self.job.received_ms)
        await asyncio.sleep(self._config.first_event_delay_s)
        self._events.open()
        while True:
            reason = self._guardian.tick()
            if reason is not None:
                self.stop(reason)
            elif self._channels.subscribe.is_closed:
                self.stop(StopReason.OUTPUT_CLOSED)
            await asyncio.sleep(self._config.tick_s)

    def _failed(self, reason: StopReason, group: BaseExceptionGroup[Exception]) -> None:
        error = first_cause(group)
        _log.error("session failed: %s", error, exc_info=error)
        self.vitals.saw_error(str(error), self._clock.now())
        self.stop(reason)

    async def _clean_up(self, threads: list[CodecThread]) -> None:
        """Lets go of everything, each within its deadline. The slot goes last."""
        if self._meter is not None:
            self._meter.close(str(self.stop_reason))
        if not self._channels.events.is_closed:
            self._events.finish()
        self._channels.close()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._stream.close(), name=f"session {self.id} close stream")
            for thread in threads:
                close = thread.close(self._config.close_s)
                tasks.create_task(close, name=f"session {self.id} close thread")
        vitals = self.vitals
        _log.info(
            "session closed after %.1f s: %s; %d frames in, %d out",
            self._clock.now() - vitals.start_s,
            self.stop_reason,
            vitals.input_rate.total,
            vitals.output_rate.total,
        )
