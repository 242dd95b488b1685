"""Models by id: what is found in the folder of models, and what belongs to it."""

import dataclasses
import logging
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from model_folders import write_model
from safetensors.torch import save_file

from lpnode.errors import BadParameters, ConfigError, ModelError, NotCapable
from lpnode.model import weights
from lpnode.model.place import ModelPlace, find_model
from lpnode.pipeline.backend.engine_key import Precision
from lpnode.pipeline.backend.networks import NetworkShapes
from lpnode.pipeline.catalog import Catalog, built_in
from lpnode.pipeline.open_model import DiffusionConfig, ModelOpener, OpenModel, choose_device
from lpnode.pipeline.stream_diffusion.params import SmallStreamDiffusionParams

SHAPES = NetworkShapes(width=64, height=64, max_images=1, max_rows=2)
LAYER = "lora_unet_down_blocks_1_attentions_0_transformer_blocks_0_attn1_to_q"


@pytest.fixture(scope="module")
def sd15(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("sd15"), scheduler="DDIMScheduler")


@pytest.fixture
def models(sd15: Path, tmp_path: Path) -> Path:
    """A folder of models with one in it, ``some/model``."""
    folder = tmp_path / "models"
    shutil.copytree(sd15, folder / "some--model")
    return folder


@pytest.fixture
def opener(models: Path, tmp_path: Path) -> ModelOpener:
    return ModelOpener(
        place=find_model("some/model", models),
        config=DiffusionConfig(
            models_dir=models, engines_dir=tmp_path / "engines", backend="torch"
        ),
        device="cpu",
    )


def test_8_bits_go_with_a_backend_that_has_them(models: Path, tmp_path: Path) -> None:
    def opener_with(backend: str) -> ModelOpener:
        config = DiffusionConfig(
            models_dir=models, engines_dir=tmp_path, backend=backend, precision="int8"
        )
        return ModelOpener(place=ModelPlace("tiny", models), config=config, device="cuda:0")

    assert opener_with("tensorrt").numbers.engines is Precision.INT8
    with pytest.raises(ConfigError, match=r"-aiPrecision int8: is for .*Backend compiled has no"):
        opener_with("compiled")


def opened(opener: ModelOpener, **wishes: object) -> Iterator[OpenModel]:
    model = opener.open(SHAPES, **{"is_for_frames": True, **wishes})  # type: ignore[arg-type]
    yield model
    model.unload()


