"""Prometheus metrics of one node, under the names gateways' operators know.

Source: discovery.md section 9 (``livepeer_*``); ``lpnode_*`` are this node's own.
"""

import platform
from collections.abc import Callable, Iterator

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    generate_latest,
)
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

STAGE_SECONDS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)

EXPOSITION_CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class LivepeerMetric(Collector):
    """A gauge or counter with the reference's bare name and the node's labels on each sample.

    The client library cannot write these itself: it puts ``_total`` behind every counter and has
    no constant labels.
    """

    def __init__(
        self,
        name: str,
        kind: str,
        text: str,
        labels: tuple[str, ...],
        constant: dict[str, str],
        registry: CollectorRegistry,
    ) -> None:
        self.name = name
        self.kind = kind
        self._text = text
        self._labels = labels
        self._constant = constant
        self._values: dict[tuple[str, ...], float] = {}
        registry.register(self)

    def set(self, value: float, **labels: str) -> None:
        """Sets the sample with these labels; every label of the metric must be given."""
        self._values[self._key(labels)] = value

    def increase(self, amount: float = 1, **labels: str) -> None:
        """Adds to the sample with these labels, which starts at 0."""
        key = self._key(labels)
        self._values[key] = self._values.get(key, 0) + amount

    def clear(self) -> None:
        """Removes every sample."""
        self._values.clear()

    def collect(self) -> Iterator[Metric]:
        """Called by the registry at each scrape."""
        metric = Metric(self.name, self._text, self.kind)
        for key, value in self._values.items():
            labels = dict(zip(self._labels, key, strict=True))
            metric.add_sample(self.name, self._constant | labels, value)
        yield metric

    def _key(self, labels: dict[str, str]) -> tuple[str, ...]:
        if labels.keys() != set(self._labels):
            raise ValueError(f"{self.name} has the labels {self._labels}, got {sorted(labels)}")
        return tuple(labels[name] for name in self._labels)


class Metrics:
    """Every metric the node keeps, in a registry of its own.

    ``node_id`` and ``node_type`` are put on each ``livepeer_*`` sample.
    """

    def __init__(self, *, node_id: str, node_type: str = "orch") -> None:
        self.registry = CollectorRegistry()
        self._at_scrape: list[Callable[[], None]] = []
        self._bare_counters: list[str] = []
        self._constant = {"node_id": node_id, "node_type": node_type}
        ProcessCollector(registry=self.registry)
        self.stage_seconds = Histogram(
            "lpnode_stage_seconds",
            "Time one frame spends in a stage of a live session",
            ["stage"],
            buckets=STAGE_SECONDS,
            registry=self.registry,
        )
        self.frames = Counter(
            "lpnode_frames",
            "Frames by what became of them: skipped, decoded, capped, superseded, repeated, sent",
            ["fate"],
            registry=self.registry,
        )
        self.live_sessions = Gauge(
            "lpnode_live_sessions", "Live sessions running now", registry=self.registry
        )
        self.trickle_channels = Gauge(
            "lpnode_trickle_channels", "Open trickle channels", registry=self.registry
        )
        self.asyncio_tasks = Gauge(
            "lpnode_asyncio_tasks", "Tasks of the event loop", registry=self.registry
        )
        model = ("pipeline", "model_name")
        container = (*model, "orchestrator_uri")
        self.versions = LivepeerMetric(
            "livepeer_versions",
            "gauge",
            "Software of the node",
            ("compiler", "goos", "goversion", "livepeerversion"),
            {"node_type": node_type},
            self.registry,
        )
        self.ai_models_requested = self.counter(
            "ai_models_requested", "Processed AI jobs and live sessions", model
        )
        self.ai_request_latency_score = self.gauge(
            "ai_request_latency_score", "Seconds per unit of work of the last job", model
        )
        self.ai_request_price = self.gauge(
            "ai_request_price", "Wei per unit of the last job", model
        )
        self.ai_request_errors = self.counter(
            "ai_request_errors", "Failed AI jobs", ("error_code", *model, "sender")
        )
        self.ai_container_in_use = self.gauge(
            "ai_container_in_use", "Slots taken by jobs and sessions", container
        )
        self.ai_container_idle = self.gauge("ai_container_idle", "Free slots", container)
        self.ai_gpus_idle = self.gauge("ai_gpus_idle", "GPUs without a model", model)
        self.max_sessions_total = self.gauge("max_sessions_total", "Transcoding sessions allowed")
        self.current_sessions_total = self.gauge(
            "current_sessions_total", "Transcoding sessions running"
        )
        for name in ("transcoders_number", "transcoders_capacity", "transcoders_load"):
            self.gauge(name, "Always 0: this node does not transcode").set(0)
        self.current_sessions_total.set(0)

    def describe_node(self, *, version: str, max_sessions: int) -> None:
        """Sets what is fixed for the life of the node."""
        self.versions.set(
            1,
            compiler=platform.python_implementation(),
            goos=platform.system().lower(),
            goversion=f"python{platform.python_version()}",
            livepeerversion=version,
        )
        self.max_sessions_total.set(max_sessions)

    def at_scrape(self, refresh: Callable[[], None]) -> None:
        """Calls ``refresh`` before each exposition, to set gauges whose value lives elsewhere."""
        self._at_scrape.append(refresh)

    def exposition(self) -> bytes:
        """The text format that Prometheus scrapes."""
        for refresh in self._at_scrape:
            refresh()
        text = generate_latest(self.registry)
        for name in self._bare_counters:
            for comment in ("HELP", "TYPE"):
                text = text.replace(
                    f"# {comment} {name}_total ".encode(), f"# {comment} {name} ".encode()
                )
        return text

    def gauge(self, name: str, text: str, labels: tuple[str, ...] = ()) -> LivepeerMetric:
        """Adds the gauge ``livepeer_<name>``."""
        return LivepeerMetric(
            f"livepeer_{name}", "gauge", text, labels, self._constant, self.registry
        )

    def counter(self, name: str, text: str, labels: tuple[str, ...] = ()) -> LivepeerMetric:
        """Adds the counter ``livepeer_<name>``, which goes out under exactly this name."""
        full_name = f"livepeer_{name}"
        self._bare_counters.append(full_name)
        return LivepeerMetric(full_name, "counter", text, labels, self._constant, self.registry)
