"""The weights that ship load as anybody's would, and give a picture for every prompt."""

import json
from collections.abc import Iterator

import numpy as np
import pytest
import torch

from lpnode.builtin.measure import edit_score
from lpnode.builtin.sampler import STEPS, Sampler
from lpnode.builtin.weights_folder import SHIPPED


@pytest.fixture(scope="module")
def sampler() -> Iterator[Sampler]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield Sampler(SHIPPED)
    torch.set_num_threads(threads)


def test_the_folder_is_small_and_in_half_precision() -> None:
    from safetensors import safe_open

    files = sorted(SHIPPED.glob("*/*.safetensors"))
    assert [file.parent.name for file in files] == ["text_encoder", "unet", "vae"]
    assert sum(file.stat().st_size for file in files) < 12e6
    for file in files:
        with safe_open(file, "pt") as tensors:
            assert {tensors.get_slice(key).get_dtype() for key in tensors.keys()} <= {"F16", "I64"}  # noqa: SIM118


def test_the_scheduler_is_the_contract_s_with_velocities() -> None:
    from diffusers import LCMScheduler

    scheduler = LCMScheduler.from_pretrained(SHIPPED / "scheduler")
    assert scheduler.config.prediction_type == "v_prediction"
    alphas = scheduler.alphas_cumprod[[999, 679, 99]].sqrt()
    torch.testing.assert_close(alphas, torch.tensor([0.06826491, 0.30981273, 0.94628895]))
    scheduler.set_timesteps(50)
    assert scheduler.timesteps.tolist() == [999 - 20 * index for index in range(50)]


def test_the_index_names_what_is_in_the_folder() -> None:
    index = json.loads((SHIPPED / "model_index.json").read_text())
    parts = {key for key, kind in index.items() if isinstance(kind, list) and kind[0]}
    assert parts == {"scheduler", "text_encoder", "tokenizer", "unet", "vae"}
    assert all((SHIPPED / part).is_dir() for part in parts)


def test_a_seed_gives_the_same_picture_again_and_another_seed_another(sampler: Sampler) -> None:
    first, again, other = (
        sampler.text_to_image(["a blue star"], [seed], STEPS[2])[0] for seed in (1, 1, 2)
    )
    assert np.array_equal(first, again)
    assert np.abs(first.astype(int) - other).mean() > 4


@pytest.mark.parametrize(
    "text", ["", "a photograph of a zebra", "漢字 🙂", "a red circle and " * 60], ids=len
)
def test_any_prompt_gives_a_picture(sampler: Sampler, text: str) -> None:
    assert torch.isfinite(sampler.encode_texts([text])).all()
    picture = sampler.text_to_image([text], [3], STEPS[4])[0]
    assert picture.shape == (128, 128, 3)
    assert picture.std() > 3


def test_a_picture_larger_than_those_of_training_is_made_too(sampler: Sampler) -> None:
    picture = sampler.text_to_image(["a red circle"], [0], STEPS[1], side=192)[0]
    assert picture.shape == (192, 192, 3)


def test_the_less_noise_the_more_of_the_picture_stays(sampler: Sampler) -> None:
    overlaps = [edit_score(sampler, 8, steps).overlap for steps in ((45,), (0, 16, 32, 45))]
    assert overlaps[0] > overlaps[1] + 0.1