def write_lora(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    generator = torch.Generator().manual_seed(1)
    down, up = torch.randn(2, 2, 16, generator=generator)
    save_file(
        {f"{LAYER}.lora_down.weight": down, f"{LAYER}.lora_up.weight": up.T.contiguous()}, path
    )
    return path


def digest(opener: ModelOpener, **wishes: object) -> str:
    (model,) = opened(opener, **wishes)
    return model.model.weights_sha256["unet"]


def test_models_are_found_by_id_by_path_and_in_a_hugging_face_cache(
    models: Path, sd15: Path
) -> None:
    assert find_model("some/model", models).path == models / "some--model"
    assert find_model(str(sd15), models).path == sd15
    cached = models / "models--other--model" / "snapshots" / "abc"
    shutil.copytree(sd15, cached)
    assert find_model("other/model", models).path == cached
    checkpoint = models / "old--model.safetensors"
    checkpoint.touch()
    assert find_model("old/model", models) == ModelPlace("old/model", checkpoint)
    added = models / "added--model" / "file.safetensors"
    added.parent.mkdir()
    added.touch()
    assert find_model("added/model", models) == ModelPlace("added/model", added)
    assert find_model(str(added.parent), models).path == added


@pytest.mark.parametrize("name", ["no/model", "../models/some--model", "/no/such/folder", "~/no"])
def test_a_model_that_is_not_there_is_named_with_the_command_that_gets_it(
    models: Path, name: str
) -> None:
    with pytest.raises(ConfigError, match=r"lpnode model add|no such model folder"):
        find_model(name, models)


def test_loras_are_fused_by_their_path_below_the_folder_of_models(
    opener: ModelOpener, models: Path
) -> None:
    write_lora(models / "styles" / "ink.safetensors")
    plain = digest(opener)
    assert digest(opener, loras=[("styles/ink.safetensors", 0.5)]) != plain
    assert digest(opener, loras=[("styles/ink.safetensors", 0.0)]) == plain


@pytest.mark.parametrize("name", ["/etc/passwd", "../secret.safetensors", "no.safetensors", "a"])
def test_peers_cannot_have_other_files_read(opener: ModelOpener, models: Path, name: str) -> None:
    write_lora(models.parent / "secret.safetensors")
    with pytest.raises(BadParameters, match=r"no LoRA .* in the node's folder of models"):
        digest(opener, loras=[(name, 1.0)])


def test_few_steps_get_the_family_s_lcm_lora_if_it_is_there(
    opener: ModelOpener, models: Path, caplog: pytest.LogCaptureFixture
) -> None:
    plain = digest(opener)
    assert digest(opener, use_lcm_lora=True) == plain
    assert "lpnode model add latent-consistency/lcm-lora-sdv1-5" in caplog.text
    name = "latent-consistency--lcm-lora-sdv1-5/pytorch_lora_weights.safetensors"
    write_lora(models / name)
    fused = digest(opener, use_lcm_lora=True)
    assert fused != plain
    # One that a stream asks for itself is not fused twice.
    assert digest(opener, use_lcm_lora=True, loras=[(name, 1.0)]) == fused


def test_a_model_is_read_once_and_its_digest_is_of_what_is_fused(
    opener: ModelOpener, models: Path
) -> None:
    write_lora(models / "latent-consistency--lcm-lora-sdv1-5" / "pytorch_lora_weights.safetensors")
    networks: list[str] = []

    def note(what: str, num_done: int, num_bytes: int) -> None:
        if num_done == num_bytes:
            networks.append(what)

    (model,) = opened(dataclasses.replace(opener, progress=note), use_lcm_lora=True)
    assert model.has_lcm_lora
    assert networks.count("UNet2DConditionModel") == 1
    assert model.model.weights_sha256["unet"] == weights.digest(model.model.unet)


def test_frames_take_the_small_autoencoder_where_there_is_one(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    models = tmp_path / "models"
    write_model(models / "some--model", is_tiny_vae=False)
    opener = ModelOpener(
        place=find_model("some/model", models),
        config=DiffusionConfig(models_dir=models, engines_dir=tmp_path, backend="torch"),
        device="cpu",
    )
    (own,) = opened(opener)
    assert not own.model.traits.is_tiny_vae
    assert "lpnode model add madebyollin/taesd" in caplog.text
    tiny = write_model(tmp_path / "other") / "vae"
    shutil.copytree(tiny, models / "madebyollin--taesd")
    (small,) = opened(opener)
    assert (small.model.traits.is_tiny_vae, small.model.traits.latent_scale) == (True, 1.0)
    (for_pictures,) = opened(opener, is_for_frames=False)
    assert not for_pictures.model.traits.is_tiny_vae


def test_in_bfloat16_the_networks_are_loaded_so_and_frames_are_not(
    opener: ModelOpener, models: Path
) -> None:
    write_lora(models / "ink.safetensors")
    config = dataclasses.replace(opener.config, precision="bf16", backend="auto")
    half = dataclasses.replace(opener, config=config)
    (model,) = opened(half, loras=[("ink.safetensors", 1.0)])
    assert half.dtype == model.networks.dtype == torch.float32
    assert next(model.model.unet.parameters()).dtype == torch.bfloat16
    with pytest.raises(ConfigError, match="-aiPrecision fp16"):
        dataclasses.replace(opener, config=dataclasses.replace(config, precision="fp16"))


@pytest.fixture
def catalog(models: Path, tmp_path: Path) -> Catalog:
    return built_in(DiffusionConfig(models_dir=models, engines_dir=tmp_path / "engines"))


def test_every_model_folder_is_served_by_its_id(catalog: Catalog) -> None:
    assert "some/model" in catalog
    pipeline = catalog.create("some/model", "cpu")
    assert pipeline.spec.value_range == (-1.0, 1.0)
    assert pipeline.parse({}).width == 512


def test_a_lora_that_is_not_there_is_told_by_the_name_of_the_parameter(catalog: Catalog) -> None:
    pipeline = catalog.create("some/model", "cpu")
    with pytest.raises(BadParameters, match=r"^lora_dict: there is no LoRA 'ink'"):
        pipeline.prepare(pipeline.parse({"lora_dict": {"ink": 0.5}}))


def test_the_model_that_ships_is_served_small(catalog: Catalog) -> None:
    params = catalog.create("lpnode/shapes", "cpu").parse({})
    assert isinstance(params, SmallStreamDiffusionParams)
    assert (params.width, params.prompt) == (128, (("a red circle", 1.0),))


def test_a_known_id_without_weights_says_how_to_get_them(catalog: Catalog) -> None:
    assert "streamdiffusion" in catalog
    with pytest.raises(ConfigError, match="lpnode model add stabilityai/sd-turbo"):
        catalog.create("streamdiffusion", "cpu")


def test_weights_that_go_away_while_a_node_runs_are_missed_when_they_are_loaded(
    catalog: Catalog, models: Path
) -> None:
    make = catalog.maker("some/model")
    shutil.rmtree(models)
    with pytest.raises(ModelError, match=rf"^{re.escape(str(models))}.*: "):
        make("cpu").load()


def test_an_unknown_id_is_refused(catalog: Catalog, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    assert "no/model" not in catalog
    assert "streamdiffusion" not in built_in()
    with pytest.raises(NotCapable, match="unknown model 'no/model'; this node knows"):
        catalog.create("no/model", "cpu")


def test_models_run_on_the_gpu_that_was_chosen_or_on_the_first(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert choose_device(None) == "cuda:0"
    assert choose_device(1) == "cuda:1"
    assert choose_device(None, may_use_gpu=False) == "cpu"
    with pytest.raises(ConfigError, match="-nvidia 2: torch sees 2 GPUs"):
        choose_device(2)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    assert choose_device(None) == "cpu"
