"""Whether a picture shows what must not go out unmarked, as the model's own checker sees it."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from lpnode.errors import HostError

CHECKER_FOLDER = "safety_checker"

# Of OpenAI's CLIP, for folders without ``feature_extractor``.
_SIDE = 224
_MEAN = (0.48145466, 0.4578275, 0.40821073)
_STD = (0.26862954, 0.26130258, 0.27577711)


class SafetyChecker:
    """Stable Diffusion's CLIP-based checker, from the folder of a model that has one."""

    def __init__(self, folder: Path) -> None:
        """Loads the checker of the model in ``folder``. Takes seconds.

        Raises: HostError: it cannot be read.
        """
        from diffusers.pipelines.stable_diffusion.safety_checker import (
            StableDiffusionSafetyChecker,
        )

        place = folder / CHECKER_FOLDER
        try:
            checker: Any = StableDiffusionSafetyChecker.from_pretrained(
                place, local_files_only=True, use_safetensors=True
            )
        except (OSError, ValueError, RuntimeError) as error:
            raise HostError(f"{place}: the safety checker cannot be loaded: {error}") from error
        self._checker = checker.eval().requires_grad_(False)
        self._side = int(self._checker.config.vision_config.image_size)
        self._mean, self._std = _colours(folder / "feature_extractor" / "preprocessor_config.json")

    @staticmethod
    def is_in(folder: Path) -> bool:
        """Whether the model in ``folder`` comes with a checker."""
        return (folder / CHECKER_FOLDER / "config.json").is_file()

    @torch.inference_mode()
    def flags(self, pictures: Sequence[NDArray[np.uint8]]) -> list[bool]:
        """Whether each (H, W, 3) RGB picture is flagged; the pictures stay as they are.

        The verdict is diffusers', which would blacken the pictures. Source: ai-http.md section 7.
        """
        checker = self._checker
        pixels = torch.stack([self._pixels(picture) for picture in pictures])
        embeds = checker.visual_projection(checker.vision_model(pixels)[1])
        special = (
            _cosines(embeds, checker.special_care_embeds) - checker.special_care_embeds_weights
        )
        is_special = (special.round(decimals=3) > 0).any(dim=1, keepdim=True)
        concepts = _cosines(embeds, checker.concept_embeds) - checker.concept_embeds_weights
        is_bad = ((concepts + 0.01 * is_special).round(decimals=3) > 0).any(dim=1)
        flags: list[bool] = is_bad.tolist()
        return flags

    def _pixels(self, picture: NDArray[np.uint8]) -> torch.Tensor:
        image = Image.fromarray(picture)
        scale = self._side / min(image.size)
        width, height = (int(side * scale) for side in image.size)
        image = image.resize((width, height), Image.Resampling.BICUBIC)
        left, top = (width - self._side) // 2, (height - self._side) // 2
        image = image.crop((left, top, left + self._side, top + self._side))
        scaled = (np.asarray(image, np.float32) / 255.0 - self._mean) / self._std
        return torch.from_numpy(scaled).permute(2, 0, 1)


def _cosines(embeds: torch.Tensor, concepts: torch.Tensor) -> torch.Tensor:
    normalize = torch.nn.functional.normalize
    return normalize(embeds) @ normalize(concepts).T


def _colours(config: Path) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    try:
        values = json.loads(config.read_text()) if config.is_file() else {}
        mean = np.asarray(values.get("image_mean", _MEAN), np.float32).reshape(3)
        std = np.asarray(values.get("image_std", _STD), np.float32).reshape(3)
    except (OSError, ValueError, AttributeError) as error:
        raise HostError(f"{config}: image_mean and image_std cannot be read: {error}") from error
    return mean, std
