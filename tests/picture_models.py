"""Small real models for pictures, and the same weights as diffusers' own pipelines run them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from diffusion_studio import TEXT_WIDTH, LetterEncoder, WatchedNetworks, small_model
from numpy.typing import NDArray

from lpnode.model.diffusion_model import (
    DiffusionModel,
    Embedding,
    ModelFamily,
    ModelTraits,
    Prediction,
)
from lpnode.pipeline.backend.networks import NetworkShapes
from lpnode.pipeline.one_shot.one_shot_model import OneShotModel
from lpnode.pipeline.one_shot.params import Loras
from lpnode.pipeline.open_model import OpenModel

SIDE = 64

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


class TwoEncoders(LetterEncoder):
    """SDXL's kind: the tokens of two encoders side by side, and the second's pooled embedding."""

    def encode(self, texts: Sequence[str]) -> Embedding:
        first = super().encode(texts).tokens
        second = first.flip(-1) * 0.5
        return Embedding(torch.cat([first, second], dim=-1), second.sum(1))


@cache
def _networks_of(kind: str) -> DiffusionModel:
    if kind != "sdxl":
        return small_model(is_tiny_vae=kind != "kl")
    from diffusers import UNet2DConditionModel

    small = small_model()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        unet = UNet2DConditionModel(
            sample_size=SIDE // 8,
            block_out_channels=(8, 16),
            layers_per_block=1,
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
            cross_attention_dim=2 * TEXT_WIDTH,
            attention_head_dim=8,
            norm_num_groups=4,
            addition_embed_type="text_time",
            addition_time_embed_dim=8,
            projection_class_embeddings_input_dim=6 * 8 + TEXT_WIDTH,
        )
    return replace(
        small,
        traits=replace(
            small.traits,
            family=ModelFamily.SDXL,
            text_width=2 * TEXT_WIDTH,
            pooled_width=TEXT_WIDTH,
        ),
        unet=unet.eval().requires_grad_(False),
        prompt_encoder=TwoEncoders(),
    )


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
