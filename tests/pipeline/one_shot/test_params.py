"""Which requests for pictures are accepted, and what is said of the others."""

from typing import Any

import pytest

from lpnode.errors import BadParameters
from lpnode.pipeline.one_shot.params import ImageToImageParams, PictureParams, TextToImageParams

BOTH = pytest.mark.parametrize("kind", [TextToImageParams, ImageToImageParams])


def test_what_is_absent_takes_the_contracts_defaults() -> None:
    text = TextToImageParams.parse({"prompt": "a cat"})
    assert text == TextToImageParams(
        prompt="a cat",
        model_id="",
        loras=(),
        guidance_scale=7.5,
        negative_prompt="",
        safety_check=True,
        seed=None,
        num_inference_steps=50,
        num_images_per_prompt=1,
        height=512,
        width=512,
    )
    image = ImageToImageParams.parse({"prompt": "a cat"})
    assert (image.strength, image.image_guidance_scale, image.num_inference_steps) == (
        0.8,
        1.5,
        100,
    )


@BOTH
@pytest.mark.parametrize("raw", [None, {}, {"prompt": ""}, {"prompt": None}, {"seed": "x"}])
def test_a_request_without_a_prompt_says_so_in_the_references_words(
    kind: type[PictureParams], raw: dict[str, Any] | None
) -> None:
    with pytest.raises(BadParameters) as refused:
        kind.parse(raw)
    assert str(refused.value) == "Prompt must be provided."


@pytest.mark.parametrize("prompt", ["|", "  ", " | | "])
def test_a_prompt_of_empty_parts_is_none(prompt: str) -> None:
    with pytest.raises(BadParameters, match=r"^Prompt must be provided\.$"):
        TextToImageParams.parse({"prompt": prompt})


@pytest.mark.parametrize(
    ("prompt", "parts"),
    [
        ("a cat", ("a cat",)),
        (" a cat | a dog ", ("a cat", "a dog")),
        ("a||b|", ("a", "b")),
        ("a|b|c|d|e", ("a", "b", "c", "d|e")),
    ],
)
def test_a_bar_separates_up_to_four_prompts(prompt: str, parts: tuple[str, ...]) -> None:
    params = TextToImageParams.parse({"prompt": prompt, "negative_prompt": prompt})
    assert params.prompts == params.negative_prompts == parts


def test_a_bar_is_a_letter_of_image_to_image() -> None:
    assert ImageToImageParams.parse({"prompt": " a | b"}).prompts == (" a | b",)


def test_without_a_negative_prompt_an_empty_one_is_encoded() -> None:
    assert TextToImageParams.parse({"prompt": "a"}).negative_prompts == ("",)


@BOTH
@pytest.mark.parametrize(
    ("field", "value", "expected"),
    [
        ("prompt", 7, "a string"),
        ("prompt", "x" * 10_001, "at most 10000 characters"),
        ("model_id", 7, "a string"),
        ("negative_prompt", ["a"], "a string"),
        ("guidance_scale", "7.5", "a number"),
        ("guidance_scale", float("nan"), "a number"),
        ("guidance_scale", float("inf"), "a number"),
        ("safety_check", 1, "true or false"),
        ("seed", 1.5, "an integer"),
        ("seed", 2**63, "an integer"),
        ("seed", True, "an integer"),
        ("num_inference_steps", 1001, "an integer"),
        ("num_inference_steps", "4", "an integer"),
        ("num_images_per_prompt", 0, "an integer from 1"),
        ("num_images_per_prompt", -3, "an integer from 1"),
        ("num_images_per_prompt", 101, "an integer from 1 to 100"),
        ("loras", {"a": 1.0}, "a JSON object, as a string"),
        ("loras", "{", "a JSON object, as a string"),
        ("loras", "[]", "a JSON object, as a string"),
        ("loras", '{"a": -0.1}', "not negative"),
        ("loras", '{"a": "1"}', "not negative"),
        ("loras", '{"a": NaN}', "not negative"),
        ("loras", '{"a":1,"b":1,"c":1,"d":1,"e":1}', "at most 4 LoRAs"),
    ],
)
def test_a_wrong_value_is_named_with_what_is_accepted(
    kind: type[PictureParams], field: str, value: Any, expected: str
) -> None:
    with pytest.raises(BadParameters) as refused:
        kind.parse({"prompt": "a cat", field: value})
    assert str(refused.value).startswith(f"{field}: expected ")
    assert expected in str(refused.value)


@pytest.mark.parametrize("field", ["width", "height"])
@pytest.mark.parametrize("side", [0, -8, 7, 100, 4104, "512", 512.5])
def test_sides_that_no_model_can_draw_are_refused(field: str, side: Any) -> None:
    with pytest.raises(BadParameters, match=f"^{field}: expected an integer from 8 to 4096, a mul"):
        TextToImageParams.parse({"prompt": "a cat", field: side})


@pytest.mark.parametrize("strength", [-0.01, 1.01, "0.5", float("nan")])
def test_strength_is_from_0_to_1(strength: Any) -> None:
    with pytest.raises(BadParameters, match=r"^strength: expected a number from 0 to 1"):
        ImageToImageParams.parse({"prompt": "a cat", "strength": strength})


@BOTH
def test_unknown_fields_are_ignored_and_null_is_absent(kind: type[PictureParams]) -> None:
    assert kind.parse({"prompt": "a", "fps": 6, "seed": None, "loras": None}) == kind(prompt="a")


@BOTH
def test_the_models_own_defaults_stand_in_for_what_is_absent_alone(
    kind: type[PictureParams],
) -> None:
    defaults = {"num_inference_steps": 4, "guidance_scale": 1.0}
    params = kind.parse({"prompt": "a", "guidance_scale": 2.0}, defaults)
    assert (params.num_inference_steps, params.guidance_scale) == (4, 2.0)


@BOTH
def test_loras_become_pairs(kind: type[PictureParams]) -> None:
    params = kind.parse({"prompt": "a", "loras": '{"one.safetensors": 0.5, "two.safetensors": 0}'})
    assert params.loras == (("one.safetensors", 0.5), ("two.safetensors", 0.0))


@BOTH
def test_what_is_no_object_is_refused(kind: type[PictureParams]) -> None:
    with pytest.raises(BadParameters, match=r"^params: expected an object"):
        kind.parse([])  # type: ignore[arg-type]
