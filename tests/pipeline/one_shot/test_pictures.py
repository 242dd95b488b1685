"""Pictures on request: seeds, batches, guidance, strength, and what goes wrong."""

import threading
from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from picture_models import OpenPictures, picture_model, slopes
from tiny_diffusion_models import SIDE

from lpnode.errors import (
    BadParameters,
    HostError,
    InvalidArgument,
    JobCancelled,
    OutOfDeviceMemory,
)
from lpnode.model.diffusion_model import DiffusionModel, Prediction
from lpnode.pipeline.one_shot import model_rules
from lpnode.pipeline.one_shot.image_to_image import image_to_image
from lpnode.pipeline.one_shot.lcm_sampler import LcmSampler
from lpnode.pipeline.one_shot.noise_source import NoiseSource
from lpnode.pipeline.one_shot.one_shot_model import OneShotModel
from lpnode.pipeline.one_shot.params import ImageToImageParams, TextToImageParams
from lpnode.pipeline.one_shot.pictures import Picture, seeds_of
from lpnode.pipeline.one_shot.sampling import Watch
from lpnode.pipeline.one_shot.text_to_image import text_to_image


def drawn(model: OneShotModel, watch: Watch | None = None, **values: object) -> list[Picture]:
    raw = {"prompt": "cat", "seed": 7, "num_inference_steps": 4, "guidance_scale": 1.0, **values}
    params = TextToImageParams.parse({"width": SIDE, "height": SIDE, **raw})
    return text_to_image(model, params, watch)


def redrawn(
    model: OneShotModel, image: NDArray[np.uint8] | None = None, **values: object
) -> list[Picture]:
    raw = {"prompt": "cat", "seed": 7, "num_inference_steps": 4, "guidance_scale": 1.0, **values}
    return image_to_image(
        model, ImageToImageParams.parse(raw), slopes() if image is None else image
    )


def rgb(pictures: list[Picture]) -> NDArray[np.uint8]:
    return np.stack([picture.rgb for picture in pictures])


def test_noise_is_bit_for_bit_that_of_the_seed_whatever_is_beside_it() -> None:
    latent, device = (4, 8, 8), torch.device("cpu")
    together = NoiseSource([7, 8, 9], latent, device)
    first, second = together.draw(), together.draw()
    for row, seed in enumerate([7, 8, 9]):
        alone = NoiseSource([seed], latent, device)
        assert torch.equal(alone.draw()[0], first[row])
        assert torch.equal(alone.draw()[0], second[row])


@pytest.mark.parametrize("guidance_scale", [1.0, 3.0])
def test_a_picture_does_not_depend_on_those_beside_it(
    open_pictures: OpenPictures, guidance_scale: float
) -> None:
    one_shot = open_pictures().one_shot
    together = drawn(one_shot, num_images_per_prompt=4, guidance_scale=guidance_scale)
    assert [picture.seed for picture in together] == [7, 8, 9, 10]
    for picture in together:
        (alone,) = drawn(one_shot, seed=picture.seed, guidance_scale=guidance_scale)
        # Not always to the bit: libraries may sum a matrix of more rows in another order.
        assert np.abs(alone.rgb.astype(int) - picture.rgb).max() <= 1


def test_the_same_seed_gives_the_same_picture_and_another_one_another(
    open_pictures: OpenPictures,
) -> None:
    first, again, other = (rgb(drawn(open_pictures().one_shot, seed=seed)) for seed in (7, 7, 8))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_an_absent_seed_is_32_bits_and_is_reported(open_pictures: OpenPictures) -> None:
    one_shot = open_pictures().one_shot
    (picture,) = drawn(one_shot, seed=None)
    assert 0 <= picture.seed < 2**32
    assert np.array_equal(drawn(one_shot, seed=picture.seed)[0].rgb, picture.rgb)


@pytest.mark.parametrize("seed", [0, -1, -(2**63), 2**63 - 1])
def test_every_64_bit_integer_is_a_seed(open_pictures: OpenPictures, seed: int) -> None:
    pictures = drawn(open_pictures().one_shot, seed=seed, num_images_per_prompt=2)
    assert [picture.seed for picture in pictures] == [seed, seed + 1]


