from typing import Any

import pytest

from lpnode.errors import BadParameters, NotCapable
from lpnode.pipeline.accepts import Number, Rgb
from lpnode.pipeline.catalog import built_in
from lpnode.pipeline.params import BaseParams


def test_no_parameters_at_all_mean_the_defaults() -> None:
    expected = {"width": 512, "height": 512, "show_reloading_frame": True, "max_framerate": 24}
    assert BaseParams.parse(None).as_dict() == BaseParams.parse({}).as_dict() == expected


def test_a_key_that_is_absent_takes_its_default_not_an_earlier_value() -> None:
    assert BaseParams.parse({"width": 768}).width == 768
    assert BaseParams.parse({"height": 384}).width == 512


@pytest.mark.parametrize("size", [384, 448, 512, 1024, 640.0])
def test_multiples_of_64_in_range_are_sizes(size: float) -> None:
    width = BaseParams.parse({"width": size}).width
    assert (width, type(width)) == (size, int)


@pytest.mark.parametrize(
    "size", [383, 320, 500, 1088, -512, True, "512", None, 512.5, [512], 1e400]
)
def test_anything_else_is_no_size(size: Any) -> None:
    with pytest.raises(
        BadParameters, match=r"^width: expected an integer from 384 to 1024, a multiple of 64, got "
    ):
        BaseParams.parse({"width": size})


@pytest.mark.parametrize("rate", [0, 61, 24.5])
def test_a_frame_rate_out_of_bounds_is_refused(rate: float) -> None:
    with pytest.raises(BadParameters, match=r"max_framerate: expected an integer from 1 to 60"):
        BaseParams.parse({"max_framerate": rate})


def test_a_flag_must_be_a_boolean() -> None:
    with pytest.raises(BadParameters, match=r"show_reloading_frame: expected true or false, got 1"):
        BaseParams.parse({"show_reloading_frame": 1})


def test_an_unknown_key_is_named_with_what_is_known() -> None:
    with pytest.raises(BadParameters, match=r"'promt': unknown parameter; known: width, height"):
        BaseParams.parse({"promt": "x"})


def test_parameters_that_are_no_object_are_refused() -> None:
    with pytest.raises(BadParameters, match=r"params: expected an object, got \['width'\]"):
        BaseParams.parse(["width"])  # type: ignore[arg-type]


def test_a_message_does_not_repeat_a_huge_value() -> None:
    with pytest.raises(BadParameters) as refusal:
        BaseParams.parse({"width": "5" * 10_000})
    assert len(str(refusal.value)) < 200


def test_a_number_is_finite_and_within_its_bounds() -> None:
    number = Number(0.0, 2.0)
    assert number.check(2) == 2.0
    for value in (float("nan"), float("inf"), -0.1, True, "1"):
        with pytest.raises(ValueError, match=r"not a number|out of range"):
            number.check(value)


def test_a_colour_is_hexadecimal_or_three_numbers() -> None:
    rgb = Rgb()
    assert rgb.check("#ff0000") == (1.0, 0.0, 0.0)
    assert rgb.check([0, 0.5, 1]) == (0.0, 0.5, 1.0)
    for value in ("red", "#ff00", "#gg0000", [0, 1], [0, 1, 2], 7, None):
        with pytest.raises(ValueError, match=r"^(not|out) "):
            rgb.check(value)


@pytest.mark.parametrize("model_id", ["noop", "passthrough"])
def test_noop_and_passthrough_ignore_unknown_keys(model_id: str) -> None:
    pipeline = built_in().create(model_id, "cpu")
    assert pipeline.parse({"prompt": "x", "width": 768}).width == 768
    with pytest.raises(BadParameters):
        pipeline.parse({"width": 100})


def test_a_model_the_build_does_not_know_is_not_capable() -> None:
    with pytest.raises(NotCapable, match="noop"):
        built_in().create("streamdiffusion", "cpu")
