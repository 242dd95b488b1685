"""The parameters of a StreamDiffusion stream, as gateways send them. Source: live.md 7.3."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from lpnode.errors import BadParameters
from lpnode.pipeline.accepts import Flag, Integer, Number
from lpnode.pipeline.params import BaseParams, parameter
from lpnode.pipeline.stream_diffusion.accepts import (
    Choice,
    LoraWeights,
    Mixture,
    SwitchedOff,
    Text,
    TimestepIndices,
    Weighted,
)
from lpnode.pipeline.stream_diffusion.blending import Interpolation
from lpnode.pipeline.stream_diffusion.guidance import GuidanceMode
from lpnode.pipeline.stream_diffusion.similarity import SimilarityConfig

_INTERPOLATION = Choice(tuple(Interpolation), Interpolation)
_SEED = Integer(0, 2**63 - 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamDiffusionParams(BaseParams):
    """One full set. Names, ranges and defaults are the live runner's; see live.md section 7.3.

    ``cfg_type`` is an addition: the guidance mode, which the live runner fixes to ``self``.
    Streams share a model, so ``model_id`` can only name the one that is served, and every kind of
    ``acceleration`` gets the backend that the operator chose. ``use_safety_checker`` and its
    threshold are accepted, as clients send them, but nobody looks at live frames in this build.
    """

    model_id: str = parameter("", Text(512))
    """Empty, or what the pipeline serves anyway."""
    prompt: Weighted = parameter((("flowers", 1.0),), Mixture(Text(), "prompt"))
    prompt_interpolation_method: Interpolation = parameter(Interpolation.SLERP, _INTERPOLATION)
    normalize_prompt_weights: bool = parameter(True, Flag())
    negative_prompt: str = parameter("blurry, low quality, flat, 2d", Text())
    cfg_type: GuidanceMode = parameter(GuidanceMode.SELF, Choice(tuple(GuidanceMode), GuidanceMode))
    guidance_scale: float = parameter(1.0, Number(-100.0, 100.0))
    delta: float = parameter(0.7, Number(-100.0, 100.0))
    num_inference_steps: int = parameter(50, Integer(1, 100))
    t_index_list: tuple[int, ...] = parameter((12, 20, 32), TimestepIndices())
    lora_dict: tuple[tuple[str, float], ...] = parameter((), LoraWeights())
    use_lcm_lora: bool = parameter(True, Flag())
    lcm_lora_id: str = parameter("latent-consistency/lcm-lora-sdv1-5", Text(512))
    acceleration: str = parameter("tensorrt", Choice(("none", "xformers", "tensorrt")))
    use_safety_checker: bool = parameter(True, Flag())
    safety_checker_threshold: float = parameter(0.5, Number(0.0, 1.0))
    use_denoising_batch: bool = parameter(True, Flag())
    do_add_noise: bool = parameter(True, Flag())
    skip_diffusion: bool = parameter(False, Flag())
    seed: Weighted = parameter(((789, 1.0),), Mixture(_SEED, "seed"))
    seed_interpolation_method: Interpolation = parameter(Interpolation.LINEAR, _INTERPOLATION)
    normalize_seed_weights: bool = parameter(True, Flag())
    enable_similar_image_filter: bool = parameter(False, Flag())
    similar_image_filter_threshold: float = parameter(0.98, Number(-1.0, 1.0))
    similar_image_filter_max_skip_frame: int = parameter(10, Integer(0, 10_000))
    controlnets: None = parameter(None, SwitchedOff("ControlNets"))
    ip_adapter: None = parameter(None, SwitchedOff("IP adapters"))
    ip_adapter_style_image_url: str = parameter("", Text(64 << 20))
    image_preprocessing: None = parameter(None, SwitchedOff("image processors"))
    image_postprocessing: None = parameter(None, SwitchedOff("image processors"))
    latent_preprocessing: None = parameter(None, SwitchedOff("latent processors"))
    latent_postprocessing: None = parameter(None, SwitchedOff("latent processors"))
    cached_attention: None = parameter(None, SwitchedOff("attention caches"))

    @classmethod
    def parse(
        cls, raw: Mapping[str, Any] | None, defaults: Mapping[str, Any] | None = None
    ) -> Self:
        """Validates a full parameter set.

        Args:
            raw: as in ``BaseParams.parse``.
            defaults: the served model's own, as JSON, for keys that are absent. Where only
                ``num_inference_steps`` is given, the default ``t_index_list`` is cut to its grid.
        Raises: BadParameters: names the field.
        Source: live.md sections 7.1 and 7.3; streamdiffusion.md section 15.1.
        """
        # ``super()`` without arguments does not work in a dataclass that has slots.
        if raw is not None and not isinstance(raw, Mapping):
            return super(StreamDiffusionParams, cls).parse(raw)
        values = {**(defaults or {}), **(raw or {})}
        num_steps = values.get("num_inference_steps")
        if isinstance(num_steps, float) and num_steps.is_integer():  # 20.0, which is accepted
            num_steps = int(num_steps)
        if raw and "t_index_list" not in raw and isinstance(num_steps, int):
            indices = values.get("t_index_list", (12, 20, 32))
            values["t_index_list"] = [min(index, max(0, num_steps - 1)) for index in indices]
        return super(StreamDiffusionParams, cls).parse(values)

    def __post_init__(self) -> None:
        if self.t_index_list[-1] >= self.num_inference_steps:
            raise BadParameters(
                f"t_index_list: expected integers from 0 to num_inference_steps - 1 = "
                f"{self.num_inference_steps - 1}, got {list(self.t_index_list)}"
            )

    @property
    def mode(self) -> GuidanceMode:
        """The guidance mode in force; see ``GuidanceMode.active``."""
        return self.cfg_type.active(self.guidance_scale)

    @property
    def similarity(self) -> SimilarityConfig | None:
        """What the similarity filter runs with, if it does."""
        if not self.enable_similar_image_filter:
            return None
        return SimilarityConfig(
            self.similar_image_filter_threshold, self.similar_image_filter_max_skip_frame
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class SmallStreamDiffusionParams(StreamDiffusionParams):
    """For models that were trained on pictures smaller than the contract's least size."""

    width: int = parameter(128, Integer(64, 512, multiple_of=64))
    height: int = parameter(128, Integer(64, 512, multiple_of=64))
