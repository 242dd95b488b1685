"""Which number types a model runs in, on a processor and on a GPU."""

import pytest
import torch

from lpnode.errors import ConfigError
from lpnode.pipeline.backend.engine_key import Precision
from lpnode.pipeline.precision import NumberTypes, number_types


@pytest.mark.parametrize(
    ("precision", "device", "frames", "weights"),
    [
        ("auto", "cpu", torch.float32, torch.float32),
        ("fp32", "cpu", torch.float32, torch.float32),
        ("bf16", "cpu", torch.float32, torch.bfloat16),
        ("auto", "cuda:0", torch.float16, torch.float16),
        ("fp16", "cuda:0", torch.float16, torch.float16),
        ("bf16", "cuda:1", torch.bfloat16, torch.bfloat16),
        ("fp32", "cuda:0", torch.float32, torch.float32),
    ],
)
def test_a_device_runs_in_what_is_asked_for_and_a_processor_s_frames_stay_float32(
    precision: str, device: str, frames: torch.dtype, weights: torch.dtype
) -> None:
    assert number_types(precision, device) == NumberTypes(frames, weights)


@pytest.mark.parametrize(
    ("precision", "engines"), [("int8", Precision.INT8), ("fp8", Precision.FP8)]
)
def test_8_bits_are_for_engines_and_the_rest_is_float16(precision: str, engines: Precision) -> None:
    expected = NumberTypes(torch.float16, torch.float16, engines)
    assert number_types(precision, "cuda:0") == expected


@pytest.mark.parametrize("precision", ["fp16", "int8", "fp8"])
def test_what_is_a_gpu_s_is_refused_on_a_processor_with_what_to_choose_instead(
    precision: str,
) -> None:
    said = f"-aiPrecision {precision}: .* choose bf16 or fp32, or leave"
    with pytest.raises(ConfigError, match=said):
        number_types(precision, "cpu")


def test_a_precision_that_there_is_not_is_refused_with_those_there_are() -> None:
    with pytest.raises(
        ConfigError, match="one of auto, fp32, fp16, bf16, int8, fp8, got 'float16'"
    ):
        number_types("float16", "cuda:0")
