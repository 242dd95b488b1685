"""The gateway's end of a running live-video-to-video job: its four channels.

Source: live.md sections 3, 5, 6 and 11; trickle.md sections 19.1 and 19.2.
"""

import asyncio
import json
import logging
import ssl
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import aiohttp

from lpnode.errors import (
    ChannelError,
    ConfigError,
    EndOfChannel,
    LpnodeError,
    NoSuchChannel,
    PeerGone,
    ProtocolError,
    first_cause,
)
from lpnode.gateway.live_job import LiveJobAnswer
from lpnode.gateway.segment_writer import SegmentPiece
from lpnode.session.mailbox import LosslessMailbox
from lpnode.trickle.remote import RemotePublisher, RemoteSegment, RemoteSubscriber

_log = logging.getLogger(__name__)

_MAX_EVENT_BYTES = 1 << 20
# Gateways label whatever they publish so.
_MIME = "video/MP2T"


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveClientConfig:
    """How patient a gateway is. Source: live.md section 11.1; trickle.md section 19.1."""

    keep_alive_s: float = 10.0
    event_gap_s: float = 30.0
    """Longest time without an event, looked at every ``keep_alive_s``."""
    max_in_flight: int = 3
    """Input segments begun and not yet answered."""
    max_failed_segments: int = 7
    last_words_s: float = 1.0
    """How long the node's events may take to end once it has closed another channel: they say why.
    """
    drain_s: float = 5.0
    """How long output may take to end after the input did; a gateway does not wait at all."""

    def __post_init__(self) -> None:
        times = (self.keep_alive_s, self.event_gap_s, self.last_words_s, self.drain_s)
        if min(times) <= 0 or self.max_in_flight < 1:
            raise ConfigError(f"times and max_in_flight must be positive, got {self}")


