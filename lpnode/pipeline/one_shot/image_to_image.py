"""Pictures from a picture and a prompt."""

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from lpnode.errors import BadParameters
from lpnode.pipeline.one_shot import model_rules
from lpnode.pipeline.one_shot.one_shot_model import OneShotModel
from lpnode.pipeline.one_shot.params import MAX_SIDE, ImageToImageParams
from lpnode.pipeline.one_shot.pictures import Picture, make_pictures, seeds_of
from lpnode.pipeline.one_shot.prompt_rows import encode_prompts
from lpnode.pipeline.one_shot.sampling import SamplingPlan, Watch

_MULTIPLE = 8


def image_to_image(
    model: OneShotModel,
    params: ImageToImageParams,
    image: NDArray[np.uint8],
    watch: Watch | None = None,
) -> list[Picture]:
    """Makes ``num_images_per_prompt`` pictures from one; blocks.

    Args:
        image: (H, W, 3) RGB. Sides that are no multiples of 8 are scaled down to the next one,
            and so are those of what is returned.
    Raises: BadParameters: another model, a LoRA that is not there, a picture that is too small or
        too large. What ``make_pictures`` raises.
    Source: ai-http.md section 7.2.
    """
    prepared = _prepared(image)
    size = (prepared.shape[-1], prepared.shape[-2])
    opened = model.load_for(params, size)
    guidance_scale = model_rules.guidance_scale(opened.model, params)
    plan = SamplingPlan(
        prompts=encode_prompts(
            opened.model, params.prompts, params.negative_prompts, is_guided=guidance_scale > 1.0
        ),
        guidance_scale=guidance_scale,
        size=size,
        seeds=seeds_of(params),
        num_steps=model_rules.num_steps(opened.model, params),
        num_steps_left=model_rules.num_steps_left(opened.model, params),
        image=prepared,
    )
    return make_pictures(model, opened, params, plan, watch or Watch())


def _prepared(image: NDArray[np.uint8]) -> torch.Tensor:
    """(1, 3, H, W) float32 in [-1, 1], of sides that are multiples of 8."""
    height, width = image.shape[:2]
    if not all(_MULTIPLE <= side <= MAX_SIDE for side in (width, height)):
        raise BadParameters(
            f"image: expected sides of {_MULTIPLE} to {MAX_SIDE} pixels, got {width}x{height}"
        )
    size = (width - width % _MULTIPLE, height - height % _MULTIPLE)
    if size != (width, height):
        image = np.array(Image.fromarray(image).resize(size, Image.Resampling.LANCZOS))
    pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1)[None]
    return (pixels.to(torch.float32) / 255.0 * 2.0 - 1.0).contiguous()
