"""A node's live sessions without its network edge: real channels, real host, real codecs."""

import asyncio
import io
import json
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import av
from live_input import InputFrame

from lpnode.admission.admit import Admission
from lpnode.errors import EndOfChannel
from lpnode.metrics import Metrics
from lpnode.pipeline.catalog import Catalog, built_in
from lpnode.protocol.ethereum import Address
from lpnode.protocol.live_job import LiveJob
from lpnode.schedule.capacity import Capacity, ModelKey
from lpnode.schedule.local_host import LocalHost, LocalHostConfig
from lpnode.session.live import LiveConfig, LiveSession
from lpnode.session.live_sessions import LiveSessions
from lpnode.trickle.channels import Channels, TrickleConfig
from lpnode.trickle.local import LocalPublisher, LocalSubscriber

LIVE_VIDEO = 35
MODEL = "noop"
KEY = ModelKey(LIVE_VIDEO, MODEL)
FAST = LiveConfig(tick_s=0.02, first_event_delay_s=0.0, flush_s=0.5, close_s=0.5)
NOBODY = Admission(sender=Address(bytes(20)), session_id="s", manifest_id="m")


class NodeBench:
    """What the tests of sessions start from."""

    def __init__(
        self,
        *,
        slots: int = 1,
        config: LiveConfig = FAST,
        catalog: Catalog | None = None,
        is_warm: bool = True,
    ) -> None:
        self.channels = Channels(TrickleConfig())
        self.capacity = Capacity({KEY: slots})
        host_config = LocalHostConfig(models={MODEL: is_warm})
        self.host = LocalHost(host_config, catalog or built_in())
        self.sessions = LiveSessions(
            config,
            channels=self.channels,
            capacity=self.capacity,
            host=self.host,
            metrics=Metrics(node_id="test"),
        )

    @asynccontextmanager
    async def running(self) -> AsyncIterator["NodeBench"]:
        """Runs the host and the sessions for the length of a test."""
        async with asyncio.TaskGroup() as tasks:
            running = [tasks.create_task(self.host.run()), tasks.create_task(self.sessions.run())]
            await asyncio.sleep(0)
            try:
                yield self
            finally:
                for task in running:
                    task.cancel()
        assert self.capacity.in_use(KEY) == 0
        assert len(self.channels) == 0

    def start(self, params: Mapping[str, Any] | None = None) -> "Gateway":
        """Starts a session and attaches to its channels as a gateway does."""
        job = LiveJob(model_id=MODEL, params=params, stream_id="s", request_id="r", received_ms=7)
        with self.sessions.reserve(MODEL) as place:
            session = self.sessions.start(place, job, NOBODY)
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

    def send(self, frame: InputFrame) -> None:
        """Publishes one frame, in a segment of its own if it begins one."""
        if frame.starts_segment:
            self._segment = self.input.begin()
        self._segment.write(frame.data)

    def update(self, message: Any) -> None:
        """Sends a control message; bytes go as they are."""
        data = message if isinstance(message, bytes) else json.dumps(message).encode()
        self.control.publish(data)

    async def next_event(self, kind: str) -> dict[str, Any]:
        """Waits for the next event of a type and returns it without its envelope."""
        async with asyncio.timeout(20):
            while True:
                segment = await self.events.next_segment()
                data = await segment.read_all(1 << 20)
                if data:
                    event: dict[str, Any] = json.loads(data)["event"]
                    if event["type"] == kind:
                        return event

    async def all_events(self) -> list[dict[str, Any]]:
        """Every event until the channel ends."""
        events: list[dict[str, Any]] = []
        try:
            while True:
                data = await (await self.events.next_segment()).read_all(1 << 20)
                if data:
                    events.append(json.loads(data)["event"])
        except EndOfChannel:
            return events


class OutputReader:
    """Collects the output channel as it comes."""

    def __init__(self, gateway: Gateway) -> None:
        self._subscriber = gateway.output
        self.segments: list[bytes] = []

    async def run(self) -> None:
        """Until the channel ends."""
        try:
            while True:
                segment = await self._subscriber.next_segment()
                data = bytearray()
                while piece := await segment.read():
                    data += piece
                if data:
                    self.segments.append(bytes(data))
        except EndOfChannel:
            pass


async def stream_in_real_time(gateway: Gateway, frames: Iterable[InputFrame], fps: int) -> None:
    """Publishes frames at their rate."""
    loop = asyncio.get_running_loop()
    start_s = loop.time()
    for number, frame in enumerate(frames):
        await asyncio.sleep(start_s + number / fps - loop.time())
        gateway.send(frame)


def decoded(data: bytes) -> list[av.VideoFrame]:
    """All frames of a transport stream, by FFmpeg."""
    with av.open(io.BytesIO(data), format="mpegts") as container:
        return list(container.decode(video=0))
