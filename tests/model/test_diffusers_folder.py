"""Folders as diffusers writes them: what is loaded, and what is said of those that are damaged."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from model_folders import TEXT_WIDTH, write_model
from safetensors.torch import load_file, save_file

from lpnode.errors import ModelError
from lpnode.model.diffusers_folder import load_folder
from lpnode.model.diffusion_model import ModelFamily, Prediction


@pytest.fixture(scope="module")
def sd15(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("sd15"))


@pytest.fixture(scope="module")
def sdxl(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("sdxl"), is_sdxl=True, is_tiny_vae=False)


@pytest.fixture
def copy(sd15: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(sd15, tmp_path / "model"))


def test_networks_are_the_very_ones_that_were_saved(sd15: Path) -> None:
    from diffusers import AutoencoderTiny, UNet2DConditionModel

    model = load_folder(sd15, name="test")
    for got, kind, part in (
        (model.unet, UNet2DConditionModel, "unet"),
        (model.vae, AutoencoderTiny, "vae"),
    ):
        expected = kind.from_pretrained(sd15 / part).state_dict()
        assert got.state_dict().keys() == expected.keys()
        assert all(torch.equal(value, expected[name]) for name, value in got.state_dict().items())
        assert not got.training


def test_traits_are_read_from_the_folder(sd15: Path, sdxl: Path) -> None:
    traits = load_folder(sd15, name="some-turbo").traits
    assert (traits.family, traits.prediction) == (ModelFamily.SD15, Prediction.EPSILON)
    assert (traits.is_turbo, traits.is_tiny_vae, traits.latent_scale) == (True, True, 1.0)
    assert (traits.num_text_tokens, traits.text_width, traits.native_size) == (8, TEXT_WIDTH, 64)
    large = load_folder(sdxl, name="large").traits
    assert (large.family, large.pooled_width) == (ModelFamily.SDXL, TEXT_WIDTH)
    assert (large.is_turbo, large.is_tiny_vae, large.latent_scale) == (False, False, 0.18215)


def test_prompts_are_encoded_as_diffusers_does_it(sd15: Path, sdxl: Path) -> None:
    from diffusers import StableDiffusionPipeline, StableDiffusionXLPipeline

    texts = ["a cat", "dogs and trees and much more than fits"]
    reference = StableDiffusionPipeline.from_pretrained(sd15)
    expected, _ = reference.encode_prompt(texts, "cpu", 1, do_classifier_free_guidance=False)
    got = load_folder(sd15, name="test").prompt_encoder.encode(texts)
    torch.testing.assert_close(got.tokens, expected)
    assert got.pooled is None

    large = StableDiffusionXLPipeline.from_pretrained(sdxl)
    tokens, _, pooled, _ = large.encode_prompt(texts, do_classifier_free_guidance=False)
    got = load_folder(sdxl, name="test").prompt_encoder.encode(texts)
    torch.testing.assert_close(got.tokens, tokens)
    torch.testing.assert_close(got.pooled, pooled)


def test_encoders_written_before_transformers_5_6_are_read_too(copy: Path) -> None:
    before = load_folder(copy, name="test").prompt_encoder.encode(["a"])
    file = copy / "text_encoder" / "model.safetensors"
    tensors = {f"text_model.{name}": tensor for name, tensor in load_file(file).items()}
    positions = torch.arange(8).expand(1, -1).contiguous()
    save_file(tensors | {"text_model.embeddings.position_ids": positions}, file)
    after = load_folder(copy, name="test").prompt_encoder.encode(["a"])
    assert torch.equal(after.tokens, before.tokens)


def test_half_precision_halves_networks_and_leaves_prompts_exact(sd15: Path) -> None:
    model = load_folder(sd15, name="test", dtype=torch.float16)
    assert {p.dtype for p in model.unet.parameters()} == {torch.float16}
    assert model.prompt_encoder.encode(["a"]).tokens.dtype == torch.float32


def test_progress_counts_every_byte(sd15: Path) -> None:
    seen: dict[str, list[tuple[int, int]]] = {}

    def note(what: str, num_done: int, num_bytes: int) -> None:
        seen.setdefault(what, []).append((num_done, num_bytes))

    load_folder(sd15, name="test", progress=note)
    assert set(seen) == {"UNet2DConditionModel", "AutoencoderTiny", "CLIPTextModel"}
    assert all(steps[-1][0] == steps[-1][1] for steps in seen.values())


def rewrite(folder: Path, change: Callable[[dict[str, torch.Tensor]], None]) -> Path:
    """Changes the tensors of the UNet."""
    file = folder / "unet" / "diffusion_pytorch_model.safetensors"
    tensors = load_file(file)
    change(tensors)
    save_file(tensors, file)
    return file


def reshape(tensors: dict[str, torch.Tensor]) -> None:
    tensors["conv_in.weight"] = torch.zeros(8, 5, 3, 3)


def drop(tensors: dict[str, torch.Tensor]) -> None:
    del tensors["conv_in.bias"]


def add(tensors: dict[str, torch.Tensor]) -> None:
    tensors["surprise"] = torch.zeros(1)


def poison(tensors: dict[str, torch.Tensor]) -> None:
    tensors["conv_in.bias"][0] = float("nan")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (reshape, r"conv_in.weight: has the shape \(8, 5, 3, 3\), .* needs \(8, 4, 3, 3\)"),
        (drop, "lacks 1 tensors: conv_in.bias"),
        (add, "has unknown 1 tensors: surprise"),
        (poison, "conv_in.bias: has values that are not numbers"),
    ],
)
def test_wrong_tensors_are_named_with_their_file(
    copy: Path, change: Callable[[dict[str, torch.Tensor]], None], message: str
) -> None:
    file = rewrite(copy, change)
    with pytest.raises(ModelError, match=message) as caught:
        load_folder(copy, name="test")
    assert str(file) in str(caught.value)


def test_a_weight_too_large_for_half_precision_is_named(copy: Path) -> None:
    rewrite(copy, lambda tensors: tensors["conv_in.bias"].fill_(1e6))
    with pytest.raises(ModelError, match=r"conv_in.bias: has values that torch.float16 cannot"):
        load_folder(copy, name="test", dtype=torch.float16)


def test_a_file_that_is_cut_off_is_named(copy: Path) -> None:
    file = copy / "unet" / "diffusion_pytorch_model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(ModelError, match="the file is cut off"):
        load_folder(copy, name="test")


@pytest.mark.parametrize("content", [b"", b"\x80\x04pickle", b"\xff" * 64, b"\x02\0\0\0\0\0\0\0[]"])
def test_what_is_no_safetensors_file_is_refused(copy: Path, content: bytes) -> None:
    file = copy / "unet" / "diffusion_pytorch_model.safetensors"
    file.write_bytes(content)
    with pytest.raises(ModelError, match="not a safetensors file"):
        load_folder(copy, name="test")


def test_pickles_are_refused_with_the_reason(copy: Path) -> None:
    file = copy / "unet" / "diffusion_pytorch_model.safetensors"
    file.rename(file.with_suffix(".bin"))
    with pytest.raises(ModelError, match="are pickles, which are not read"):
        load_folder(copy, name="test")


def test_files_that_were_mixed_up_are_noticed(copy: Path) -> None:
    vae = copy / "vae" / "diffusion_pytorch_model.safetensors"
    shutil.copy(vae, copy / "unet" / vae.name)
    with pytest.raises(ModelError, match="does not fit UNet2DConditionModel: lacks"):
        load_folder(copy, name="test")
    shutil.copy(copy / "vae" / "config.json", copy / "unet" / "config.json")
    with pytest.raises(ModelError, match="_class_name: expected UNet2DConditionModel, got"):
        load_folder(copy, name="test")


def change_config(folder: Path, part: str, **changes: object) -> None:
    path = folder / part / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.mark.parametrize(
    ("part", "changes", "message"),
    [
        ("unet", {"cross_attention_dim": 24}, r"gives texts of width 16, but .* takes 24"),
        ("unet", {"in_channels": 9}, "models for inpainting or editing are not supported"),
        ("unet", {"class_embed_type": "timestep"}, "class_embed_type 'timestep' is not supported"),
        ("vae", {"latent_channels": 16}, r"has latents of 16 channels, but .* takes 4"),
        ("text_encoder", {"architectures": ["T5Model"]}, "expected CLIPTextModel, got"),
        ("text_encoder", {"vocab_size": 9}, "the tokenizer has 54 words, but .* knows 9"),
        ("text_encoder", {"hidden_size": "16"}, "no network can be made of it"),
    ],
)
def test_networks_that_do_not_belong_together_are_named(
    copy: Path, part: str, changes: dict[str, object], message: str
) -> None:
    change_config(copy, part, **changes)
    with pytest.raises(ModelError, match=message):
        load_folder(copy, name="test")


def test_sdxls_encoders_in_another_model_are_noticed(sdxl: Path, sd15: Path, copy: Path) -> None:
    shutil.rmtree(copy / "text_encoder")
    shutil.copytree(sdxl / "text_encoder_2", copy / "text_encoder")
    with pytest.raises(ModelError, match="expected CLIPTextModel, got"):
        load_folder(copy, name="test")
    shutil.rmtree(copy)
    shutil.copytree(sdxl, copy)
    change_config(copy, "text_encoder_2", projection_dim=24)
    with pytest.raises(ModelError, match=r"gives pooled texts of width 24, but .* takes 16"):
        load_folder(copy, name="test")
    shutil.rmtree(copy / "unet")
    shutil.copytree(sd15 / "unet", copy / "unet")
    with pytest.raises(ModelError, match="needs one text encoder, but the model has 2"):
        load_folder(copy, name="test")


@pytest.mark.parametrize("part", ["unet", "vae", "text_encoder", "tokenizer", "model_index.json"])
def test_a_missing_part_is_named(copy: Path, part: str) -> None:
    path = copy / part
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    with pytest.raises(ModelError, match=part):
        load_folder(copy, name="test")


@pytest.mark.parametrize(
    "text", ["{", "[]", '{"_class_name": "UNet2DConditionModel", "layers": 1}']
)
def test_a_config_that_makes_no_network_is_named(copy: Path, text: str) -> None:
    (copy / "unet" / "config.json").write_text(text)
    with pytest.raises(ModelError, match=r"unet.*(config\.json|safetensors)"):
        load_folder(copy, name="test")


def test_an_unknown_prediction_type_is_named(copy: Path) -> None:
    (copy / "scheduler" / "scheduler_config.json").write_text('{"prediction_type": "flow"}')
    with pytest.raises(ModelError, match="prediction_type: expected epsilon or v_prediction"):
        load_folder(copy, name="test")
