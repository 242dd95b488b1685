"""Files of a folder in the layout of diffusers: which has the weights, and what JSON says."""

import json
from pathlib import Path
from typing import Any

from lpnode.errors import ModelError

_STEMS = ("diffusion_pytorch_model", "model")


def weight_files(folder: Path) -> list[Path]:
    """The safetensors files of one network: fp16 ones first, whole or in shards.

    Raises: ModelError: there are none, and what is there instead.
    """
    for stem in _STEMS:
        for variant in (".fp16", ""):
            whole = folder / f"{stem}{variant}.safetensors"
            if whole.is_file():
                return [whole]
            index = folder / f"{stem}.safetensors.index{variant}.json"
            if index.is_file():
                return _shards(index)
    others = sorted(path.name for path in folder.glob("*") if path.suffix in (".bin", ".ckpt"))
    hint = f"; {', '.join(others)} are pickles, which are not read" if others else ""
    raise ModelError(f"{folder}: there is no .safetensors file with weights{hint}")


def _shards(index: Path) -> list[Path]:
    shards = read_json(index).get("weight_map")
    if not isinstance(shards, dict) or not all(isinstance(name, str) for name in shards.values()):
        raise ModelError(f"{index}: weight_map: expected an object of file names")
    return [index.parent / Path(shard).name for shard in sorted(set(shards.values()))]


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object of a model. Raises: ModelError."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ModelError(f"{path}: there is no such file") from error
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(f"{path}: is not a JSON file: {error}") from error
    if not isinstance(document, dict):
        raise ModelError(f"{path}: must have a JSON object")
    return document