@pytest.mark.parametrize(
    ("max_rows", "guidance_scale", "rows"),
    [(8, 1.0, [5]), (2, 1.0, [2, 2, 1]), (8, 2.0, [8, 2]), (3, 2.0, [2] * 5), (8, 0.5, [5])],
)
def test_a_unet_call_has_as_many_rows_as_fit_and_two_a_picture_with_guidance(
    open_pictures: OpenPictures, max_rows: int, guidance_scale: float, rows: list[int]
) -> None:
    opened = open_pictures(max_rows=max_rows)
    drawn(
        opened.one_shot,
        num_images_per_prompt=5,
        num_inference_steps=1,
        guidance_scale=guidance_scale,
    )
    assert opened.networks.rows == rows


def test_a_negative_prompt_counts_with_guidance_alone(open_pictures: OpenPictures) -> None:
    one_shot = open_pictures().one_shot
    plain, other = (
        rgb(drawn(one_shot, negative_prompt=text, guidance_scale=1.0)) for text in ("", "dog")
    )
    assert np.array_equal(plain, other)
    guided, other = (
        rgb(drawn(one_shot, negative_prompt=text, guidance_scale=3.0)) for text in ("", "dog")
    )
    assert not np.array_equal(guided, other)
    assert not np.array_equal(guided, plain)


def test_the_prompt_and_the_number_of_steps_change_the_picture(
    open_pictures: OpenPictures,
) -> None:
    one_shot = open_pictures().one_shot
    pictures = [
        drawn(one_shot),
        drawn(one_shot, prompt="dog"),
        drawn(one_shot, num_inference_steps=2),
    ]
    assert len({picture.rgb.tobytes() for (picture,) in pictures}) == 3


def test_strength_0_gives_the_picture_as_the_autoencoder_sees_it(
    open_pictures: OpenPictures,
) -> None:
    opened = open_pictures()
    (first,) = redrawn(opened.one_shot, strength=0.0)
    (other,) = redrawn(opened.one_shot, strength=0.0, prompt="dog", seed=9)
    assert opened.networks.rows == []
    assert np.array_equal(first.rgb, other.rgb)
    image = torch.from_numpy(slopes()).permute(2, 0, 1)[None] / 255 * 2 - 1
    networks = opened.networks
    decoded = networks.decode(networks.encode(image.contiguous()))[0].permute(1, 2, 0)
    assert np.array_equal(first.rgb, ((decoded / 2 + 0.5).clamp(0, 1) * 255).round().byte().numpy())


def test_strength_1_makes_every_step_and_half_of_it_half_of_them(
    open_pictures: OpenPictures,
) -> None:
    opened = open_pictures()
    redrawn(opened.one_shot, strength=1.0)
    assert opened.networks.rows == [1] * 4
    redrawn(opened.one_shot, strength=0.5)
    assert opened.networks.rows == [1] * 6


@pytest.mark.parametrize("num_steps", [1, 3, 49])
def test_a_turbo_model_makes_at_least_one_step(num_steps: int) -> None:
    model = picture_model("small", "euler", is_turbo=True)
    params = ImageToImageParams(prompt="a", strength=0.001, num_inference_steps=num_steps)
    assert model_rules.num_steps_left(model, params) == 1
    assert model_rules.num_steps_left(picture_model("small", "euler"), params) == 0


@pytest.mark.parametrize(
    ("name", "is_turbo", "scheduler", "asked", "steps", "guidance_scale"),
    [
        ("a/b", False, "lcm", 0, 4, 2.0),
        ("a/b", False, "lcm", -1, 4, 2.0),
        ("a/b", False, "pndm", 0, 50, 2.0),
        ("a/b", False, "pndm", 9, 9, 2.0),
        ("a/turbo", True, "euler", 0, 1, 0.0),
        ("a/turbo", True, "euler", 2, 2, 0.0),
        ("ByteDance/SDXL-Lightning", False, "euler", 50, 8, 0.0),
        ("ByteDance/SDXL-Lightning-4step", False, "euler", 50, 4, 0.0),
    ],
)
def test_a_model_has_its_say_in_steps_and_guidance(
    name: str, is_turbo: bool, scheduler: str, asked: int, steps: int, guidance_scale: float
) -> None:
    model = picture_model("small", scheduler, is_turbo=is_turbo, name=name)
    params = TextToImageParams(prompt="a", guidance_scale=2.0, num_inference_steps=asked)
    assert model_rules.num_steps(model, params) == steps
    assert model_rules.guidance_scale(model, params) == guidance_scale


