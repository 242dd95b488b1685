"""TAESD and its kin: small autoencoders that stand in for a model's own."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lpnode.errors import ModelError
from lpnode.model.assemble import NetworkSource
from lpnode.model.meta_module import make_network
from lpnode.model.model_files import read_json, weight_files
from lpnode.model.safetensors_file import SafetensorsFile
from lpnode.model.weights import Layout, Stored

_CLASS = "AutoencoderTiny"
_HALVES = ("encoder", "decoder")


def tiny_vae_source(path: Path) -> NetworkSource:
    """The autoencoder at ``path``.

    Args: path: a folder of diffusers, a folder with TAESD's own two files ``…_encoder.safetensors``
        and ``…_decoder.safetensors``, or a file of diffusers without its ``config.json``.
    Raises: ModelError.
    """
    if path.is_file():
        return _as_diffusers([SafetensorsFile(path)], {"_class_name": _CLASS}, path)
    config = path / "config.json"
    if config.is_file():
        files = [SafetensorsFile(file) for file in weight_files(path)]
        return _as_diffusers(files, read_json(config), config)
    pair = [sorted(path.glob(f"*_{half}.safetensors")) for half in _HALVES]
    if not all(len(found) == 1 for found in pair):
        raise ModelError(
            f"{path}: is no small autoencoder: expected config.json with weights as diffusers has "
            "them, or one file …_encoder.safetensors and one …_decoder.safetensors"
        )
    return NetworkSource(
        module=make_network({"_class_name": _CLASS}, path, _CLASS),
        where=path,
        files=[
            SafetensorsFile(found[0], scope=f"{half}.")
            for half, found in zip(_HALVES, pair, strict=True)
        ],
        layout=Layout(_stored_by_taesd),
    )


def _as_diffusers(
    files: Sequence[SafetensorsFile], config: Mapping[str, Any], where: Path
) -> NetworkSource:
    return NetworkSource(module=make_network(config, where, _CLASS), where=where, files=files)


def _stored_by_taesd(name: str) -> Stored:
    """TAESD numbers what its decoder begins with, the clamp that diffusers has no layer for."""
    half, _, number, rest = name.split(".", 3)
    return Stored(f"{half}.{int(number) + (half == 'decoder')}.{rest}")
