"""A node's live sessions without its network edge: real channels, real host, real codecs."""

import asyncio
import io
import json
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import av
from live_input import InputFrame

from lpnode.admission.admit import Admission
from lpnode.errors import EndOfChannel
from lpnode.metrics import Metrics
from lpnode.payment.meter import Meter
from lpnode.pipeline.catalog import Catalog, built_in
from lpnode.pipeline.params import BaseParams
from lpnode.pipeline.passthrough import Passthrough
from lpnode.pipeline.pipeline import FrameJob, FrameResult, StreamState
from lpnode.protocol.ethereum import Address
from lpnode.protocol.live_job import LiveJob
from lpnode.schedule.capacity import Capacity, ModelKey
from lpnode.schedule.hosted_model import Clocks
from lpnode.schedule.local_host import LocalHost, LocalHostConfig
from lpnode.session.clock import Clock
from lpnode.session.live import LiveConfig, LiveSession
from lpnode.session.live_sessions import LiveSessions
from lpnode.trickle.channels import Channels, TrickleConfig
from lpnode.trickle.local import LocalPublisher, LocalSubscriber

LIVE_VIDEO = 35
MODEL = "noop"
KEY = ModelKey(LIVE_VIDEO, MODEL)
FAST = LiveConfig(tick_s=0.02, first_event_delay_s=0.0, flush_s=0.5, close_s=0.5)
NOBODY = Admission(sender=Address(bytes(20)), session_id="s", manifest_id="m")


async def until(is_so: Callable[[], object]) -> None:
    """Returns once ``is_so`` is true of something that announces no change."""
    async with asyncio.timeout(20):
        while not is_so():  # noqa: ASYNC110 there is no event to wait for
            await asyncio.sleep(0.005)


class Scripted(Passthrough):
    """Passes frames through while its test lets it; all instances of a test share the script."""

    def __init__(self, script: "Script") -> None:
        super().__init__()
        self._script = script

    def is_dynamic(self, old: BaseParams, new: BaseParams) -> bool:
        return not self._script.reloads

    def load(self) -> None:
        self._script.may_load.wait()

    def prepare(self, params: BaseParams) -> StreamState:
        if self._script.prepare_errors:
            raise self._script.prepare_errors.pop(0)
        return super().prepare(params)

    def run(self, batch: Sequence[FrameJob]) -> list[FrameResult | None]:
        self._script.may_run.wait()
        if self._script.errors:
            raise self._script.errors.pop(0)
        return super().run(batch)

    def update(self, state: StreamState, params: BaseParams) -> None:
        self._script.may_update.wait()
        if self._script.update_errors:
            raise self._script.update_errors.pop(0)
        super().update(state, params)


class Script:
    """What a ``Scripted`` pipeline may do."""

    def __init__(self) -> None:
        self.may_load = threading.Event()
        self.may_run = threading.Event()
        self.may_update = threading.Event()
        self.reloads = False
        self.errors: list[Exception] = []
        self.prepare_errors: list[Exception] = []
        self.update_errors: list[Exception] = []
        self.let_everything_go()

    def let_everything_go(self) -> None:
        for event in (self.may_load, self.may_run, self.may_update):
            event.set()

    def catalog(self) -> Catalog:
        return Catalog({MODEL: lambda _: Scripted(self)})