class LiveClient:
    """Publishes the input, reads output and events, and keeps control alive, until the input ends.

    Like a gateway it takes a closed output or control channel, more than three input segments in
    flight, and 30 s without an event for the node's failure.
    """

    def __init__(
        self,
        job: LiveJobAnswer,
        *,
        pieces: LosslessMailbox[SegmentPiece],
        on_output: Callable[[bytes], Awaitable[None]],
        on_event: Callable[[Mapping[str, Any]], None],
        config: LiveClientConfig | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """``pieces`` ends the job when it is closed; ``on_output`` gets the bytes as they come."""
        self._config = config or LiveClientConfig()
        self._job = job
        self._pieces = pieces
        self._on_output = on_output
        self._on_event = on_event
        self._clock = clock
        self._control: RemotePublisher
        self._not_yet_listening = {job.subscribe_url, job.events_url}
        self._is_listening = asyncio.Event()
        self._is_running = asyncio.Event()
        self._is_ending = False
        self._events_ended = asyncio.Event()
        self._last_event_at = clock()
        self._in_flight = 0
        self.num_segments_sent = 0
        self.num_segments_failed = 0
        self.num_segments_received = 0

    async def run(self) -> None:
        """Runs until everything sent has come back, or the node gave up.

        Raises: PeerGone, ProtocolError: what a gateway would swap the node for.
        """
        try:
            async with self._trickle_http() as http, asyncio.TaskGroup() as tasks:
                self._control = RemotePublisher(self._job.control_url, _MIME, http)
                await self._run_channels(http, tasks)
        except BaseExceptionGroup as group:
            raise first_cause(group) from group

    async def update(self, params: Mapping[str, Any]) -> None:
        """Replaces all parameters of the pipeline. Call it while ``run`` runs.

        Raises: ChannelError, PeerGone: the node does not take it.
        """
        await self._is_running.wait()
        await self._control.publish(json.dumps(params, separators=(",", ":")).encode())

    async def _run_channels(self, http: aiohttp.ClientSession, tasks: asyncio.TaskGroup) -> None:
        async with self._control:
            self._is_running.set()
            keep_alive = tasks.create_task(self._keep_alive(), name="gateway control")
            watch = tasks.create_task(self._watch_events(), name="gateway event gap")
            output = tasks.create_task(self._receive_output(http), name="gateway output")
            events = tasks.create_task(self._receive_events(http), name="gateway events")
            await self._publish(http, tasks)
            keep_alive.cancel()
            watch.cancel()
            # The input is gone: the node sends what it still has and closes both channels.
            _, unfinished = await asyncio.wait((output, events), timeout=self._config.drain_s)
            for task in unfinished:
                _log.warning(
                    "%s: open %g s after the input ended", task.get_name(), self._config.drain_s
                )
                task.cancel()
            await self._close(self._control)

    async def _publish(self, http: aiohttp.ClientSession, tasks: asyncio.TaskGroup) -> None:
        publisher = RemotePublisher(self._job.publish_url, _MIME, http)
        segment: RemoteSegment | None = None
        async with publisher:
            # Readers begin with the next segment: they ask before there is a first one.
            await self._is_listening.wait()
            async for piece in self._pieces:
                if piece.begins_segment:
                    if segment is not None:
                        tasks.create_task(self._end_segment(segment), name="gateway segment end")
                    segment = await self._begin_segment(publisher)
                # None: the rest of a segment that failed is dropped.
                if segment is not None and not await self._write(publisher, segment, piece.data):
                    segment = None
            if segment is not None:
                await self._end_segment(segment)
            self._is_ending = True
            await self._close(publisher)

    async def _begin_segment(self, publisher: RemotePublisher) -> RemoteSegment:
        if self._in_flight >= self._config.max_in_flight:
            raise PeerGone(f"orchestrator is slow: {self._in_flight} segments are unanswered")
        try:
            segment = await publisher.begin()
        except ChannelError as error:
            raise await self._closed("input", error) from error
        self._in_flight += 1
        return segment

    async def _write(self, publisher: RemotePublisher, segment: RemoteSegment, data: bytes) -> bool:
        try:
            await segment.write(data)
        except (EndOfChannel, NoSuchChannel) as error:
            raise await self._closed("input", error) from error
        except (ChannelError, PeerGone) as error:
            self._count_failure(segment, error)
            await publisher.disown(segment)
            return False
        return True

    async def _end_segment(self, segment: RemoteSegment) -> None:
        try:
            await segment.close()
        except (EndOfChannel, NoSuchChannel) as error:
            raise await self._closed("input", error) from error
        except (ChannelError, PeerGone) as error:
            self._count_failure(segment, error)
        else:
            self._in_flight -= 1
            self.num_segments_sent += 1

    def _count_failure(self, segment: RemoteSegment, error: LpnodeError) -> None:
        _log.warning("input segment %d is dropped: %s", segment.seq, error)
        self._in_flight -= 1
        self.num_segments_failed += 1
        if self.num_segments_failed > self._config.max_failed_segments:
            raise PeerGone(f"{self.num_segments_failed} input segments failed: {error}") from error

    async def _receive_output(self, http: aiohttp.ClientSession) -> None:
        try:
            async with RemoteSubscriber(self._job.subscribe_url, http) as subscriber:
                while True:
                    segment = await subscriber.next_segment()
                    try:
                        while data := await segment.read():
                            await self._on_output(data)
                    except PeerGone as broken:
                        # The rest of it is lost; the next one may still come.
                        _log.warning("output segment %d broke off: %s", segment.seq, broken)
                    else:
                        self.num_segments_received += 1
        except BaseExceptionGroup as group:
            error = first_cause(group)
            if not isinstance(error, ChannelError):
                raise error from group
            if not self._is_ending:
                raise await self._closed("output", error) from error

    async def _closed(self, channel: str, error: ChannelError) -> PeerGone:
        try:
            async with asyncio.timeout(self._config.last_words_s):
                await self._events_ended.wait()
        except TimeoutError:
            _log.debug("the node closed the %s channel and goes on with its events", channel)
        return PeerGone(f"the node closed the {channel} channel: {error}")

    async def _receive_events(self, http: aiohttp.ClientSession) -> None:
        try:
            async with RemoteSubscriber(self._job.events_url, http) as subscriber:
                while True:
                    segment = await subscriber.next_segment()
                    if body := await segment.read_all(_MAX_EVENT_BYTES):
                        self._last_event_at = self._clock()
                        self._on_event(_event(body))
        except BaseExceptionGroup as group:
            error = first_cause(group)
            if not isinstance(error, ChannelError):
                raise error from group
            # Like a gateway: the end of the events alone is no failure; a gap before it is.
            self._events_ended.set()
            _log.debug("events ended: %s", error)

    async def _watch_events(self) -> None:
        while not self._events_ended.is_set():
            await asyncio.sleep(self._config.keep_alive_s)
            if self._events_ended.is_set():
                return
            if self._clock() - self._last_event_at > self._config.event_gap_s:
                raise PeerGone(f"no event from the node for {self._config.event_gap_s:g} s")

    async def _keep_alive(self) -> None:
        while True:
            await asyncio.sleep(self._config.keep_alive_s)
            try:
                await self.update({"keep": "alive"})
            except (EndOfChannel, NoSuchChannel) as error:
                raise await self._closed("control", error) from error
            except (ChannelError, PeerGone) as error:
                _log.warning("a keep-alive did not arrive: %s", error)

    def _trickle_http(self) -> aiohttp.ClientSession:
        async def request_sent(
            session: aiohttp.ClientSession,
            context: SimpleNamespace,
            request: aiohttp.TraceRequestHeadersSentParams,
        ) -> None:
            self._not_yet_listening.discard(str(request.url.parent))
            if not self._not_yet_listening:
                self._is_listening.set()

        trace = aiohttp.TraceConfig()
        trace.on_request_headers_sent.append(request_sent)
        return aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(ssl=_without_alpn(), limit=0),
            auto_decompress=False,
            trace_configs=[trace],
        )

    async def _close(self, publisher: RemotePublisher) -> None:
        try:
            await publisher.close()
        except (ChannelError, PeerGone) as error:
            _log.debug("a channel was not deleted: %s", error)


def _without_alpn() -> ssl.SSLContext:
    # Gateways' trickle client offers no ALPN, so speaks HTTP/1.1, and verifies no certificate.
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def _event(body: bytes) -> Mapping[str, Any]:
    try:
        document = json.loads(body)
    except ValueError as error:
        raise ProtocolError(f"an event is not JSON: {body[:200]!r}") from error
    # Without an envelope the whole body is the event.
    event = document.get("event", document) if isinstance(document, dict) else document
    if not isinstance(event, dict):
        raise ProtocolError(f"an event is not a JSON object: {body[:200]!r}")
    return event
