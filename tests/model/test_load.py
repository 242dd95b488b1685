"""Digests of weights, and LoRAs fused into them."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from model_folders import write_model
from safetensors.torch import load_file, save_file

from lpnode.errors import ModelError
from lpnode.model.diffusion_model import DiffusionModel
from lpnode.model.load import load_model
from lpnode.model.place import ModelPlace

RANK = 2
LAYER = "down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_q"
CONVOLUTION = "down_blocks.0.resnets.0.conv1"
TEXT_LAYER = "encoder.layers.0.self_attn.q_proj"


@pytest.fixture(scope="module")
def sd15(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("sd15"))


@pytest.fixture
def copy(sd15: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(sd15, tmp_path / "model"))


def load(folder: Path, *loras: tuple[Path, float]) -> DiffusionModel:
    return load_model(ModelPlace("test", folder), loras=loras)


def test_digests_depend_on_weights_alone(sd15: Path, copy: Path, tmp_path: Path) -> None:
    one, same = load(sd15), load(copy)
    assert one.weights_sha256 == same.weights_sha256
    file = copy / "unet" / "diffusion_pytorch_model.safetensors"
    tensors = load_file(file)
    names = sorted(tensors)
    shards = {"one.safetensors": names[::2], "two.safetensors": names[1::2]}
    for shard, held in shards.items():
        save_file({name: tensors[name] for name in held}, file.with_name(shard))
    weight_map = {name: shard for shard, held in shards.items() for name in held}
    index = file.with_name(f"{file.name}.index.json")
    index.write_text(json.dumps({"weight_map": weight_map}))
    file.unlink()
    assert load(copy).weights_sha256 == one.weights_sha256
    other = load(write_model(tmp_path / "other", seed=1))
    assert other.weights_sha256["unet"] != one.weights_sha256["unet"]


@pytest.mark.gpu
def test_weights_on_a_gpu_are_those_of_the_processor(sd15: Path) -> None:
    place = ModelPlace("test", sd15)
    here = load_model(place, dtype=torch.float16)
    there = load_model(place, device="cuda", dtype=torch.float16)
    assert there.weights_sha256 == here.weights_sha256
    assert {tensor.device.type for tensor in there.unet.state_dict().values()} == {"cuda"}
    encoded = there.prompt_encoder.encode(["a b"])
    assert (encoded.tokens.device.type, encoded.tokens.dtype) == ("cuda", torch.float16)
    expected = here.prompt_encoder.encode(["a b"]).tokens
    torch.testing.assert_close(encoded.tokens.cpu().float(), expected, rtol=1e-2, atol=1e-2)


def weight_of(network: torch.nn.Module, layer: str) -> torch.Tensor:
    weight = network.get_submodule(layer).weight
    assert isinstance(weight, torch.Tensor)
    return weight


def matrices(shape: torch.Size, seed: int = 5) -> tuple[torch.Tensor, torch.Tensor]:
    """down and up for a weight of this shape."""
    generator = torch.Generator().manual_seed(seed)
    down = torch.randn(RANK, *shape[1:], generator=generator)
    up = torch.randn(shape[0], RANK, *(1 for _ in shape[2:]), generator=generator)
    return down, up


def kohya(layer: str) -> tuple[str, str, str]:
    base = "lora_unet_" + layer.replace(".", "_")
    return f"{base}.lora_down.weight", f"{base}.lora_up.weight", f"{base}.alpha"


NAMES = {
    "kohya": kohya,
    "peft": lambda layer: (
        f"unet.{layer}.lora_A.weight",
        f"unet.{layer}.lora_B.weight",
        f"unet.{layer}.alpha",
    ),
    "diffusers": lambda layer: (
        f"unet.{layer}.lora.down.weight",
        f"unet.{layer}.lora.up.weight",
        f"unet.{layer}.alpha",
    ),
}


@pytest.mark.parametrize("layer", [LAYER, CONVOLUTION])
@pytest.mark.parametrize("form", list(NAMES))
def test_a_lora_is_added_to_its_layer(sd15: Path, tmp_path: Path, form: str, layer: str) -> None:
    plain = load(sd15)
    before = weight_of(plain.unet, layer)
    down, up = matrices(before.shape)
    names = NAMES[form](layer)
    file = tmp_path / "lora.safetensors"
    save_file(dict(zip(names, (down, up, torch.tensor(1.0)), strict=True)), file)
    fused = load(sd15, (file, 0.5))
    delta = torch.einsum("or,r...->o...", up.flatten(1), down)
    torch.testing.assert_close(
        weight_of(fused.unet, layer), before + 0.5 * (1.0 / RANK) * delta, rtol=1e-5, atol=1e-6
    )
    assert fused.weights_sha256["unet"] != plain.weights_sha256["unet"]
    assert fused.weights_sha256["vae"] == plain.weights_sha256["vae"]


def test_without_alpha_the_rank_stands_for_it_and_several_add_up(
    sd15: Path, tmp_path: Path
) -> None:
    before = weight_of(load(sd15).unet, LAYER)
    deltas = []
    for number in (1, 2):
        down, up = matrices(before.shape, seed=number)
        save_file(
            dict(zip(NAMES["peft"](LAYER)[:2], (down, up), strict=True)),
            tmp_path / f"{number}.safetensors",
        )
        deltas.append(up @ down)
    fused = load(sd15, (tmp_path / "1.safetensors", 1.0), (tmp_path / "2.safetensors", -0.5))
    expected = before + deltas[0] - 0.5 * deltas[1]
    torch.testing.assert_close(weight_of(fused.unet, LAYER), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    "base",
    [
        "lora_te_text_model_encoder_layers_0_self_attn_q_proj.lora_{}.weight",
        "lora_te1_text_model_encoder_layers_0_self_attn_q_proj.lora_{}.weight",
        "text_encoder.text_model.encoder.layers.0.self_attn.q_proj.lora_linear_layer.{}.weight",
    ],
)
def test_text_encoders_take_their_part(sd15: Path, tmp_path: Path, base: str) -> None:
    before = weight_of(load(sd15).prompt_encoder.text_models[0], TEXT_LAYER)
    down, up = matrices(before.shape)
    file = tmp_path / "lora.safetensors"
    save_file({base.format("down"): down, base.format("up"): up}, file)
    fused = load(sd15, (file, 1.0)).prompt_encoder.text_models[0]
    torch.testing.assert_close(weight_of(fused, TEXT_LAYER), before + up @ down)


def test_loras_for_sdxl_name_layers_as_the_original_code_does(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "model", is_sdxl=True)
    plain = load(folder)
    unet = weight_of(plain.unet, LAYER)
    text = weight_of(plain.prompt_encoder.text_models[1], f"text_model.{TEXT_LAYER}")
    tensors = {}
    for base, weight in (
        ("lora_unet_input_blocks_3_1_transformer_blocks_0_attn1_to_q", unet),
        ("lora_te2_text_model_encoder_layers_0_self_attn_q_proj", text),
    ):
        down, up = matrices(weight.shape)
        tensors |= {f"{base}.lora_down.weight": down, f"{base}.lora_up.weight": up}
    file = tmp_path / "lora.safetensors"
    save_file(tensors, file)
    fused = load(folder, (file, 1.0))
    down, up = matrices(unet.shape)
    torch.testing.assert_close(weight_of(fused.unet, LAYER), unet + up @ down)
    down, up = matrices(text.shape)
    second = fused.prompt_encoder.text_models[1]
    torch.testing.assert_close(weight_of(second, f"text_model.{TEXT_LAYER}"), text + up @ down)


@pytest.mark.parametrize(
    ("ending", "kind"), [("dora_scale", "DoRA"), ("hada_w1_a", "LoHa"), ("lokr_w1", "LoKr")]
)
def test_other_kinds_of_adapters_are_named(
    sd15: Path, tmp_path: Path, ending: str, kind: str
) -> None:
    file = tmp_path / "lora.safetensors"
    save_file({f"lora_unet_conv_in.{ending}": torch.zeros(1)}, file)
    with pytest.raises(ModelError, match=f"{ending}: is of a {kind}, which is not supported"):
        load(sd15, (file, 1.0))


def test_a_lora_that_breaks_weights_is_refused(sd15: Path, tmp_path: Path) -> None:
    down, up = matrices(weight_of(load(sd15).unet, LAYER).shape)
    up[0] = float("inf")
    file = tmp_path / "lora.safetensors"
    save_file(dict(zip(kohya(LAYER)[:2], (down, up), strict=True)), file)
    with pytest.raises(ModelError, match=r"gives weights that torch\.float32 cannot"):
        load(sd15, (file, 1.0))


def test_a_lora_for_another_model_is_refused_by_name(sd15: Path, tmp_path: Path) -> None:
    file = tmp_path / "lora.safetensors"
    down, up = torch.zeros(RANK, 16), torch.zeros(16, RANK)
    save_file(dict(zip(kohya("mid_block.unheard.of")[:2], (down, up), strict=True)), file)
    with pytest.raises(ModelError, match=r"2 of its tensors fit no layer.*unheard_of"):
        load(sd15, (file, 1.0))
    save_file(dict(zip(kohya(LAYER)[:2], (torch.zeros(RANK, 7), up), strict=True)), file)
    with pytest.raises(ModelError, match="does not fit a weight of"):
        load(sd15, (file, 1.0))
    save_file({kohya(LAYER)[0]: torch.zeros(RANK, 16)}, file)
    with pytest.raises(ModelError, match="only one of the two matrices"):
        load(sd15, (file, 1.0))
    save_file({}, file)
    with pytest.raises(ModelError, match="it is empty"):
        load(sd15, (file, 1.0))