def test_defaults_of_a_consistency_model_are_few_steps_without_guidance() -> None:
    values = model_rules.default_values(picture_model())
    assert values == {
        "num_inference_steps": 4,
        "guidance_scale": 1.0,
        "width": SIDE,
        "height": SIDE,
    }


def test_more_steps_than_the_original_grid_has_make_it_finer(open_pictures: OpenPictures) -> None:
    sampler = LcmSampler({}, 100, Prediction.EPSILON)
    assert sampler.timesteps[:3] == [999.0, 989.0, 979.0]
    assert len(drawn(open_pictures().one_shot, num_inference_steps=60)) == 1


@pytest.mark.parametrize("num_steps", range(1, 51))
def test_the_timesteps_of_a_consistency_model_are_diffusers(num_steps: int) -> None:
    from diffusers import LCMScheduler

    scheduler = LCMScheduler()
    scheduler.set_timesteps(num_steps)
    assert LcmSampler({}, num_steps, Prediction.EPSILON).timesteps == scheduler.timesteps.tolist()


def test_an_unusual_consistency_schedule_is_left_to_diffusers() -> None:
    assert LcmSampler.is_plain({"beta_schedule": "scaled_linear"})
    assert not LcmSampler.is_plain({"beta_schedule": "linear"})
    assert not LcmSampler.is_plain({"thresholding": True})


@pytest.mark.parametrize("name", ["", "NoSuchScheduler", "UNet2DConditionModel"])
def test_a_model_that_names_no_scheduler_is_an_error_that_names_the_file(
    open_pictures: OpenPictures, name: str
) -> None:
    model = picture_model("small", {"_class_name": name})
    with pytest.raises(HostError, match=r"small: scheduler_config\.json must name a scheduler"):
        drawn(open_pictures(model).one_shot)


def test_every_step_is_told_of(open_pictures: OpenPictures) -> None:
    told: list[tuple[int, int]] = []
    watch = Watch(on_step=lambda done, total: told.append((done, total)))
    drawn(open_pictures(max_rows=2).one_shot, watch, num_images_per_prompt=3)
    assert told == [(step, 8) for step in range(1, 9)]


@pytest.mark.parametrize("after", [0, 1, 4, 8])
def test_a_cancelled_request_ends_before_the_next_step(
    open_pictures: OpenPictures, after: int
) -> None:
    opened = open_pictures(max_rows=2)
    cancelled = threading.Event()
    if after == 0:
        cancelled.set()

    def on_step(done: int, total: int) -> None:
        if done == after:
            cancelled.set()

    watch = Watch(on_step, cancelled.is_set)
    with pytest.raises(JobCancelled, match=f"cancelled after {after} of 8 steps"):
        drawn(opened.one_shot, watch, num_images_per_prompt=3)
    assert len(opened.networks.rows) == after
    assert len(drawn(opened.one_shot)) == 1, "the model goes on"


def broken(model: DiffusionModel) -> DiffusionModel:
    from copy import deepcopy

    unet = deepcopy(model.unet)
    next(unet.parameters()).data[0] = float("nan")
    return replace(model, unet=unet)


def test_weights_that_are_no_numbers_are_an_error_and_no_black_picture(
    open_pictures: OpenPictures,
) -> None:
    one_shot = open_pictures(broken(picture_model())).one_shot
    for make in (drawn, redrawn):
        with pytest.raises(HostError, match="small: the model gave numbers that are not finite"):
            make(one_shot)


def test_missing_memory_is_told_apart_from_other_failures(open_pictures: OpenPictures) -> None:
    opened = open_pictures()
    opened.one_shot.load()
    opened.networks.most_images = 0
    with pytest.raises(OutOfDeviceMemory, match="can't allocate memory"):
        redrawn(opened.one_shot)
    opened.networks.most_images = None
    opened.networks.error = RuntimeError("the device fell off")
    with pytest.raises(HostError, match="RuntimeError: the device fell off"):
        redrawn(opened.one_shot)
    opened.networks.error = None
    assert len(redrawn(opened.one_shot)) == 1


