"""Prometheus metrics of one node, under the names gateways' operators know.

Source: discovery.md section 9 (``livepeer_*``); ``lpnode_*`` are this node's own.
"""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

STAGE_SECONDS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)


class Metrics:
    """Every metric the node keeps, in a registry of its own.

    ``node_id`` and ``node_type`` are put on each ``livepeer_*`` sample by ``livepeer_labels``.
    """

    def __init__(self, *, node_id: str, node_type: str = "orch") -> None:
        self.registry = CollectorRegistry()
        self.livepeer_labels = {"node_id": node_id, "node_type": node_type}
        self.stage_seconds = Histogram(
            "lpnode_stage_seconds",
            "Time one frame spends in a stage of a live session",
            ["stage"],
            buckets=STAGE_SECONDS,
            registry=self.registry,
        )
        self.frames = Counter(
            "lpnode_frames",
            "Frames by what became of them: decoded, capped, superseded, sent",
            ["fate"],
            registry=self.registry,
        )
        self.live_sessions = Gauge(
            "lpnode_live_sessions", "Live sessions running now", registry=self.registry
        )

    def exposition(self) -> bytes:
        """The text format that Prometheus scrapes."""
        return generate_latest(self.registry)
