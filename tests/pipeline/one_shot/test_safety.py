"""The checker that comes with a model: it says what diffusers' would, and blackens nothing."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from picture_models import OpenPictures, slopes
from PIL import Image
from tiny_diffusion_models import SIDE

from lpnode.errors import HostError
from lpnode.pipeline.one_shot.params import TextToImageParams
from lpnode.pipeline.one_shot.safety import SafetyChecker
from lpnode.pipeline.one_shot.text_to_image import text_to_image

NUM_PICTURES = 24
CLIP_SIDE = 16
MEAN, STD = [0.4, 0.5, 0.6], [0.3, 0.25, 0.2]


def pictures() -> list[NDArray[np.uint8]]:
    rng = np.random.default_rng(5)
    shapes = [(16, 16), (40, 24), (24, 50)]
    return [
        rng.integers(0, 256, (*shapes[n % 3], 3), np.uint8) if n % 2 else slopes(20 + n, 30)
        for n in range(NUM_PICTURES)
    ]


def clip_pixels(given: list[NDArray[np.uint8]]) -> torch.Tensor:
    from transformers import CLIPImageProcessorPil

    processor = CLIPImageProcessorPil(
        size={"shortest_edge": CLIP_SIDE}, crop_size=CLIP_SIDE, image_mean=MEAN, image_std=STD
    )
    images = [Image.fromarray(picture) for picture in given]
    pixels: torch.Tensor = processor(images, return_tensors="pt").pixel_values
    return pixels


def write_checker(folder: Path, threshold: float | None = None) -> Path:
    """A checker with random weights; without a threshold, one that flags half of ``pictures``."""
    from diffusers.pipelines.stable_diffusion.safety_checker import StableDiffusionSafetyChecker
    from transformers import CLIPConfig

    small = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1}
    vision = {**small, "num_attention_heads": 2, "image_size": CLIP_SIDE, "patch_size": 4}
    text = {**small, "num_attention_heads": 2, "bos_token_id": 0, "eos_token_id": 1}
    with torch.random.fork_rng(), torch.inference_mode():
        torch.manual_seed(3)
        checker: Any = StableDiffusionSafetyChecker(
            CLIPConfig(vision_config=vision, text_config=text, projection_dim=8)
        ).eval()
        checker.concept_embeds.data.normal_()
        checker.special_care_embeds.data.normal_()
        embeds = checker.visual_projection(checker.vision_model(clip_pixels(pictures()))[1])
        for name in ("concept_embeds", "special_care_embeds"):
            cosines = torch.cosine_similarity(embeds[:, None], getattr(checker, name)[None], dim=2)
            middle = float(cosines.amax(1).median()) if threshold is None else threshold
            getattr(checker, f"{name}_weights").data.fill_(middle)
    checker.save_pretrained(folder / "safety_checker")
    (folder / "feature_extractor").mkdir()
    (folder / "feature_extractor" / "preprocessor_config.json").write_text(
        json.dumps({"image_mean": MEAN, "image_std": STD})
    )
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checker(tmp_path_factory.mktemp("checked"))


def diffusers_flags(folder: Path, given: list[NDArray[np.uint8]]) -> list[bool]:
    from diffusers.pipelines.stable_diffusion.safety_checker import StableDiffusionSafetyChecker

    checker: Any = StableDiffusionSafetyChecker.from_pretrained(folder / "safety_checker")
    _, flags = checker(clip_input=clip_pixels(given), images=[np.zeros(1) for _ in given])
    return [bool(flag) for flag in flags]


def test_the_verdict_is_diffusers(folder: Path) -> None:
    given = pictures()
    flags = SafetyChecker(folder).flags(given)
    assert flags == diffusers_flags(folder, given)
    assert 0 < sum(flags) < len(flags)


def test_a_flagged_picture_is_marked_and_goes_out_as_it_is(
    tmp_path: Path, open_pictures: OpenPictures
) -> None:
    checker = SafetyChecker(write_checker(tmp_path, threshold=-2.0))
    wish = {"prompt": "cat", "seed": 7, "num_inference_steps": 1, "guidance_scale": 1.0}
    wish |= {"num_images_per_prompt": 2, "width": SIDE, "height": SIDE}
    checked = text_to_image(
        open_pictures(load_safety_checker=lambda: checker).one_shot, TextToImageParams.parse(wish)
    )
    assert all(picture.is_checked and picture.nsfw for picture in checked)

    def nobody_looks() -> SafetyChecker:
        pytest.fail("the checker was asked")

    plain = text_to_image(
        open_pictures(load_safety_checker=nobody_looks).one_shot,
        TextToImageParams.parse({**wish, "safety_check": False}),
    )
    assert not any(picture.is_checked or picture.nsfw for picture in plain)
    for one, other in zip(checked, plain, strict=True):
        assert np.array_equal(one.rgb, other.rgb)


def test_a_model_without_a_checker_says_once_that_nobody_looks(
    open_pictures: OpenPictures, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", logger="lpnode")
    one_shot = open_pictures().one_shot
    for _ in range(2):
        (picture,) = text_to_image(
            one_shot,
            TextToImageParams(prompt="cat", width=SIDE, height=SIDE, num_inference_steps=1),
        )
        assert (picture.nsfw, picture.is_checked) == (False, False)
    assert caplog.text.count("small has no safety checker: its pictures go out unchecked") == 1


def test_a_checker_that_cannot_be_read_is_named(folder: Path, tmp_path: Path) -> None:
    assert SafetyChecker.is_in(folder)
    assert not SafetyChecker.is_in(tmp_path)
    with pytest.raises(HostError, match=f"{tmp_path}/safety_checker: the safety checker cannot"):
        SafetyChecker(tmp_path)
    (tmp_path / "safety_checker").symlink_to(folder / "safety_checker")
    (tmp_path / "feature_extractor").mkdir()
    (tmp_path / "feature_extractor" / "preprocessor_config.json").write_text('{"image_mean": [1]}')
    with pytest.raises(HostError, match="image_mean and image_std cannot be read"):
        SafetyChecker(tmp_path)
