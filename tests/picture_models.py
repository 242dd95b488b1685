"""Small real models for pictures, and the same weights as diffusers' own pipelines run them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any

import numpy as np
import pytest
from diffusion_studio import WatchedNetworks
from numpy.typing import NDArray
from tiny_diffusion_models import SIDE, tiny_model

from lpnode.model.diffusion_model import DiffusionModel, ModelTraits, Prediction
from lpnode.pipeline.backend.networks import NetworkShapes
from lpnode.pipeline.one_shot.one_shot_model import OneShotModel
from lpnode.pipeline.one_shot.params import Loras
from lpnode.pipeline.open_model import OpenModel

_SCALED = {
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "steps_offset": 1,
}
SCHEDULERS: dict[str, dict[str, Any]] = {
    "lcm": {"_class_name": "LCMScheduler", **_SCALED},
    "ddim": {"_class_name": "DDIMScheduler", **_SCALED, "clip_sample": False},
    "euler": {"_class_name": "EulerDiscreteScheduler", **_SCALED, "timestep_spacing": "trailing"},
    "ancestral": {"_class_name": "EulerAncestralDiscreteScheduler", **_SCALED},
    "pndm": {"_class_name": "PNDMScheduler", **_SCALED, "skip_prk_steps": True},
    "heun": {"_class_name": "HeunDiscreteScheduler", **_SCALED},
}


@cache
def _networks_of(kind: str) -> DiffusionModel:
    return tiny_model({"small": "sd15", "kl": "sd15-kl", "sdxl": "sdxl"}[kind])


def picture_model(
    kind: str = "small",
    scheduler: str | Mapping[str, Any] = "lcm",
    *,
    prediction: Prediction = Prediction.EPSILON,
    is_turbo: bool = False,
    name: str = "small",
) -> DiffusionModel:
    """A model of a ``kind``, ``small``, ``kl`` or ``sdxl``; the networks are shared, read-only."""
    model = _networks_of(kind)
    config = SCHEDULERS[scheduler] if isinstance(scheduler, str) else scheduler
    return replace(
        model,
        name=name,
        traits=replace(model.traits, prediction=prediction, is_turbo=is_turbo),
        scheduler_config={**config, "prediction_type": str(prediction)},
    )


@dataclass
class Opened:
    """A model ready for requests, with what a test wants to see of it."""

    one_shot: OneShotModel
    model: DiffusionModel
    loras: list[Loras] = field(default_factory=list)
    """Of each time that the model was opened."""
    networks: WatchedNetworks = field(default_factory=WatchedNetworks)
    prepared: list[tuple[int, int]] = field(default_factory=list)
    open_error: Exception | None = None


class PreparedNetworks(WatchedNetworks):
    """Keeps the sizes that it is prepared for."""

    def __init__(self, sizes: list[tuple[int, int]]) -> None:
        super().__init__()
        self.rows = []
        self._sizes = sizes

    def prepare(self, shapes: NetworkShapes) -> None:
        self._sizes.append((shapes.width, shapes.height))


OpenPictures = Callable[..., Opened]


@pytest.fixture
def open_pictures() -> OpenPictures:
    def make(model: DiffusionModel | None = None, **given: Any) -> Opened:
        def open_model(loras: Loras, shapes: Callable[[ModelTraits], NetworkShapes]) -> OpenModel:
            if opened.open_error is not None:
                raise opened.open_error
            opened.networks = PreparedNetworks(opened.prepared)
            opened.networks.load(opened.model)
            opened.networks.prepare(shapes(opened.model.traits))
            opened.loras.append(loras)
            return OpenModel(opened.model, opened.networks)

        one_shot = OneShotModel(open_model, names=("small", "test/small"), **given)
        opened = Opened(one_shot, model or picture_model())
        return opened

    return make


def slopes(width: int = SIDE, height: int = SIDE) -> NDArray[np.uint8]:
    """Slopes and an edge in every channel, (H, W, 3)."""
    y, x = np.mgrid[0:height, 0:width]
    planes = [x * 255 // width, y * 255 // height, 255 * (x > y)]
    return np.stack(planes, axis=-1).astype(np.uint8)
