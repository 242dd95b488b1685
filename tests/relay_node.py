"""A node without a model: real edge, discovery and trickle; the input is relayed to the output.

What a live job does here is in the test's hands, so that a node that misbehaves can be shown too.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from lpnode.admission.ai_models import DEFAULT_AI_MODELS, slots_of
from lpnode.admission.auth_token import AuthTokens
from lpnode.admission.quote import Quote, QuoteConfig
from lpnode.edge.certificate import ensure_certificate, server_context
from lpnode.edge.exchange import Request, Response, text_response
from lpnode.edge.grpc.orchestrator import Orchestrator
from lpnode.edge.listener import Listener, ListenerConfig
from lpnode.edge.trickle.connection import TrickleConnection
from lpnode.errors import EndOfChannel
from lpnode.protocol.live_job import JSON, MPEG_TS, channel_names, encode_live_answer
from lpnode.schedule.capacity import Capacity
from lpnode.trickle import Channels, LocalPublisher, LocalSubscriber, TrickleConfig

GET_ORCHESTRATOR = "/net.Orchestrator/GetOrchestrator"
MANIFEST = "cafe"
Work = Callable[["RelayNode"], Awaitable[None]]


@dataclass
class RelayNode:
    """What the tests look at."""

    uri: str
    channels: Channels
    requests: list[Request] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    controls: list[bytes] = field(default_factory=list)


async def relay(node: RelayNode) -> None:
    """Hands the input's bytes on, segment by segment, until it ends; then closes what it wrote."""
    names = channel_names(MANIFEST)
    source = LocalSubscriber(node.channels.find(names.publish), 0)
    output = node.channels.find(names.subscribe)
    sink = LocalPublisher(output)
    # A gateway reads from the next segment on. A model takes long enough for it to have asked; this
    # node does not.
    while output.find(0) is None:  # noqa: ASYNC110 - the other end decides when
        await asyncio.sleep(0.005)
    events = LocalPublisher(node.channels.find(names.events))
    try:
        while True:
            reader = await source.next_segment()
            segment = None
            while data := await reader.read():
                segment = segment or sink.begin()
                segment.write(data)
            if segment is not None:
                segment.close()
                event = {"event": {"type": "status", "state": "ONLINE"}}
                events.publish(json.dumps(event).encode())
    except EndOfChannel:
        sink.close()
        events.close()


async def _read_controls(node: RelayNode) -> None:
    control = LocalSubscriber(node.channels.find(channel_names(MANIFEST).control), 0)
    try:
        while True:
            reader = await control.next_segment()
            if body := await reader.read_all(1 << 20):
                node.controls.append(body)
    except EndOfChannel:
        return


@asynccontextmanager
async def relay_node(
    data_dir: Path,
    *,
    work: Work = relay,
    refusal: Response | None = None,
    is_tls: bool = True,
) -> AsyncIterator[RelayNode]:
    """Runs the node on a free port of loopback; ``refusal`` answers jobs if given."""
    channels = Channels(TrickleConfig())
    node = RelayNode("", channels)
    async with asyncio.TaskGroup() as tasks:

        async def live(request: Request) -> Response:
            if request.path != "/live-video-to-video":
                return text_response(404, "404 page not found\n")
            node.requests.append(request)
            body = b""
            while data := await request.body.read():
                body += data
            node.bodies.append(body)
            if refusal is not None:
                return refusal
            names = channel_names(MANIFEST)
            for name, mime in zip(names, (MPEG_TS, MPEG_TS, JSON, JSON), strict=True):
                channels.create(name, mime)
            jobs.append(tasks.create_task(_read_controls(node), name="relay control"))
            jobs.append(tasks.create_task(_work(), name="relay work"))
            answer = encode_live_answer(MANIFEST, f"{node.uri}/ai/trickle")
            return Response(200, [("Content-Type", JSON)], answer)

        async def _work() -> None:
            await work(node)

        jobs: list[asyncio.Task[None]] = []
        capacity = Capacity(slots_of(DEFAULT_AI_MODELS))
        tokens = AuthTokens(bytes(32))
        listener = Listener(
            ListenerConfig(host="127.0.0.1", port=0),
            tls=server_context(ensure_certificate(data_dir, "127.0.0.1")) if is_tls else None,
            trickle=lambda fallback: TrickleConnection(channels, TrickleConfig(), fallback),
        )
        await listener.bind()
        node.uri = f"{'https' if is_tls else 'http'}://127.0.0.1:{listener.port}"
        quote = Quote(
            QuoteConfig(service_uri=node.uri),
            models=DEFAULT_AI_MODELS,
            capacity=capacity,
            tokens=tokens,
        )
        offer = Orchestrator(quote=quote, capacity=capacity, tokens=tokens)
        methods = {GET_ORCHESTRATOR: offer.get_orchestrator}
        serving = tasks.create_task(listener.run(live, methods), name="relay listener")
        try:
            yield node
        finally:
            channels.close_all()
            await listener.drain(1.0)
            await serving
            for job in jobs:
                job.cancel()
