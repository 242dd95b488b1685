"""What the demo shows with each model: parameters to begin with, and others half-way."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class DemoModel:
    """One model's show."""

    model_id: str
    before: Mapping[str, Any]
    after: Mapping[str, Any]

    def node_words(self) -> tuple[str, ...]:
        """Settings of ``lpnode serve`` for a node that has the model in memory from the start."""
        return ("-aiModels", f"live-video-to-video:{self.model_id}:true")


DEMO_MODELS: Mapping[str, DemoModel] = {
    model.model_id: model
    for model in (
        DemoModel(
            "lpnode/shapes",
            {"prompt": "a red circle on a blue background", "max_framerate": 60},
            {"prompt": "a yellow star on a green background", "max_framerate": 60},
        ),
        DemoModel(
            "edge-style",
            {"levels": 5, "max_framerate": 60},
            {
                "levels": 3,
                "tint": [1.0, 0.72, 0.35],
                "ink": [0.35, 0.0, 0.3],
                "max_framerate": 60,
            },
        ),
    )
}
