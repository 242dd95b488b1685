"""What gateways may send, and what they are told otherwise. Source: live.md section 7.3."""

from typing import Any

import pytest

from lpnode.errors import BadParameters
from lpnode.pipeline.stream_diffusion.guidance import GuidanceMode
from lpnode.pipeline.stream_diffusion.params import (
    SmallStreamDiffusionParams,
    StreamDiffusionParams,
)

PUBLISHED_DEFAULTS = {
    "width": 512,
    "height": 512,
    "show_reloading_frame": True,
    "prompt": (("flowers", 1.0),),
    "prompt_interpolation_method": "slerp",
    "normalize_prompt_weights": True,
    "negative_prompt": "blurry, low quality, flat, 2d",
    "guidance_scale": 1.0,
    "delta": 0.7,
    "num_inference_steps": 50,
    "t_index_list": (12, 20, 32),
    "lora_dict": (),
    "use_lcm_lora": True,
    "lcm_lora_id": "latent-consistency/lcm-lora-sdv1-5",
    "acceleration": "tensorrt",
    "use_safety_checker": True,
    "safety_checker_threshold": 0.5,
    "use_denoising_batch": True,
    "do_add_noise": True,
    "skip_diffusion": False,
    "seed": ((789, 1.0),),
    "seed_interpolation_method": "linear",
    "normalize_seed_weights": True,
    "enable_similar_image_filter": False,
    "similar_image_filter_threshold": 0.98,
    "similar_image_filter_max_skip_frame": 10,
}


def test_absent_keys_take_the_published_defaults() -> None:
    params = StreamDiffusionParams.parse({}).as_dict()
    assert {name: params[name] for name in PUBLISHED_DEFAULTS} == PUBLISHED_DEFAULTS


def test_a_model_s_own_defaults_stand_in_for_the_published_ones() -> None:
    params = StreamDiffusionParams.parse({"delta": 0.5}, {"prompt": "a cat", "delta": 0.9})
    assert params.prompt == (("a cat", 1.0),)
    assert params.delta == 0.5


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ({"prompt": [["a", 1], ["b", 0.5]]}, {"prompt": (("a", 1.0), ("b", 0.5))}),
        ({"seed": [[7, 1], [8, 2]]}, {"seed": ((7, 1.0), (8, 2.0))}),
        ({"seed": 0}, {"seed": ((0, 1.0),)}),
        ({"t_index_list": [0, 0, 49]}, {"t_index_list": (0, 0, 49)}),
        ({"lora_dict": {"x": 0.5}}, {"lora_dict": (("x", 0.5),)}),
        ({"controlnets": [], "ip_adapter": {"enabled": False}}, {"controlnets": None}),
        ({"cfg_type": "full"}, {"cfg_type": GuidanceMode.FULL}),
        ({"guidance_scale": -1}, {"guidance_scale": -1.0}),
    ],
    ids=str,
)
def test_what_gateways_send_is_understood(raw: dict[str, Any], expected: dict[str, Any]) -> None:
    params = StreamDiffusionParams.parse(raw)
    assert {name: getattr(params, name) for name in expected} == expected


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        ({"prompt": 3}, "prompt: expected a string"),
        ({"prompt": []}, "prompt: expected"),
        ({"prompt": [["a"]]}, "prompt: expected"),
        ({"prompt": [["a", -1]]}, "prompt: expected .* not negative"),
        ({"prompt": [["a", 0], ["b", 0]]}, "prompt: expected .* not all 0"),
        ({"prompt": "x" * 10_001}, "prompt: expected a string of at most 10000"),
        ({"prompt": [["a", float("nan")]]}, "prompt: expected"),
        ({"seed": "7"}, "seed: expected an integer"),
        ({"seed": -1}, "seed: expected an integer from 0"),
        ({"seed": [[1.5, 1]]}, "seed: expected an integer"),
        ({"t_index_list": []}, "t_index_list: expected 1 to 4"),
        ({"t_index_list": [1, 2, 3, 4, 5]}, "t_index_list: expected 1 to 4"),
        ({"t_index_list": [20, 10]}, "t_index_list: .*do not decrease"),
        ({"t_index_list": [50]}, "t_index_list: .*num_inference_steps - 1 = 49"),
        ({"t_index_list": "12"}, "t_index_list: expected"),
        ({"num_inference_steps": 0}, "num_inference_steps: expected an integer from 1 to 100"),
        ({"num_inference_steps": 20, "t_index_list": [25]}, "t_index_list: .*= 19"),
        ({"guidance_scale": "1"}, "guidance_scale: expected a number"),
        ({"delta": float("inf")}, "delta: expected a number"),
        ({"acceleration": "cuda"}, "acceleration: expected one of none, xformers, tensorrt"),
        ({"cfg_type": "half"}, "cfg_type: expected one of none, full, self, initialize"),
        ({"seed_interpolation_method": 1}, "seed_interpolation_method: expected one of"),
        ({"lora_dict": ["x"]}, "lora_dict: expected null"),
        ({"lora_dict": {"x": "1"}}, "lora_dict: expected null"),
        ({"controlnets": [{"model_id": "x"}]}, "controlnets: .*not in this build"),
        ({"cached_attention": {}}, "cached_attention: .*not in this build"),
        ({"width": 300}, "width: expected an integer from 384"),
        ({"promt": "x"}, "'promt': unknown parameter"),
        ([], "params: expected an object"),
    ],
    ids=str,
)
def test_what_cannot_be_used_is_refused_by_name(raw: Any, message: str) -> None:
    with pytest.raises(BadParameters, match=message):
        StreamDiffusionParams.parse(raw)


def test_fewer_inference_steps_alone_cut_the_default_indices_to_the_grid() -> None:
    assert StreamDiffusionParams.parse({"num_inference_steps": 25}).t_index_list == (12, 20, 24)
    assert StreamDiffusionParams.parse({"num_inference_steps": 25.0}).t_index_list == (12, 20, 24)
    assert StreamDiffusionParams.parse({"num_inference_steps": 1}).t_index_list == (0, 0, 0)


def test_small_models_take_small_pictures() -> None:
    params = SmallStreamDiffusionParams.parse({"width": 64})
    assert (params.width, params.height) == (64, 128)
    with pytest.raises(BadParameters, match="height: expected an integer from 64 to 512"):
        SmallStreamDiffusionParams.parse({"height": 1024})
