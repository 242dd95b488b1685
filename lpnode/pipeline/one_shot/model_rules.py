"""What the model has a say in: guidance, steps and strength that it was not trained for."""

import re
from typing import Any

from lpnode.model.diffusion_model import DiffusionModel
from lpnode.pipeline.one_shot.params import ImageToImageParams, PictureParams

_LIGHTNING = "SDXL-Lightning"
_LIGHTNING_STEPS = re.compile(r"([248])step")


def scheduler_class(model: DiffusionModel) -> str:
    """The name of the diffusers class that the model was trained with; empty if it names none."""
    return str(model.scheduler_config.get("_class_name", ""))


def default_num_steps(model: DiffusionModel) -> int:
    """As many steps as the model is made for. Source: ai-http.md section 7.1."""
    if _is_lightning(model):
        named = _LIGHTNING_STEPS.search(model.name)
        return int(named.group(1)) if named else 8
    if model.traits.is_turbo:
        return 1
    return 4 if scheduler_class(model) == "LCMScheduler" else 50


def default_values(model: DiffusionModel) -> dict[str, Any]:
    """Parameters that suit a model better than the contract's defaults, which are for SDXL."""
    values: dict[str, Any] = {
        "num_inference_steps": default_num_steps(model),
        "width": model.traits.native_size,
        "height": model.traits.native_size,
    }
    if scheduler_class(model) == "LCMScheduler":
        # Guidance was distilled into the weights.
        values["guidance_scale"] = 1.0
    return values


def num_steps(model: DiffusionModel, params: PictureParams) -> int:
    """How many steps are made, before strength takes its share.

    SDXL-Lightning is trained for one number of steps only. Source: ai-http.md section 7.1.
    """
    if params.num_inference_steps < 1 or _is_lightning(model):
        return default_num_steps(model)
    return params.num_inference_steps


def guidance_scale(model: DiffusionModel, params: PictureParams) -> float:
    """The guidance in force: none for models that were trained without.

    Source: ai-http.md sections 7.1 and 7.2.
    """
    return 0.0 if model.traits.is_turbo or _is_lightning(model) else params.guidance_scale


def num_steps_left(model: DiffusionModel, params: ImageToImageParams) -> int:
    """How many of the steps, the last ones, are made on a picture.

    At least one with a turbo model, which would else do nothing at its single step.

    Source: ai-http.md section 7.2; diffusers' StableDiffusionImg2ImgPipeline.get_timesteps.
    """
    steps = num_steps(model, params)
    left = min(int(steps * params.strength), steps)
    return max(1, left) if model.traits.is_turbo else left


def _is_lightning(model: DiffusionModel) -> bool:
    return _LIGHTNING in model.name
