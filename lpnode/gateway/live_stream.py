"""One live stream through a node from discovery to the last frame, as a gateway runs it."""

import asyncio
import secrets
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, BinaryIO

from lpnode.errors import (
    DiscoveryRefused,
    LpnodeError,
    NoCapacity,
    NotCapable,
    PaymentRequired,
    first_cause,
)
from lpnode.gateway.amounts import price_text
from lpnode.gateway.discover import (
    Discovered,
    demand_for,
    discovery_request,
    get_orchestrator,
    is_unsigned,
)
from lpnode.gateway.latency import LatencyMeter
from lpnode.gateway.live_client import LiveClient, LiveClientConfig
from lpnode.gateway.live_job import LiveJobRequest, start_live_job
from lpnode.gateway.live_payment import LivePayer, LivePayment
from lpnode.gateway.media_input import MediaInput, feed
from lpnode.gateway.output_reader import OutputReader, ReadKey
from lpnode.gateway.segment_writer import SegmentPiece
from lpnode.gateway.ticket_terms import price_of
from lpnode.media.frame import Frame
from lpnode.protocol import lp_rpc_pb2 as pb
from lpnode.protocol.capability import LIVE_VIDEO_TO_VIDEO, meets
from lpnode.session.mailbox import LosslessMailbox

_QUEUED_PIECES = 120
_MAX_ERRORS_KEPT = 20


@dataclass(frozen=True, slots=True)
class Update:
    """All parameters of the pipeline, to be replaced ``at_s`` after the start."""

    at_s: float
    params: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamPlan:
    """Where to stream, through which model, with which parameters."""

    uri: str
    model_id: str
    params: Mapping[str, Any] | None = None
    updates: Sequence[Update] = ()


@dataclass(slots=True)
class StreamEvents:
    """What the node said about itself."""

    by_type: Counter[str] = field(default_factory=Counter)
    state: str = ""
    errors: list[str] = field(default_factory=list)

    def take(self, event: Mapping[str, Any]) -> None:
        """Counts one event and keeps what it says about state and errors."""
        kind = str(event.get("type", "untyped"))
        self.by_type[kind] += 1
        if kind == "status":
            self.state = str(event.get("state", ""))
        if kind == "error" and len(self.errors) < _MAX_ERRORS_KEPT:
            self.errors.append(str(event.get("message", "")))


