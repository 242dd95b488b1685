"""A diffusion model brought into memory: which files belong to it, and what runs it."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch

from lpnode.errors import BadParameters, ConfigError
from lpnode.model.diffusion_model import DiffusionModel, ModelFamily, ModelTraits
from lpnode.model.family import family_at
from lpnode.model.load import Loras, load_model
from lpnode.model.place import SHIPPED_MODEL, ModelPlace, folder_name
from lpnode.model.weights import Progress, no_progress
from lpnode.pipeline.backend.choice import choose_networks
from lpnode.pipeline.backend.networks import Networks, NetworkShapes
from lpnode.pipeline.precision import NumberTypes, number_types

logger = logging.getLogger(__name__)

_TINY_VAE = "madebyollin/taesd"
_TINY_VAE_SDXL = "madebyollin/taesdxl"
_LCM_LORAS = {
    ModelFamily.SD15: "latent-consistency/lcm-lora-sdv1-5",
    ModelFamily.SDXL: "latent-consistency/lcm-lora-sdxl",
}
_LORA_FILE = "pytorch_lora_weights.safetensors"


@dataclass(frozen=True, slots=True, kw_only=True)
class DiffusionConfig:
    """Where models are and what runs them.

    Attributes:
        models_dir: folder of model folders; LoRAs that peers name are looked for there alone.
        engines_dir: where exported and compiled networks are kept.
        backend: ``auto``, or the name of one.
        precision: what networks compute in; see ``number_types``.
    """

    models_dir: Path
    engines_dir: Path
    backend: str = "auto"
    precision: str = "auto"


def choose_device(gpu: int | None, *, may_use_gpu: bool = True) -> str:
    """Where models run, as torch names it; None: the first GPU, or the processor without one.

    Raises: ConfigError: there is no such GPU.
    """
    if not may_use_gpu:
        return "cpu"
    num_gpus = torch.cuda.device_count()
    if gpu is None:
        return "cuda:0" if num_gpus else "cpu"
    if gpu >= num_gpus:
        raise ConfigError(
            f"-nvidia {gpu}: torch sees {num_gpus} GPUs on this machine, counted from 0; "
            "see lpnode doctor"
        )
    return f"cuda:{gpu}"


@dataclass(frozen=True, slots=True)
class OpenModel:
    """A model in memory and the networks that run it."""

    model: DiffusionModel
    networks: Networks
    has_lcm_lora: bool = False
    """Whether the family's LCM-LoRA is in the weights because it was asked for."""

    def unload(self) -> None:
        """Returns the memory of both."""
        self.networks.unload()
        self.model.prompt_encoder.unload()


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelOpener:
    """Opens one model on one device, again and again with other LoRAs.

    Raises: ConfigError: the device or the backend does not do the precision.
    """

    place: ModelPlace
    config: DiffusionConfig
    device: str
    progress: Progress = no_progress
    numbers: NumberTypes = field(init=False)

    def __post_init__(self) -> None:
        precision, backend = self.config.precision, self.config.backend
        numbers = number_types(precision, self.device)
        if numbers.engines and backend not in ("auto", "tensorrt"):
            raise ConfigError(
                f"-aiPrecision {precision}: is for TensorRT's engines, which -aiBackend {backend} "
                "has none of; give -aiBackend auto or tensorrt"
            )
        object.__setattr__(self, "numbers", numbers)

    @property
    def dtype(self) -> torch.dtype:
        """Of frames, and of what networks take and give."""
        return self.numbers.frames

    def open(
        self,
        shapes: NetworkShapes | Callable[[ModelTraits], NetworkShapes],
        *,
        loras: Sequence[tuple[str, float]] = (),
        is_for_frames: bool,
        use_lcm_lora: bool = False,
    ) -> OpenModel:
        """Loads the model and prepares networks for ``shapes``.

        Args:
            shapes: or what they are for a model of some traits, such as its native size.
            loras: files below the folder of models, with their strengths.
            is_for_frames: take the small autoencoder where there is one for the model.
            use_lcm_lora: fuse the family's LCM-LoRA where live.md section 7.3 has one.
        Raises: BadParameters: a LoRA that is not there. HostError, OutOfDeviceMemory, ModelError.
        """
        fused = [(self._lora(name), strength) for name, strength in loras]
        lcm_lora: Path | None = None

        def with_lcm_lora(model: DiffusionModel) -> Loras:
            nonlocal lcm_lora
            lcm_lora = self._lcm_lora(model, fused) if use_lcm_lora else None
            return fused if lcm_lora is None else [*fused, (lcm_lora, 1.0)]

        model = load_model(
            self.place,
            device=self.device,
            dtype=self.numbers.weights,
            tiny_vae=self._tiny_vae() if is_for_frames else None,
            loras=with_lcm_lora,
            progress=self.progress,
        )
        choice = choose_networks(
            model,
            device=self.device,
            dtype=self.dtype,
            weights_dtype=self.numbers.weights,
            shapes=shapes(model.traits) if callable(shapes) else shapes,
            wanted=self.config.backend,
            engines=self.numbers.engines,
            folder=self.config.engines_dir,
        )
        return OpenModel(model, choice.networks, has_lcm_lora=lcm_lora is not None)

    def _tiny_vae(self) -> Path | None:
        """TAESD for models whose own autoencoder is large, and several times slower."""
        if self.place.name == SHIPPED_MODEL:
            return None
        is_sdxl = family_at(self.place.path) is ModelFamily.SDXL
        name = _TINY_VAE_SDXL if is_sdxl else _TINY_VAE
        folder = self.config.models_dir / folder_name(name)
        if folder.is_dir():
            return folder
        logger.warning(
            "%s runs with its own autoencoder, which takes most of a frame's time; "
            "get the small one with: lpnode model add %s",
            self.place.name,
            name,
        )
        return None

    def _lcm_lora(self, model: DiffusionModel, fused: Sequence[tuple[Path, float]]) -> Path | None:
        """The family's LCM-LoRA, unless the model needs none or has it already."""
        name = _LCM_LORAS.get(model.traits.family)
        is_distilled = model.scheduler_config.get("_class_name") == "LCMScheduler"
        if name is None or model.traits.is_turbo or is_distilled:
            return None
        file = self.config.models_dir.resolve() / folder_name(name) / _LORA_FILE
        if any(path == file for path, _ in fused):
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
                f"there is no LoRA {name!r} in the node's folder of models; give the path of a "
                ".safetensors file relative to it"
            )
        return path
