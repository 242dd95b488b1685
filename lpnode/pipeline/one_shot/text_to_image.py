"""Pictures from a prompt."""

from lpnode.pipeline.one_shot import model_rules
from lpnode.pipeline.one_shot.one_shot_model import OneShotModel
from lpnode.pipeline.one_shot.params import TextToImageParams
from lpnode.pipeline.one_shot.pictures import Picture, make_pictures, seeds_of
from lpnode.pipeline.one_shot.prompt_rows import encode_prompts
from lpnode.pipeline.one_shot.sampling import SamplingPlan, Watch


def text_to_image(
    model: OneShotModel, params: TextToImageParams, watch: Watch | None = None
) -> list[Picture]:
    """Makes ``num_images_per_prompt`` pictures of (height, width) pixels; blocks.

    Raises: BadParameters: another model, a LoRA that is not there, too many prompts.
        What ``make_pictures`` raises.
    Source: ai-http.md section 7.1.
    """
    size = (params.width, params.height)
    opened = model.load_for(params, size)
    guidance_scale = model_rules.guidance_scale(opened.model, params)
    num_steps = model_rules.num_steps(opened.model, params)
    plan = SamplingPlan(
        prompts=encode_prompts(
            opened.model, params.prompts, params.negative_prompts, is_guided=guidance_scale > 1.0
        ),
        guidance_scale=guidance_scale,
        size=size,
        seeds=seeds_of(params),
        num_steps=num_steps,
        num_steps_left=num_steps,
    )
    return make_pictures(model, opened, params, plan, watch or Watch())
