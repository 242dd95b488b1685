"""What ``lpnode stream`` and ``lpnode demo`` say about a stream."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from lpnode.command.payment_report import PaymentReport
from lpnode.gateway.latency import LatencySummary
from lpnode.gateway.live_stream import LiveStream, StreamPlan

GLASS_TO_GLASS = "glass to glass"
SENT_TO_BACK = "sent to decoded again"

_CAP_FPS = 24

WARM_UP_S = 2.0
"""Left out of the steady figures: the first key frames, cold caches, a model that still loads."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamReport:
    """Figures of one stream. Rates in frames a second; ``None`` where nothing came back."""

    uri: str
    model_id: str
    measure: str
    """What the latencies span: ``glass to glass``, or less when frames come from a file."""
    manifest_id: str
    discovery_s: float
    start_s: float
    first_output_s: float | None
    sent: int
    returned: int
    repeated: int
    unmarked: int
    sent_fps: float
    returned_fps: float
    output_size: tuple[int, int] | None
    output_bytes: int
    segments_sent: int
    segments_received: int
    updates: int
    events: dict[str, int]
    state: str
    errors: list[str]
    latency: LatencySummary
    is_steady: bool
    payment: PaymentReport | None
    failure: str

    @property
    def is_good(self) -> bool:
        """Frames came back, and the node kept the stream to its end."""
        return self.returned > 0 and not self.failure

    def as_fields(self) -> dict[str, Any]:
        """The form of ``--json``; latencies in milliseconds, null where there are none."""
        latency = self.latency
        return {
            "uri": self.uri,
            "model_id": self.model_id,
            "manifest_id": self.manifest_id,
            "discovery_ms": _ms(self.discovery_s),
            "start_ms": _ms(self.start_s),
            "first_output_ms": _ms(self.first_output_s),
            "frames": {
                "sent": self.sent,
                "returned": self.returned,
                "repeated": self.repeated,
                "unmarked": self.unmarked,
            },
            "fps": {"sent": round(self.sent_fps, 2), "returned": round(self.returned_fps, 2)},
            "output": {
                "size": self.output_size,
                "bytes": self.output_bytes,
                "segments": self.segments_received,
            },
            "segments_sent": self.segments_sent,
            "updates": self.updates,
            "events": self.events,
            "state": self.state,
            "errors": self.errors,
            "measure": self.measure,
            "latency_ms": {
                "count": latency.count,
                "p50": _ms(latency.p50_s),
                "p95": _ms(latency.p95_s),
                "p99": _ms(latency.p99_s),
                "max": _ms(latency.max_s),
                "is_steady": self.is_steady,
            },
            "payment": None if self.payment is None else self.payment.as_fields(),
            "failure": self.failure,
        }

    def tables(self) -> RenderableType:
        """The form for people."""
        latency = self.latency
        scope = f"{latency.count} frames" + (f" after {WARM_UP_S:g} s" if self.is_steady else "")
        speed = Table(title=f"{self.model_id} at {self.uri}", title_justify="left")
        speed.add_column(self.measure, style="bold")
        for heading in ("p50", "p95", "p99", "max"):
            speed.add_column(heading, justify="right")
        values = (latency.p50_s, latency.p95_s, latency.p99_s, latency.max_s)
        speed.add_row(f"ms, {scope}", *map(_text, values))
        facts = Table.grid(padding=(0, 2))
        facts.add_column(style="bold", no_wrap=True)
        facts.add_column(overflow="fold")
        for name, value in self._facts():
            facts.add_row(Text(name), Text(value))
        return Group(speed, facts)

    def _facts(self) -> Iterator[tuple[str, str]]:
        yield "frames", f"{self.sent} sent, {self.returned} came back"
        rates = f"{self.sent_fps:.1f} fps in, {self.returned_fps:.1f} fps out"
        if self.sent_fps > _CAP_FPS + 1 and abs(self.returned_fps - _CAP_FPS) < 1:
            rates += f"; nodes keep {_CAP_FPS} unless the parameter max_framerate says otherwise"
        yield "frame rate", rates
        yield "GetOrchestrator", f"{self.discovery_s * 1000:.1f} ms"
        yield "job accepted", f"{self.start_s * 1000:.1f} ms"
        first = self.first_output_s
        yield "first frame back", "never" if first is None else f"{first * 1000:.0f} ms after that"
        if self.output_size:
            width, height = self.output_size
            yield (
                "output",
                f"{width}x{height}, {self.output_bytes / 1e6:.2f} MB, "
                f"{self.segments_received} segments",
            )
        yield (
            "events",
            ", ".join(
                f"{count} {kind.removeprefix('runner_').replace('_', ' ')}"
                for kind, count in self.events.items()
            ),
        )
        if self.state:
            yield "last state", self.state
        if self.updates:
            yield "parameter updates", str(self.updates)
        if self.unmarked:
            yield "unrecognised", f"{self.unmarked} frames (loading, or changed beyond reading)"
        if self.payment is not None:
            yield from self.payment.facts()
        for error in self.errors:
            yield "error of the node", error
        if self.failure:
            yield "failure", self.failure


def report_of(plan: StreamPlan, stream: LiveStream, measure: str = GLASS_TO_GLASS) -> StreamReport:
    """Collects the figures of a stream that has run."""
    meter, output, client = stream.meter, stream.output, stream.client
    assert stream.discovered is not None
    assert client is not None
    steady = meter.summary(since_s=WARM_UP_S)
    failure = stream.failure
    return StreamReport(
        uri=plan.uri,
        model_id=plan.model_id,
        measure=measure,
        manifest_id=stream.manifest_id,
        discovery_s=stream.discovered.latency_s,
        start_s=stream.start_s,
        first_output_s=stream.first_output_s,
        sent=meter.sent,
        returned=len(meter.returns),
        repeated=meter.repeated,
        unmarked=output.num_unmarked,
        sent_fps=meter.sent_fps(),
        returned_fps=meter.returned_fps(),
        output_size=output.size,
        output_bytes=output.num_bytes,
        segments_sent=client.num_segments_sent,
        segments_received=client.num_segments_received,
        updates=stream.num_updates,
        events=dict(stream.events.by_type),
        state=stream.events.state,
        errors=stream.events.errors,
        latency=steady if steady.count else meter.summary(),
        is_steady=bool(steady.count),
        payment=None if stream.payment is None else PaymentReport.of(stream.payment),
        failure=f"{type(failure).__name__}: {failure}" if failure is not None else "",
    )


def progress_line(stream: LiveStream) -> str:
    """One line on a stream that runs."""
    if stream.client is None:
        return "starting"
    meter = stream.meter
    recent = [frame.latency_s for frame in meter.returns[-30:]]
    latency = f"{sorted(recent)[len(recent) // 2] * 1000:.0f} ms" if recent else "no frame back yet"
    if stream.payment is not None:
        latency += f" · {stream.payment.paid.num_tickets} tickets"
    state = f" · {stream.events.state}" if stream.events.state else ""
    return (
        f"{meter.sent} frames sent · {len(meter.returns)} back at {meter.returned_fps():.1f} fps · "
        f"{latency}{state}"
    )


def _ms(seconds: float | None) -> float | None:
    return None if seconds is None or math.isnan(seconds) else round(seconds * 1000, 2)


def _text(seconds: float) -> str:
    return "" if math.isnan(seconds) else f"{seconds * 1000:.1f}"
