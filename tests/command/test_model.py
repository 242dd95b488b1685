"""``lpnode model``: what is on this machine, and what is wrong with it."""

import json
import shutil
from pathlib import Path

import pytest
from model_folders import write_model
from safetensors.torch import load_file, save_file

from lpnode.cli import main

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
    assert listed["some/model"]["precisions"] == ["float32"]
    assert listed["some/model"]["bytes"] > 10_000
    assert main(["model", "check", "some/model", *where]) == 0
    assert "every weight" in capsys.readouterr().out
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


def test_what_is_not_there_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    where = ("--models-dir", str(tmp_path))
    assert main(["model", "check", "no/model", *where]) == 2
    assert "lpnode model add no/model" in capsys.readouterr().err
    text = tmp_path / "words.txt"
    text.write_text("no model")
    assert main(["model", "add", str(text), *where]) == 2
    assert "expected a model folder" in capsys.readouterr().err
