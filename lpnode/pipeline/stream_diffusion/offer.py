"""Which models StreamDiffusion can serve on this node, by the model id that gateways ask for."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from lpnode.errors import BadParameters, ConfigError
from lpnode.model.place import SHIPPED_MODEL, find_model
from lpnode.model.weights import Progress
from lpnode.pipeline.backend.networks import NetworkShapes
from lpnode.pipeline.free_memory import free_memory
from lpnode.pipeline.open_model import DiffusionConfig, ModelOpener, OpenModel
from lpnode.pipeline.stream_diffusion.params import (
    SmallStreamDiffusionParams,
    StreamDiffusionParams,
)
from lpnode.pipeline.stream_diffusion.pipeline import StreamDiffusion
from lpnode.pipeline.stream_diffusion.served_model import LoraChoice, ServedModel

_MAX_BATCH = 8
_MAX_ROWS = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class _Variant:
    """A model id with defaults of its own, and whose weights it stands for."""

    weights: str
    params: type[StreamDiffusionParams] = StreamDiffusionParams
    defaults: Mapping[str, Any] = field(default_factory=dict)


# live.md section 7.4, without the ControlNets and IP adapters that this build does not run.
_VARIANTS: Mapping[str, _Variant] = {
    SHIPPED_MODEL: _Variant(
        weights=SHIPPED_MODEL,
        params=SmallStreamDiffusionParams,
        defaults={"prompt": "a red circle", "negative_prompt": "", "t_index_list": [32, 45]},
    ),
    "streamdiffusion": _Variant(weights="stabilityai/sd-turbo"),
    "streamdiffusion-sd15": _Variant(
        weights="Lykon/dreamshaper-8",
        defaults={
            "t_index_list": [5, 15, 32],
            "prompt": "cyberpunk desert structures, masterpiece",
        },
    ),
    "streamdiffusion-sdxl": _Variant(
        weights="stabilityai/sdxl-turbo", defaults={"t_index_list": [36]}
    ),
}


def offered_ids() -> tuple[str, ...]:
    """The model ids with defaults of their own; any model folder can be served beside them."""
    return tuple(_VARIANTS)


def stream_diffusion(model_id: str, config: DiffusionConfig) -> Callable[[str], StreamDiffusion]:
    """What makes a pipeline for ``model_id`` on a device; nothing is loaded yet.

    Raises: ConfigError: there is no such model; says where it was looked for and what to run.
    """
    variant = _VARIANTS.get(model_id) or _Variant(weights=model_id)
    place = find_model(variant.weights, config.models_dir)

    def make(device: str) -> StreamDiffusion:
        opener = ModelOpener(place=place, config=config, device=device)
        defaults = variant.params.parse(None, variant.defaults)
        shapes = NetworkShapes(
            width=defaults.width,
            height=defaults.height,
            max_images=_MAX_BATCH,
            max_rows=_MAX_ROWS,
        )

        def open_model(choice: LoraChoice, progress: Progress) -> OpenModel:
            try:
                return replace(opener, progress=progress).open(
                    shapes,
                    loras=choice.loras,
                    is_for_frames=True,
                    use_lcm_lora=choice.use_lcm_lora,
                )
            except BadParameters as error:
                raise BadParameters(f"lora_dict: {error}") from error

        return StreamDiffusion(
            ServedModel(
                open_model=open_model,
                names=tuple(dict.fromkeys((variant.weights, model_id))),
                device=device,
                dtype=opener.dtype,
                params=variant.params,
                defaults=variant.defaults,
                max_batch=_MAX_BATCH,
                max_rows=_MAX_ROWS,
                free_bytes=partial(free_memory, device),
                uses_graphs=device != "cpu",
            )
        )

    return make


def is_offered(model_id: str, config: DiffusionConfig) -> bool:
    """Whether ``model_id`` is known, or the folder of models has it."""
    if model_id in _VARIANTS:
        return True
    try:
        find_model(model_id, config.models_dir)
    except ConfigError:
        return False
    return True
