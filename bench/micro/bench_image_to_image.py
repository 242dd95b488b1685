"""How many pictures a second does image-to-image make, against diffusers' own pipeline?

The shipped model, 128x128, two of four steps, float32, every core: the same prompt, picture and
seeds on both sides, and equal pictures. One picture a call, and four in one. Ours by the backend
that a node chooses, and by eager torch alone. Both sides encode the prompt in every call.
"""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from pytest_benchmark.fixture import BenchmarkFixture

from lpnode.model.place import SHIPPED_FOLDER, SHIPPED_MODEL, find_model
from lpnode.pipeline.one_shot.image_to_image import image_to_image
from lpnode.pipeline.one_shot.one_shot_model import OneShotModel
from lpnode.pipeline.one_shot.params import ImageToImageParams
from lpnode.pipeline.open_model import DiffusionConfig, ModelOpener

SIDE, SEED = 128, 7
PROMPT = "a red circle"
SAMPLING = {"strength": 0.5, "num_inference_steps": 4, "guidance_scale": 1.0}

ALL_THREADS = torch.get_num_threads()
"""A backend that is not torch's leaves torch but one."""

Redraw = Callable[[NDArray[np.uint8], int], NDArray[np.uint8]]
"""(H, W, 3) picture and how many to make → (N, H, W, 3)."""


@pytest.fixture(scope="module", params=["auto", "torch"])
def ours(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Redraw]:
    folder = tmp_path_factory.mktemp("engines")
    opener = ModelOpener(
        place=find_model(SHIPPED_MODEL, folder),
        config=DiffusionConfig(models_dir=folder, engines_dir=folder, backend=request.param),
        device="cpu",
    )
    model = OneShotModel(
        lambda loras, shapes: opener.open(shapes, is_for_frames=False), names=(SHIPPED_MODEL,)
    )
    torch.set_num_threads(ALL_THREADS)
    model.load(size_of=lambda _: (SIDE, SIDE))
    own_threads = torch.get_num_threads()

    def redraw(picture: NDArray[np.uint8], count: int) -> NDArray[np.uint8]:
        if torch.get_num_threads() != own_threads:
            torch.set_num_threads(own_threads)
        own = {"num_images_per_prompt": count, "seed": SEED, "safety_check": False}
        params = ImageToImageParams.parse({"prompt": PROMPT, **own, **SAMPLING})
        return np.stack([made.rgb for made in image_to_image(model, params, picture)])

    yield redraw
    model.unload()


@pytest.fixture(scope="module")
def diffusers_own() -> Redraw:
    from diffusers import StableDiffusionImg2ImgPipeline

    pipeline: Any = StableDiffusionImg2ImgPipeline.from_pretrained(
        SHIPPED_FOLDER, dtype=torch.float32, local_files_only=True
    )
    pipeline.set_progress_bar_config(disable=True)

    def redraw(picture: NDArray[np.uint8], count: int) -> NDArray[np.uint8]:
        if torch.get_num_threads() != ALL_THREADS:
            torch.set_num_threads(ALL_THREADS)
        made = pipeline(
            prompt=PROMPT,
            image=Image.fromarray(picture),
            num_images_per_prompt=count,
            generator=[torch.Generator().manual_seed(SEED + index) for index in range(count)],
            output_type="pil",
            **SAMPLING,
        )
        return np.stack([np.asarray(image) for image in made.images])

    return redraw


def scene() -> NDArray[np.uint8]:
    """A green square before a slope."""
    y, x = np.mgrid[0:SIDE, 0:SIDE]
    picture = np.stack([x, y, np.full_like(x, 160)], axis=-1).astype(np.uint8)
    picture[40:90, 30:80] = (30, 170, 60)
    return picture


@pytest.mark.benchmark(group="redraw a 128x128 picture, two steps", warmup=True)
@pytest.mark.parametrize("count", [1, 4])
def bench_ours(
    benchmark: BenchmarkFixture, ours: Redraw, diffusers_own: Redraw, count: int
) -> None:
    picture = scene()
    made = benchmark(ours, picture, count)
    benchmark.extra_info["pictures"] = count
    difference = np.abs(made.astype(int) - diffusers_own(picture, count))
    # Float32 in another order: a value between two levels may fall on either side.
    assert difference.max() <= 2
    assert difference.mean() < 0.02


@pytest.mark.benchmark(group="redraw a 128x128 picture, two steps", warmup=True)
@pytest.mark.parametrize("count", [1, 4])
def bench_diffusers(benchmark: BenchmarkFixture, diffusers_own: Redraw, count: int) -> None:
    made = benchmark(diffusers_own, scene(), count)
    benchmark.extra_info["pictures"] = count
    assert made.shape == (count, SIDE, SIDE, 3)