class NodeBench:
    """What the tests of sessions start from. Its clock runs, and jumps when a test says so."""

    def __init__(
        self,
        *,
        slots: int = 1,
        config: LiveConfig = FAST,
        script: Script | None = None,
        is_warm: bool = True,
    ) -> None:
        self.script = script
        self.jumped_s = 0.0
        self.metrics = Metrics(node_id="test")
        self.channels = Channels(TrickleConfig(), self.now_s)
        self.capacity = Capacity({KEY: slots})
        self.host = LocalHost(
            LocalHostConfig(models={MODEL: is_warm}),
            script.catalog() if script else built_in(),
            clocks=Clocks(monotonic=self.now_s, wall=time.time),
        )
        self.sessions = LiveSessions(
            config,
            channels=self.channels,
            capacity=self.capacity,
            host=self.host,
            metrics=self.metrics,
            clock=Clock(self.now_s),
        )

    def now_s(self) -> float:
        """The bench's clock."""
        return time.monotonic() + self.jumped_s

    @asynccontextmanager
    async def running(self) -> AsyncIterator["NodeBench"]:
        """Runs host and sessions for the length of a test; checks that nothing of them is left."""
        async with asyncio.TaskGroup() as tasks:
            running = [tasks.create_task(self.host.run()), tasks.create_task(self.sessions.run())]
            await asyncio.sleep(0)
            try:
                if self.script is None or self.script.may_load.is_set():
                    await self.host.wait_warm()
                yield self
            finally:
                if self.script is not None:
                    self.script.let_everything_go()
                for task in running:
                    task.cancel()
        assert self.capacity.in_use(KEY) == 0
        assert len(self.channels) == 0
        assert len(self.sessions) == 0

    def start(
        self, params: Mapping[str, Any] | None = None, meter: Meter | None = None
    ) -> "Gateway":
        """Starts a session and attaches to its channels as a gateway does."""
        job = LiveJob(model_id=MODEL, params=params, stream_id="s", request_id="r", received_ms=7)
        with self.sessions.reserve(MODEL) as place:
            session = self.sessions.start(place, job, NOBODY, meter)
        return Gateway(self.channels, session)

    async def ended(self) -> None:
        """Waits until no session is left."""
        async with asyncio.timeout(20):
            await self.sessions.wait_ended()


class Gateway:
    """The other end of a session's four channels."""

    def __init__(self, channels: Channels, session: LiveSession) -> None:
        mid = session.id
        self.session = session
        self.input = LocalPublisher(channels.find(mid))
        self.control = LocalPublisher(channels.find(f"{mid}-control"))
        self.output = LocalSubscriber(channels.find(f"{mid}-out"), 0)
        self.events = LocalSubscriber(channels.find(f"{mid}-events"), 0)
        self.received = bytearray()
        """All of the output so far."""

    def send(self, frame: InputFrame) -> None:
        """Publishes one frame, in a segment of its own if it begins one."""
        if frame.starts_segment:
            self._segment = self.input.begin()
        self._segment.write(frame.data)

    async def receive(self) -> bytes:
        """Waits for the next piece of output; ``b""`` at the end of the channel."""
        async with asyncio.timeout(20):
            while True:
                if not hasattr(self, "_reading"):
                    try:
                        self._reading = await self.output.next_segment()
                    except EndOfChannel:
                        return b""
                if piece := await self._reading.read():
                    self.received += piece
                    return piece
                del self._reading

    async def exchange(self, frames: Iterable[InputFrame]) -> None:
        """Sends frames, each after the output of the one before has come."""
        for frame in frames:
            self.send(frame)
            await self.receive()

    async def receive_all(self) -> None:
        """Reads the output to its end."""
        while await self.receive():
            pass

    def update(self, message: Any) -> None:
        """Sends a control message; bytes go as they are."""
        self.control.publish(
            message if isinstance(message, bytes) else json.dumps(message).encode()
        )

    async def next_event(self, kind: str) -> dict[str, Any]:
        """Waits for the next event of a type and returns it without its envelope."""
        async with asyncio.timeout(20):
            while True:
                data = await (await self.events.next_segment()).read_all(1 << 20)
                event: dict[str, Any] = json.loads(data)["event"] if data else {"type": None}
                if event["type"] == kind:
                    return event

    async def remaining_events(self) -> list[dict[str, Any]]:
        """Every event until the channel ends."""
        events: list[dict[str, Any]] = []
        try:
            while True:
                data = await (await self.events.next_segment()).read_all(1 << 20)
                if data:
                    events.append(json.loads(data)["event"])
        except EndOfChannel:
            return events

    def pictures(self) -> list[av.VideoFrame]:
        """The frames of the output so far, by FFmpeg."""
        return decoded(bytes(self.received))


def decoded(data: bytes) -> list[av.VideoFrame]:
    """The frames of a transport stream, by FFmpeg."""
    with av.open(io.BytesIO(data), format="mpegts") as container:
        return list(container.decode(video=0))
