"""Pictures equal diffusers' own, made of the same weights, prompts and random generators."""

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from picture_models import SCHEDULERS, OpenPictures, picture_model, slopes
from PIL import Image

from lpnode.model.diffusion_model import DiffusionModel, Prediction
from lpnode.pipeline.one_shot.image_to_image import image_to_image
from lpnode.pipeline.one_shot.params import ImageToImageParams, TextToImageParams
from lpnode.pipeline.one_shot.text_to_image import text_to_image

# diffusers' sigma schedulers hand tensors to NumPy in a way that it has deprecated.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

SEEDS = (7, 8, 9)
KINDS = ["small", "kl", "sdxl"]


def diffusers_pipeline(model: DiffusionModel, *, is_img2img: bool) -> Any:
    import diffusers

    scheduler = getattr(diffusers, model.scheduler_config["_class_name"]).from_config(
        dict(model.scheduler_config)
    )
    name = "StableDiffusionXL" if model.traits.pooled_width else "StableDiffusion"
    kind = getattr(diffusers, name + ("Img2ImgPipeline" if is_img2img else "Pipeline"))
    parts: dict[str, Any] = {"text_encoder": None, "tokenizer": None}
    if model.traits.pooled_width:
        parts |= {"text_encoder_2": None, "tokenizer_2": None, "add_watermarker": False}
    else:
        parts |= {"safety_checker": None, "feature_extractor": None}
        parts |= {"requires_safety_checker": False}
    pipeline = kind(vae=model.vae, unet=model.unet, scheduler=scheduler, **parts)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def diffusers_pictures(
    model: DiffusionModel, prompt: str, negative: str, **arguments: Any
) -> NDArray[np.uint8]:
    pipeline = diffusers_pipeline(model, is_img2img="image" in arguments)
    positive, other = (model.prompt_encoder.encode([text]) for text in (prompt, negative))
    embeds = {"prompt_embeds": positive.tokens, "negative_prompt_embeds": other.tokens}
    if positive.pooled is not None:
        embeds["pooled_prompt_embeds"] = positive.pooled
        embeds["negative_pooled_prompt_embeds"] = other.pooled
    made = pipeline(
        **embeds,
        **arguments,
        num_images_per_prompt=len(SEEDS),
        generator=[torch.Generator().manual_seed(seed) for seed in SEEDS],
        output_type="np",
    )
    return (made.images * 255).round().astype(np.uint8)


def assert_equal(ours: list[NDArray[np.uint8]], theirs: NDArray[np.uint8]) -> None:
    assert len(ours) == len(theirs)
    difference = np.abs(np.stack(ours).astype(int) - theirs.astype(int))
    # Float32 in another order: a value on the border between two levels may fall on either side.
    assert difference.max() <= 1
    assert (difference > 0).mean() < 0.002
    assert np.std(theirs) > 1, "flat pictures would be equal by chance"


@pytest.mark.parametrize(
    ("scheduler", "guidance"), [("lcm", 1.0), *((name, 4.0) for name in SCHEDULERS)]
)
def test_text_to_image_equals_diffusers(
    open_pictures: OpenPictures, scheduler: str, guidance: float
) -> None:
    model = picture_model("small", scheduler)
    params = TextToImageParams(
        prompt="cat",
        negative_prompt="dog",
        guidance_scale=guidance,
        num_inference_steps=4,
        num_images_per_prompt=len(SEEDS),
        seed=SEEDS[0],
        height=64,
        width=80,
    )
    ours = text_to_image(open_pictures(model).one_shot, params)
    theirs = diffusers_pictures(
        model, "cat", "dog", guidance_scale=guidance, num_inference_steps=4, height=64, width=80
    )
    assert_equal([picture.rgb for picture in ours], theirs)


@pytest.mark.parametrize(
    ("scheduler", "strength"),
    [("lcm", 1.0), ("euler", 1.0), ("ddim", 0.3), *((name, 0.6) for name in SCHEDULERS)],
)
def test_image_to_image_equals_diffusers(
    open_pictures: OpenPictures, scheduler: str, strength: float
) -> None:
    model = picture_model("small", scheduler)
    params = ImageToImageParams(
        prompt="cat",
        negative_prompt="dog",
        guidance_scale=2.0,
        strength=strength,
        num_inference_steps=5,
        num_images_per_prompt=len(SEEDS),
        seed=SEEDS[0],
    )
    ours = image_to_image(open_pictures(model).one_shot, params, slopes())
    theirs = diffusers_pictures(
        model,
        "cat",
        "dog",
        image=Image.fromarray(slopes()),
        guidance_scale=2.0,
        strength=strength,
        num_inference_steps=5,
    )
    assert_equal([picture.rgb for picture in ours], theirs)


@pytest.mark.parametrize("scheduler", ["lcm", "ddim", "euler"])
@pytest.mark.parametrize("kind", KINDS)
def test_models_that_predict_velocity_equal_diffusers(
    open_pictures: OpenPictures, kind: str, scheduler: str
) -> None:
    model = picture_model(kind, scheduler, prediction=Prediction.V)
    text = {"prompt": "cat", "num_images_per_prompt": len(SEEDS), "seed": SEEDS[0]}
    numbers = {"guidance_scale": 3.0, "num_inference_steps": 4}
    ours = text_to_image(
        open_pictures(model).one_shot,
        TextToImageParams.parse({**text, **numbers, "width": 64, "height": 64}),
    )
    theirs = diffusers_pictures(model, "cat", "", **numbers, width=64, height=64)
    assert_equal([picture.rgb for picture in ours], theirs)

    ours = image_to_image(
        open_pictures(model).one_shot,
        ImageToImageParams.parse({**text, **numbers, "strength": 0.5}),
        slopes(75, 70),
    )
    image = Image.fromarray(slopes(75, 70))
    theirs = diffusers_pictures(model, "cat", "", **numbers, strength=0.5, image=image)
    assert ours[0].rgb.shape == (64, 72, 3)
    assert_equal([picture.rgb for picture in ours], theirs)
