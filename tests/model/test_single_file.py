"""Checkpoints in one file: held against diffusers' own converters, and what is said of bad ones."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from model_folders import write_model
from original_checkpoints import (
    WORDS,
    Original,
    make_unet,
    original,
    write_checkpoint,
    write_words,
)
from safetensors.torch import save_file

from lpnode.errors import ModelError
from lpnode.model.checkpoint_config import unet_config
from lpnode.model.diffusion_model import DiffusionModel, ModelFamily, Prediction
from lpnode.model.ldm_names import UnetNames
from lpnode.model.load import load_model
from lpnode.model.place import ModelPlace

SD15, SD21, SDXL = ModelFamily.SD15, ModelFamily.SD21, ModelFamily.SDXL
WORD_IDS = {word: number for number, word in enumerate(WORDS)}


@pytest.fixture(scope="module")
def originals(tmp_path_factory: pytest.TempPathFactory) -> dict[ModelFamily, Original]:
    return {
        family: write_checkpoint(tmp_path_factory.mktemp(family), family, name="some-base")
        for family in ModelFamily
    }


@pytest.fixture
def sd15(originals: dict[ModelFamily, Original], tmp_path: Path) -> Original:
    """A copy to damage."""
    source = originals[SD15]
    shutil.copytree(source.path.parent, tmp_path, dirs_exist_ok=True)
    return replace(source, path=tmp_path / source.path.name)


def load(source: Original, name: str = "test", tiny_vae: Path | None = None) -> DiffusionModel:
    return load_model(ModelPlace(name, source.path), tiny_vae=tiny_vae)


def assert_same(got: torch.nn.Module, expected: torch.nn.Module) -> None:
    ours, theirs = got.state_dict(), expected.state_dict()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


@pytest.mark.parametrize("family", list(ModelFamily))
def test_every_network_gets_its_own_weights(
    originals: dict[ModelFamily, Original], family: ModelFamily
) -> None:
    source = originals[family]
    model = load(source)
    assert_same(model.unet, source.unet)
    assert_same(model.vae, source.vae)
    for got, expected in zip(model.prompt_encoder.text_models, source.text_models, strict=True):
        assert_same(got, expected)
    assert model.traits.family is family
    assert model.traits.prediction is Prediction.EPSILON
    assert model.traits.latent_scale == (0.13025 if family is SDXL else 0.18215)
    assert model.unet.config.attention_head_dim == source.unet.config.attention_head_dim


@pytest.mark.parametrize("family", list(ModelFamily))
def test_diffusers_reads_the_same_names_in_the_same_way(
    originals: dict[ModelFamily, Original], family: ModelFamily
) -> None:
    from diffusers.loaders.single_file_utils import (
        convert_ldm_unet_checkpoint,
        convert_ldm_vae_checkpoint,
        convert_open_clip_checkpoint,
    )

    source = originals[family]
    tensors = source.tensors
    model = load(source)
    networks = [
        (model.unet, convert_ldm_unet_checkpoint(tensors, source.unet.config)),
        (
            model.vae,
            convert_ldm_vae_checkpoint(
                {name: tensor for name, tensor in tensors.items() if ".loss." not in name},
                source.vae.config,
            ),
        ),
    ]
    if family is SDXL:
        theirs = convert_open_clip_checkpoint(
            source.text_models[1], tensors, "conditioner.embedders.1.model."
        )
        networks.append((model.prompt_encoder.text_models[1], theirs))
    for network, expected in networks:
        ours = network.state_dict()
        assert ours.keys() == expected.keys()
        assert all(torch.equal(ours[name], expected[name]) for name in ours)


def test_prompts_are_padded_as_each_encoder_was_trained(
    originals: dict[ModelFamily, Original],
) -> None:
    model = load(originals[SDXL])
    encoded = model.prompt_encoder.encode(["a b"])
    begin, end = len(WORD_IDS) - 2, len(WORD_IDS) - 1
    ids = [begin, WORD_IDS["a</w>"], WORD_IDS["b</w>"], end]
    first, second = originals[SDXL].text_models
    padded = [torch.tensor([ids + [pad] * 4]) for pad in (end, WORD_IDS["!"])]
    with torch.inference_mode():
        outputs = [
            text_model.eval()(tokens, output_hidden_states=True)
            for text_model, tokens in zip((first, second), padded, strict=True)
        ]
    expected = torch.cat([output.hidden_states[-2] for output in outputs], dim=-1)
    torch.testing.assert_close(encoded.tokens, expected)
    torch.testing.assert_close(encoded.pooled, outputs[1].text_embeds)


@pytest.mark.parametrize(("family", "context"), [(SD15, 768), (SDXL, 2048)])
def test_the_published_unets_are_told_by_their_shapes(family: ModelFamily, context: int) -> None:
    from diffusers import UNet2DConditionModel

    is_sdxl = family is SDXL
    config = {
        "block_out_channels": [320, 640, 1280] if is_sdxl else [320, 640, 1280, 1280],
        "down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"]
        if is_sdxl
        else ["CrossAttnDownBlock2D"] * 3 + ["DownBlock2D"],
        "up_block_types": ["CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"]
        if is_sdxl
        else ["UpBlock2D"] + ["CrossAttnUpBlock2D"] * 3,
        "cross_attention_dim": context,
        "attention_head_dim": [5, 10, 20] if is_sdxl else 8,
        "use_linear_projection": is_sdxl,
        "layers_per_block": 2,
    }
    if is_sdxl:
        config |= {
            "transformer_layers_per_block": [1, 2, 10],
            "addition_embed_type": "text_time",
            "addition_time_embed_dim": 256,
            "projection_class_embeddings_input_dim": 2816,
        }
    with torch.device("meta"):
        published = UNet2DConditionModel(**config).state_dict()
    names = UnetNames(2, (False, True, True) if is_sdxl else (True, True, True, False))
    shapes = {name: tuple(tensor.shape) for name, tensor in original(published, names).items()}
    if is_sdxl:
        shapes["conditioner.embedders.1.model.text_projection"] = (1280, 1280)
    told, told_names = unet_config(shapes, family)
    depths = told.pop("transformer_layers_per_block")
    assert depths[1:] == [2, 10] if is_sdxl else depths == [1, 1, 1, 1]
    config.pop("transformer_layers_per_block", None)
    assert config.items() <= told.items()
    assert all(told_names(name) == names(name) for name in published)


@pytest.mark.parametrize(
    ("name", "prediction", "size"),
    [
        ("v2-1_768-ema-pruned", Prediction.V, 768),
        ("v2-1_512-ema-pruned", Prediction.EPSILON, 512),
        ("sd_turbo", Prediction.EPSILON, 512),
    ],
)
def test_what_sd2_predicts_is_told_from_its_published_names(
    originals: dict[ModelFamily, Original],
    tmp_path: Path,
    name: str,
    prediction: Prediction,
    size: int,
) -> None:
    path = tmp_path / f"{name}.safetensors"
    path.symlink_to(originals[SD21].path)
    write_words(tmp_path / "tokenizer")
    traits = load_model(ModelPlace(name, path)).traits
    assert (traits.prediction, traits.native_size) == (prediction, size)
    assert traits.is_turbo == ("turbo" in name)


def test_what_sd2_predicts_must_be_said_where_nothing_tells(tmp_path: Path) -> None:
    source = write_checkpoint(tmp_path, SD21, name="mine")
    with pytest.raises(ModelError, match="nothing in the file says which"):
        load(source)
    config = tmp_path / "scheduler" / "scheduler_config.json"
    config.parent.mkdir()
    config.write_text('{"prediction_type": "v_prediction"}')
    assert load(source).traits.prediction is Prediction.V
    config.unlink()
    save_file(source.tensors, source.path, {"modelspec.prediction_type": "epsilon"})
    assert load(source).traits.prediction is Prediction.EPSILON


def test_the_tokenizer_may_lie_one_folder_above_and_must_be_somewhere(tmp_path: Path) -> None:
    source = write_checkpoint(tmp_path / "one", SD15, has_words=False)
    with pytest.raises(ModelError, match=r"vocab.json and merges.txt.*--tokenizer gets it"):
        load(source)
    write_words(tmp_path / "tokenizer")
    load(source)
    (tmp_path / "tokenizer" / "merges.txt").unlink()
    with pytest.raises(ModelError, match="there is no tokenizer"):
        load(source)


def test_digests_are_those_of_the_same_weights_in_a_folder(
    originals: dict[ModelFamily, Original], tmp_path: Path
) -> None:
    source = originals[SD15]
    folder = write_model(tmp_path)
    for part in ("unet", "vae"):
        getattr(source, part).save_pretrained(tmp_path / "model" / part)
    source.text_models[0].save_pretrained(tmp_path / "model" / "text_encoder")
    write_words(tmp_path / "model" / "tokenizer")
    (folder / "model_index.json").rename(tmp_path / "model" / "model_index.json")
    model = load_model(ModelPlace("test", tmp_path / "model"))
    assert model.weights_sha256 == load(source).weights_sha256


UNET = "model.diffusion_model."


def drop(tensors: dict[str, torch.Tensor]) -> None:
    del tensors[f"{UNET}middle_block.0.in_layers.0.bias"]


def drop_first(tensors: dict[str, torch.Tensor]) -> None:
    del tensors["first_stage_model.decoder.conv_in.weight"]


def add(tensors: dict[str, torch.Tensor]) -> None:
    tensors[f"{UNET}input_blocks.1.1.surprise"] = torch.zeros(1)


def reshape(tensors: dict[str, torch.Tensor]) -> None:
    tensors["first_stage_model.decoder.mid.attn_1.q.weight"] = torch.zeros(32, 31, 1, 1)


def poison(tensors: dict[str, torch.Tensor]) -> None:
    tensors[f"{UNET}out.2.bias"][0] = float("inf")


def quantise(tensors: dict[str, torch.Tensor]) -> None:
    name = f"{UNET}out.2.weight"
    tensors[name] = tensors[name].to(torch.float8_e4m3fn)


def widen(tensors: dict[str, torch.Tensor]) -> None:
    tensors[f"{UNET}input_blocks.0.0.weight"] = torch.zeros(32, 9, 3, 3)


def take_text_encoder(tensors: dict[str, torch.Tensor]) -> None:
    for name in [name for name in tensors if name.startswith("cond_stage_model")]:
        del tensors[name]


def make_refiner(tensors: dict[str, torch.Tensor]) -> None:
    tensors["conditioner.embedders.0.model.positional_embedding"] = torch.zeros(1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (drop, "lacks 1 tensors: model.diffusion_model.middle_block.0.in_layers.0.bias"),
        (drop_first, "is no complete checkpoint: it lacks decoder.conv_in.weight"),
        (add, "has unknown 1 tensors: model.diffusion_model.input_blocks.1.1.surprise"),
        (reshape, r"attn_1.q.weight: has the shape \(32, 31, 1, 1\), .* needs \(32, 32\) for"),
        (poison, "out.2.bias: has values that are not numbers"),
        (quantise, "out.2.weight: is of torch.float8_e4m3fn; weights must be float16"),
        (widen, "takes 9 channels and gives 4: models for inpainting"),
        (take_text_encoder, "has no text encoder"),
        (make_refiner, "is SDXL's refiner"),
    ],
)
def test_wrong_tensors_are_named_as_the_file_has_them(
    sd15: Original, change: Callable[[dict[str, torch.Tensor]], None], message: str
) -> None:
    sd15.rewrite(change)
    with pytest.raises(ModelError, match=message) as caught:
        load(sd15)
    assert str(sd15.path) in str(caught.value)


@pytest.mark.parametrize(
    ("tensor", "what"),
    [
        ("lora_unet_mid_block.lora_down.weight", "a LoRA"),
        ("control_model.zero_convs.0.0.weight", "a ControlNet"),
        ("encoder.down.0.block.0.conv1.weight", "an autoencoder"),
        ("text_model.embeddings.token_embedding.weight", "a text encoder"),
        ("down_blocks.0.resnets.0.conv1.weight", "a UNet of diffusers"),
        ("model.diffusion_model.joint_blocks.0.x", "of another architecture"),
        ("something", "input_blocks.0.0.weight is missing"),
    ],
)
def test_a_file_that_is_no_checkpoint_is_told_for_what_it_is(
    tmp_path: Path, tensor: str, what: str
) -> None:
    path = tmp_path / "file.safetensors"
    save_file({tensor: torch.zeros(1)}, path)
    with pytest.raises(ModelError, match=f"is no Stable Diffusion checkpoint: .*{what}"):
        load_model(ModelPlace("test", path))


def test_a_pickled_checkpoint_is_refused_with_the_reason(tmp_path: Path) -> None:
    path = tmp_path / "model.ckpt"
    path.write_bytes(b"\x80\x02}")
    with pytest.raises(ModelError, match="pickles, which can run any code"):
        load_model(ModelPlace("test", path))


def test_the_text_encoder_of_another_model_is_noticed_before_weights_are_read(
    sd15: Original,
) -> None:
    names = UnetNames(2, (True, False))
    sd15.rewrite(lambda tensors: tensors.update(original(make_unet(SD15, 48).state_dict(), names)))
    with pytest.raises(ModelError, match=r"gives texts of width 32, but .* takes 48"):
        load(sd15)