class LiveStream:
    """Runs a plan once. Its attributes may be read while it runs, to show progress."""

    def __init__(
        self,
        plan: StreamPlan,
        media: MediaInput,
        *,
        read_key: ReadKey,
        file: BinaryIO | None = None,
        on_frame: Callable[[int, Frame], None] | None = None,
        on_event: Callable[[Mapping[str, Any]], None] | None = None,
        payer: LivePayer | None = None,
        config: LiveClientConfig | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """``read_key`` recognises frames that come back; ``file`` gets the bytes of the output.

        ``payer``: pays if the node asks a price; None: for nodes that do not.
        """
        self._plan = plan
        self._media = media
        self._config = config
        self._clock = clock
        self._on_event = on_event
        self._payer = payer
        self._stopping = asyncio.Event()
        self.meter = LatencyMeter(clock)
        self.output = OutputReader(
            self.meter, read_key=read_key, file=file, on_frame=on_frame, clock=clock
        )
        self.events = StreamEvents()
        self.discovered: Discovered | None = None
        self.client: LiveClient | None = None
        self.payment: LivePayment | None = None
        """What is paid, and for which price; None where the work is free."""
        self.manifest_id = ""
        self.start_s = 0.0
        """How long the node took to accept the job."""
        self.started_at = 0.0
        """When it had accepted it, on the clock."""
        self.num_updates = 0
        self.failure: LpnodeError | None = None

    @property
    def first_output_s(self) -> float | None:
        """From the acceptance of the job to the first frame back."""
        if self.output.first_frame_at is None:
            return None
        return self.output.first_frame_at - self.started_at

    def stop(self) -> None:
        """Ends the input now; ``run`` returns when the rest has come back."""
        self._stopping.set()

    async def run(self) -> None:
        """Streams until the input ends or ``stop``.

        A failure after the job was accepted is kept in ``failure``, so that what was measured
        until then can still be shown.

        Raises:
            PeerGone, ProtocolError, Refused: the job did not start.
            PaymentRequired, SpendingLimitExceeded: it was not asked for, as it costs too much.
            ChainError: what the payer owns cannot be read.
        """
        demand = demand_for(LIVE_VIDEO_TO_VIDEO, self._plan.model_id)
        info = await self._discover(demand)
        if self._payer is not None:
            self.payment = await self._payer.stream(info, demand)
        elif price := price_of(info):
            raise PaymentRequired(
                f"{self._plan.uri} asks {price_text(price)}; to pay it, give the key of an account "
                "with a deposit and a reserve: lpnode stream --pay KEYFILE"
            )
        asked_at = self._clock()
        job = await start_live_job(
            info,
            demand,
            LiveJobRequest(
                model_id=self._plan.model_id,
                params=self._plan.params,
                request_id=secrets.token_hex(4),
                stream_id=secrets.token_hex(4),
            ),
            account=None if self._payer is None else self._payer.account,
            payment=await self._first_payment(info),
        )
        self.started_at = self._clock()
        self.start_s = self.started_at - asked_at
        self.manifest_id = job.manifest_id
        if self.payment is not None:
            self.payment.begin(job.manifest_id)
        pieces: LosslessMailbox[SegmentPiece] = LosslessMailbox(_QUEUED_PIECES)
        self.client = LiveClient(
            job,
            pieces=pieces,
            on_output=self.output.write,
            on_event=self._take_event,
            config=self._config,
            clock=self._clock,
        )
        try:
            async with self.output, asyncio.TaskGroup() as tasks:
                tasks.create_task(
                    feed(self._media, pieces, self.meter, self._stopping, clock=self._clock),
                    name="stream input",
                )
                others = [tasks.create_task(self._send_updates(), name="stream updates")]
                if self.payment is not None:
                    others.append(tasks.create_task(self.payment.run(), name="stream payments"))
                await self.client.run()
                for task in others:
                    task.cancel()
        except BaseExceptionGroup as group:
            cause = first_cause(group)
            if not isinstance(cause, LpnodeError):
                raise cause from group
            self.failure = cause

    async def _discover(self, demand: pb.Capabilities) -> pb.OrchestratorInfo:
        if self._payer is None:
            request = discovery_request(demand)
        else:
            request = self._payer.discovery_request(demand)
        try:
            self.discovered = await get_orchestrator(self._plan.uri, request)
        except DiscoveryRefused as error:
            if self._payer is None and is_unsigned(error):
                raise PaymentRequired(
                    f"{self._plan.uri} is on-chain and answers signed requests only: give the key "
                    "of an account that can pay: lpnode stream --pay KEYFILE"
                ) from error
            if "OrchestratorCapped" not in str(error):
                raise
            raise NoCapacity(
                f"{self._plan.uri} has no free place for {self._plan.model_id!r}, or does not "
                "offer it; lpnode probe shows what it offers"
            ) from error
        info = self.discovered.info
        if not info.transcoder or not meets(demand, info.capabilities):
            raise NotCapable(
                f"{self._plan.uri} does not offer live-video-to-video with "
                f"{self._plan.model_id!r}; lpnode probe shows what it offers"
            )
        return info

    async def _first_payment(self, info: pb.OrchestratorInfo) -> str:
        if self.payment is not None:
            return await self.payment.prepay()
        return "" if self._payer is None else self._payer.header_without_payment(info)

    async def _send_updates(self) -> None:
        assert self.client is not None
        for update in sorted(self._plan.updates, key=lambda update: update.at_s):
            await asyncio.sleep(self.started_at + update.at_s - self._clock())
            await self.client.update(update.params)
            self.num_updates += 1

    def _take_event(self, event: Mapping[str, Any]) -> None:
        self.events.take(event)
        if self._on_event is not None:
            self._on_event(event)