def test_another_model_than_the_one_loaded_is_refused(open_pictures: OpenPictures) -> None:
    one_shot = open_pictures().one_shot
    with pytest.raises(BadParameters) as refused:
        drawn(one_shot, model_id="large")
    assert str(refused.value) == "pipeline configured with small but called with large."
    assert len(drawn(one_shot, model_id="test/small")) == 1


def test_the_model_is_loaded_once_and_prepared_once_a_size(open_pictures: OpenPictures) -> None:
    opened = open_pictures()
    for size in (64, 64, 128, 64):
        drawn(opened.one_shot, width=size)
    assert opened.loras == [()]
    assert opened.prepared == [(64, 64), (128, 64)]
    opened.one_shot.load()
    assert opened.prepared == [(64, 64), (128, 64)], "the native size is 64"


def test_a_request_with_loras_replaces_the_weights(open_pictures: OpenPictures) -> None:
    opened = open_pictures()
    for loras in ("", '{"a": 1}', '{"a": 1}', ""):
        drawn(opened.one_shot, loras=loras)
    assert opened.loras == [(), (("a", 1.0),), ()]


def test_a_lora_that_is_not_there_leaves_the_model_as_it_is(open_pictures: OpenPictures) -> None:
    opened = open_pictures()
    before = rgb(drawn(opened.one_shot))
    opened.open_error = BadParameters("there is no LoRA 'a'")
    with pytest.raises(BadParameters, match="loras: there is no LoRA 'a'"):
        drawn(opened.one_shot, loras='{"a": 1}')
    assert np.array_equal(rgb(drawn(opened.one_shot)), before)


def test_weights_that_do_not_fit_beside_the_old_ones_are_loaded_after_these_are_gone(
    open_pictures: OpenPictures,
) -> None:
    opened = open_pictures()
    drawn(opened.one_shot)
    first = opened.networks
    opened.open_error = OutOfDeviceMemory("full")
    with pytest.raises(OutOfDeviceMemory):
        drawn(opened.one_shot, loras='{"a": 1}')
    with pytest.raises(HostError, match="no model is loaded"):
        first.encode(torch.zeros(1, 3, 8, 8))
    opened.open_error = None
    assert len(drawn(opened.one_shot, loras='{"a": 1}')) == 1


def test_sdxl_reads_two_prompts_with_an_encoder_each(open_pictures: OpenPictures) -> None:
    one_shot = open_pictures(picture_model("sdxl")).one_shot
    texts = ("cat", "dog", "cat|dog", "dog|cat", "cat|cat")
    made = [drawn(one_shot, prompt=text)[0].rgb.tobytes() for text in texts]
    assert made[0] == made[4], "twice the same text is that text"
    assert len(set(made)) == 4
    with pytest.raises(BadParameters, match=r"^prompt: expected at most 2 between '|'"):
        drawn(one_shot, prompt="a|b|c")


def test_a_model_with_one_encoder_takes_one_prompt(open_pictures: OpenPictures) -> None:
    one_shot = open_pictures().one_shot
    with pytest.raises(BadParameters, match=r"^prompt: expected at most 1 between '|'"):
        drawn(one_shot, prompt="a|b")
    with pytest.raises(BadParameters, match=r"^negative_prompt: expected at most 1"):
        drawn(one_shot, negative_prompt="a|b", guidance_scale=2.0)


@pytest.mark.parametrize(("width", "height"), [(7, 64), (64, 4097)])
def test_a_picture_that_is_too_small_or_too_large_is_refused(
    open_pictures: OpenPictures, width: int, height: int
) -> None:
    image = np.zeros((height, width, 3), np.uint8)
    with pytest.raises(BadParameters, match=f"^image: .* got {width}x{height}$"):
        redrawn(open_pictures().one_shot, image)


def test_a_guided_picture_needs_two_rows() -> None:
    with pytest.raises(InvalidArgument, match="max_rows must be 2 or more, got 1"):
        OneShotModel(lambda loras, shapes: pytest.fail("not opened"), names=("a",), max_rows=1)


def test_seeds_count_on_from_the_first() -> None:
    assert seeds_of(TextToImageParams(prompt="a", seed=5, num_images_per_prompt=3)) == [5, 6, 7]
