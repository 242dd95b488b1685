"""A gateway's side of one live job, with every byte in the hands of the test."""

import asyncio
import contextlib
import io
import json
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
from end_to_end.whole_node import until
from live_input import InputFrame, h264_input

from lpnode.errors import ChannelError, PeerGone
from lpnode.gateway.discover import demand_for, discovery_request, get_orchestrator
from lpnode.gateway.live_client import first_cause
from lpnode.gateway.live_job import LiveJobAnswer, LiveJobRequest, start_live_job
from lpnode.media.transport_stream import AccessUnit, Codec, TransportStreamReader
from lpnode.protocol.capability import LIVE_VIDEO_TO_VIDEO
from lpnode.trickle import RemotePublisher, RemoteSegment, RemoteSubscriber

MIME = "video/MP2T"


class Job:
    """A started job. What comes back is read all the time, from the first segment on."""

    def __init__(self, answer: LiveJobAnswer, http: aiohttp.ClientSession) -> None:
        self.answer = answer
        self.http = http
        self.control = RemotePublisher(answer.control_url, MIME, http)
        self.input = RemotePublisher(answer.publish_url, MIME, http)
        self.events: list[dict[str, Any]] = []
        self.video: list[AccessUnit] = []
        self.audio: list[AccessUnit] = []
        self.received = b""
        self.has_output_ended = False
        self.have_events_ended = False
        self._segment: RemoteSegment | None = None
        self._ending: list[RemoteSegment] = []

    @property
    def pts(self) -> list[int]:
        """Presentation times of the pictures that came back, in order."""
        return [unit.pts_ticks for unit in self.video]

    async def send(self, frames: Iterable[InputFrame]) -> list[int]:
        """Publishes frames as fast as the node takes them. Returns: their times."""
        sent = []
        for frame in frames:
            if frame.starts_segment or self._segment is None:
                await self.end_segment()
                self._segment = await self.input.begin()
            await self._segment.write(frame.data)
            sent.append(frame.pts_ticks)
        return sent

    async def exchange(self, frames: Iterable[InputFrame]) -> None:
        """Publishes frames one at a time, each after the one before has come back."""
        for frame in frames:
            await self.send([frame])
            await until(lambda pts=frame.pts_ticks: pts in self.pts or self.has_output_ended)
            assert not self.has_output_ended, f"the output ended; events: {self.events}"

    async def end_segment(self) -> None:
        """Ends the input segment being written, if there is one."""
        segment, self._segment = self._segment, None
        if segment is not None:
            await segment.close()

    async def publish(self, data: bytes) -> None:
        """Publishes ``data`` as one whole input segment."""
        await self.end_segment()
        await self.input.publish(data)

    async def update(self, params: Mapping[str, Any] | bytes) -> None:
        """Sends a control message."""
        body = params if isinstance(params, bytes) else json.dumps(params).encode()
        await self.control.publish(body)

    async def post(self, url: str, seq: int, body: bytes) -> int:
        """Sends one whole segment of a channel past the publishers. Returns: the status."""
        async with self.http.post(f"{url}/{seq}", data=io.BytesIO(body)) as response:
            return response.status

    async def delete(self, url: str) -> None:
        """Closes a channel as a gateway does."""
        async with self.http.delete(url) as response:
            assert response.status == 200

    async def event(self, kind: str) -> dict[str, Any]:
        """Waits for an event of this type; the first there is."""
        await until(lambda: self.events_of(kind))
        return self.events_of(kind)[0]

    def events_of(self, kind: str) -> list[dict[str, Any]]:
        """All events of a type so far."""
        return [event for event in self.events if event["type"] == kind]

    async def ended(self) -> None:
        """Waits until the node has closed output and events."""
        await until(lambda: self.has_output_ended and self.have_events_ended)

    async def stop(self) -> None:
        """Ends input and control as a gateway does, and waits for the rest of the output."""
        with contextlib.suppress(ChannelError, PeerGone):
            await self.end_segment()
        await self.input.close()
        with contextlib.suppress(PeerGone):
            await self.control.close()  # a node that drains may be gone by now
        await self.ended()

    async def read_output(self) -> None:
        """Task: demuxes what comes back."""
        stream = TransportStreamReader()
        try:
            async with RemoteSubscriber(self.answer.subscribe_url, self.http, 0) as subscriber:
                while True:
                    segment = await subscriber.next_segment()
                    while data := await segment.read():
                        self.received += data
                        self._sort(stream.feed(data))
                    self._sort(stream.flush())
        except* (ChannelError, PeerGone):
            self.has_output_ended = True

    async def read_events(self) -> None:
        """Task: keeps the events."""
        try:
            async with RemoteSubscriber(self.answer.events_url, self.http, 0) as subscriber:
                while True:
                    segment = await subscriber.next_segment()
                    if body := await segment.read_all(1 << 20):
                        self.events.append(json.loads(body)["event"])
        except* (ChannelError, PeerGone):
            self.have_events_ended = True

    def _sort(self, units: Iterable[AccessUnit]) -> None:
        for unit in units:
            (self.video if unit.codec is Codec.H264 else self.audio).append(unit)


async def ask(
    uri: str, *, model_id: str = "noop", params: Mapping[str, Any] | None = None
) -> LiveJobAnswer:
    """GetOrchestrator and the job request, as a gateway sends them."""
    demand = demand_for(LIVE_VIDEO_TO_VIDEO, model_id)
    found = await get_orchestrator(uri, discovery_request(demand, ignore_capacity=True))
    return await start_live_job(
        found.info, demand, LiveJobRequest(model_id=model_id, params=params)
    )


class Killed(Exception):
    """Raised inside ``live_job`` to break all its connections at once, as a dying gateway does."""


@asynccontextmanager
async def live_job(
    uri: str, *, model_id: str = "noop", params: Mapping[str, Any] | None = None
) -> AsyncIterator[Job]:
    """Starts a job. Leaving the block ends the open requests and deletes no channel."""
    answer = await ask(uri, model_id=model_id, params=params)
    connector = aiohttp.TCPConnector(ssl=False, limit=0)
    try:
        async with (
            aiohttp.ClientSession(connector=connector, auto_decompress=False) as http,
            asyncio.TaskGroup() as tasks,
        ):
            job = Job(answer, http)
            reading = [
                tasks.create_task(job.read_output(), name="peer output"),
                tasks.create_task(job.read_events(), name="peer events"),
            ]
            async with job.control, job.input:
                yield job
            for task in reading:
                task.cancel()
    except BaseExceptionGroup as group:
        cause = first_cause(group)
        if not isinstance(cause, Killed):
            raise cause from None


async def run_good_session(uri: str, num_frames: int = 5) -> None:
    """What must work after anything: a job from its start to its end, each frame coming back."""
    async with live_job(uri) as job:
        frames = list(h264_input(num_frames, width=320, height=240))
        await job.exchange(frames)
        await job.stop()
    assert job.pts == [frame.pts_ticks for frame in frames]
    assert not job.events_of("error")
