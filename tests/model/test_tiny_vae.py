"""TAESD in the forms in which it is given away."""

from pathlib import Path
from typing import Any

import pytest
import torch
from model_folders import write_model
from safetensors.torch import save_file

from lpnode.errors import ModelError
from lpnode.model.load import load_model
from lpnode.model.place import ModelPlace


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("model"), is_tiny_vae=False)


@pytest.fixture(scope="module")
def taesd() -> Any:
    from diffusers import AutoencoderTiny

    return AutoencoderTiny()


def write_pair(taesd: Any, folder: Path) -> Path:
    """The two files of the original, whose decoder counts its clamp as layer 0."""
    for half in ("encoder", "decoder"):
        tensors = {}
        for name, tensor in getattr(taesd, half).layers.state_dict().items():
            number, _, rest = name.partition(".")
            tensors[f"{int(number) + (half == 'decoder')}.{rest}"] = tensor
        save_file(tensors, folder / f"taesd_{half}.safetensors")
    return folder


def write_folder(taesd: Any, folder: Path) -> Path:
    taesd.save_pretrained(folder)
    return folder


def write_file(taesd: Any, folder: Path) -> Path:
    taesd.save_pretrained(folder)
    return folder / "diffusion_pytorch_model.safetensors"


@pytest.mark.parametrize("write", [write_pair, write_folder, write_file])
def test_it_stands_in_for_the_models_own(
    folder: Path, taesd: Any, tmp_path: Path, write: Any
) -> None:
    model = load_model(ModelPlace("test", folder), tiny_vae=write(taesd, tmp_path))
    ours, theirs = model.vae.state_dict(), taesd.state_dict()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    assert (model.traits.is_tiny_vae, model.traits.latent_scale) == (True, 1.0)


def test_what_is_none_is_refused_with_what_would_be(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="is no small autoencoder: expected"):
        load_model(ModelPlace("test", folder), tiny_vae=tmp_path)
    with pytest.raises(ModelError, match="_class_name: expected AutoencoderTiny, got"):
        load_model(ModelPlace("test", folder), tiny_vae=folder / "vae")
