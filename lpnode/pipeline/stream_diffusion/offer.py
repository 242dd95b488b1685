"""Which models StreamDiffusion can serve on this node, by the model id that gateways ask for."""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from lpnode.errors import BadParameters, ConfigError
from lpnode.model.diffusion_model import DiffusionModel, ModelFamily
from lpnode.model.load import load_model
from lpnode.model.place import SHIPPED_MODEL, ModelPlace, find_model
from lpnode.pipeline.backend.choice import choose_networks
from lpnode.pipeline.backend.networks import NetworkShapes
from lpnode.pipeline.stream_diffusion.params import (
    SmallStreamDiffusionParams,
    StreamDiffusionParams,
)
from lpnode.pipeline.stream_diffusion.pipeline import StreamDiffusion
from lpnode.pipeline.stream_diffusion.served_model import LoraChoice, OpenModel, ServedModel

logger = logging.getLogger(__name__)

_MAX_BATCH = 8
_MAX_ROWS = 16

_TINY_VAES = {ModelFamily.SDXL: "madebyollin/taesdxl"}
_TINY_VAE = "madebyollin/taesd"
_LCM_LORAS = {
    ModelFamily.SD15: "latent-consistency/lcm-lora-sdv1-5",
    ModelFamily.SDXL: "latent-consistency/lcm-lora-sdxl",
}
_LORA_FILE = "pytorch_lora_weights.safetensors"


@dataclass(frozen=True, slots=True, kw_only=True)
class DiffusionConfig:
    """Where models are and what runs them.

    Attributes:
        models_dir: folder of model folders; LoRAs that streams name are looked for there alone.
        engines_dir: where exported and compiled networks are kept.
        backend: ``auto``, or the name of one.
    """

    models_dir: Path
    engines_dir: Path
    backend: str = "auto"


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
        defaults={"prompt": "a red circle", "negative_prompt": "", "t_index_list": [16, 32]},
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
        dtype = torch.float32 if device == "cpu" else torch.float16
        opener = _Opener(place, config, device, dtype, variant)
        return StreamDiffusion(
            ServedModel(
                open_model=opener.open,
                names=tuple(dict.fromkeys((variant.weights, model_id))),
                device=device,
                dtype=dtype,
                params=variant.params,
                defaults=variant.defaults,
                max_batch=_MAX_BATCH,
                max_rows=_MAX_ROWS,
            )
        )

    return make


@dataclass(frozen=True, slots=True)
class _Opener:
    """Loads one model for one device, again and again with other LoRAs."""

    place: ModelPlace
    config: DiffusionConfig
    device: str
    dtype: torch.dtype
    variant: _Variant

    def open(self, choice: LoraChoice) -> OpenModel:
        """See ``ServedModel.open_model``."""
        loras = [(self._lora(name), strength) for name, strength in choice.loras]
        model = self._load(loras)
        if choice.use_lcm_lora and (lcm_lora := self._lcm_lora(model, choice)):
            model = self._load([*loras, (lcm_lora, 1.0)])
        defaults = self.variant.params.parse(None, self.variant.defaults)
        chosen = choose_networks(
            model,
            device=self.device,
            dtype=self.dtype,
            shapes=NetworkShapes(
                width=defaults.width,
                height=defaults.height,
                max_images=_MAX_BATCH,
                max_rows=_MAX_ROWS,
            ),
            wanted=self.config.backend,
            folder=self.config.engines_dir,
        )
        return OpenModel(model, chosen.networks)

    def _load(self, loras: list[tuple[Path, float]]) -> DiffusionModel:
        return load_model(
            self.place,
            device=self.device,
            dtype=self.dtype,
            tiny_vae=self._tiny_vae(),
            loras=loras,
        )

    def _tiny_vae(self) -> Path | None:
        """TAESD for models with a large autoencoder of their own, which is several times slower."""
        if self.place.name == SHIPPED_MODEL:
            return None
        is_sdxl = (self.place.path / "text_encoder_2").is_dir()
        name = _TINY_VAES[ModelFamily.SDXL] if is_sdxl else _TINY_VAE
        folder = self.config.models_dir / name.replace("/", "--")
        if folder.is_dir():
            return folder
        logger.warning(
            "%s runs with its own autoencoder, which takes most of a frame's time; "
            "get the small one with: lpnode model add %s",
            self.place.name,
            name,
        )
        return None

    def _lcm_lora(self, model: DiffusionModel, choice: LoraChoice) -> Path | None:
        """The family's LCM-LoRA, where live.md section 7.3 has it fused."""
        name = _LCM_LORAS.get(model.traits.family)
        is_distilled = model.scheduler_config.get("_class_name") == "LCMScheduler"
        if name is None or model.traits.is_turbo or is_distilled:
            return None
        file = self.config.models_dir / name.replace("/", "--") / _LORA_FILE
        if any(self._lora(lora) == file.resolve() for lora, _ in choice.loras):
            return None
        if file.is_file():
            return file
        logger.warning(
            "%s runs without an LCM-LoRA, and few steps will look poor; "
            "get it with: lpnode model add %s",
            self.place.name,
            name,
        )
        return None

    def _lora(self, name: str) -> Path:
        """Gateways' clients name LoRAs; what they may read is the folder of models alone."""
        folder = self.config.models_dir.resolve()
        path = (folder / name).resolve()
        if not path.is_relative_to(folder) or path.suffix != ".safetensors" or not path.is_file():
            raise BadParameters(
                f"lora_dict: no LoRA {name!r} in the node's models folder; give the path of a "
                ".safetensors file relative to it"
            )
        return path


def is_offered(model_id: str, config: DiffusionConfig) -> bool:
    """Whether ``model_id`` is known, or the folder of models has it."""
    if model_id in _VARIANTS:
        return True
    try:
        find_model(model_id, config.models_dir)
    except ConfigError:
        return False
    return True
