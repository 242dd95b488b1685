"""``lpnode model``: what is on this machine, and what is wrong with it."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from model_folders import write_model
from original_checkpoints import write_checkpoint
from safetensors.torch import load_file, save_file

from lpnode.cli import main
from lpnode.model.diffusion_model import ModelFamily
from lpnode.model.load import load_model
from lpnode.model.place import ModelPlace

UNET = Path("unet") / "diffusion_pytorch_model.safetensors"


@pytest.fixture(scope="module")
def sd15(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("sd15"))


def test_a_local_folder_is_added_listed_and_checked(
    sd15: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    where = ("--models-dir", str(tmp_path / "models"))
    assert main(["model", "add", str(sd15), "--name", "some/model", *where]) == 0
    assert (tmp_path / "models" / "some--model" / "model_index.json").is_file()
    capsys.readouterr()
    assert main(["model", "list", "--json", *where]) == 0
    listed = {model["name"]: model for model in json.loads(capsys.readouterr().out)}
    assert listed["some/model"]["kind"] == "model"
    assert listed["some/model"]["family"] == "sd15"
    assert listed["some/model"]["precisions"] == ["float32"]
    assert listed["some/model"]["bytes"] > 10_000
    assert main(["model", "check", "some/model", *where]) == 0
    out = capsys.readouterr().out
    assert "every weight" in out
    digests = load_model(ModelPlace("some/model", sd15)).weights_sha256
    assert f"unet {digests['unet']}" in out
    assert main(["model", "add", str(sd15), "--name", "some/model", *where]) == 2
    assert "exists already" in capsys.readouterr().err


def test_a_damaged_model_is_told_from_a_sound_one(
    sd15: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    where = ("--models-dir", str(tmp_path))
    model = tmp_path / "some--model"
    shutil.copytree(sd15, model)
    tensors = load_file(model / UNET)
    tensors["conv_in.bias"][0] = float("inf")
    save_file(tensors, model / UNET)
    assert main(["model", "list", *where]) == 0  # headers alone
    assert main(["model", "check", "some/model", *where]) == 1
    assert "conv_in.bias: has values that are not numbers" in capsys.readouterr().err
    (model / UNET).write_bytes((model / UNET).read_bytes()[:-1])
    assert main(["model", "list", *where]) == 1
    assert "cut off" in " ".join(capsys.readouterr().out.split())


def test_parts_that_do_not_fit_are_found_by_the_check(
    sd15: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = tmp_path / "some--model"
    shutil.copytree(sd15, model)
    shutil.copy(model / "vae" / UNET.name, model / UNET)
    assert main(["model", "check", "some/model", "--models-dir", str(tmp_path)]) == 1
    assert "does not fit UNet2DConditionModel: lacks" in capsys.readouterr().err


def test_a_checkpoint_is_added_with_the_words_that_it_needs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    where = ("--models-dir", str(tmp_path / "models"))
    path = write_checkpoint(tmp_path / "given", ModelFamily.SD15).path
    assert main(["model", "add", str(path), "--name", "own/model", *where]) == 0
    assert main(["model", "check", "own/model", *where]) == 1
    assert "lpnode model add OWNER/NAME --tokenizer gets it" in capsys.readouterr().err
    assert main(["model", "add", str(path.parent), "--tokenizer", *where]) == 0
    assert main(["model", "check", "own/model", *where]) == 0
    capsys.readouterr()
    assert main(["model", "list", "--json", *where]) == 0
    listed = {model["name"]: model for model in json.loads(capsys.readouterr().out)}
    assert "tokenizer" not in listed
    assert (listed["own/model"]["kind"], listed["own/model"]["family"]) == ("checkpoint", "sd15")
    assert main(["model", "add", str(tmp_path), "--tokenizer", *where]) == 2
    assert "has no tokenizer of CLIP" in capsys.readouterr().err


def test_loras_and_autoencoders_are_told_apart_and_checked(
    sd15: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    where = ("--models-dir", str(tmp_path))
    shutil.copytree(sd15 / "vae", tmp_path / "some--vae")
    (tmp_path / "some--lora").mkdir()
    file = tmp_path / "some--lora" / "pytorch_lora_weights.safetensors"
    save_file({"unet.conv_in.lora_A.weight": torch.zeros(1)}, file)
    assert main(["model", "list", "--json", *where]) == 0
    kinds = {model["name"]: model["kind"] for model in json.loads(capsys.readouterr().out)}
    assert (kinds["some/vae"], kinds["some/lora"]) == ("autoencoder", "LoRA")
    for name in ("some--vae", "some--lora"):
        assert main(["model", "check", str(tmp_path / name), *where]) == 0
    save_file({"unet.conv_in.lora_A.weight": torch.full((1,), float("nan"))}, file)
    assert main(["model", "check", str(file.parent), *where]) == 1


def test_what_is_not_there_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    where = ("--models-dir", str(tmp_path))
    assert main(["model", "check", "no/model", *where]) == 2
    assert "lpnode model add no/model" in capsys.readouterr().err
    text = tmp_path / "words.txt"
    text.write_text("no model")
    assert main(["model", "add", str(text), *where]) == 2
    assert "expected a model folder" in capsys.readouterr().err
