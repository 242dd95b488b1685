"""Which files of a Hugging Face repository a model needs.

Source: the hub's HTTP API, ``GET /api/models/ID/tree/REVISION``.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import quote

from lpnode.errors import ModelError

_TEXTS = (".json", ".txt")
_WEIGHTS = ".safetensors"
# Whole, or one of several: model.fp16.safetensors, model.fp16-00001-of-00002.safetensors.
_FP16 = re.compile(r"\.fp16[.-]")
# Not weights for training, as ….non_ema.safetensors, nor of another runtime, as openvino_….
_STANDARD = re.compile(r"(diffusion_pytorch_)?model(\.fp16)?(-\d+-of-\d+)?\.safetensors$")
TOKENIZER_NAMES = ("vocab.json", "merges.txt")
_SMALL_BYTES = 16 << 20
"""Texts above it are no configuration."""


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """One file of a repository; large ones come with a ``sha256``, others with a ``git_sha1``."""

    path: PurePosixPath
    num_bytes: int
    sha256: str | None = None
    git_sha1: str | None = None


def tree_url(endpoint: str, repository: str, revision: str) -> str:
    """Where the list of a repository's files is."""
    return f"{endpoint}/api/models/{quote(repository)}/tree/{quote(revision)}?recursive=true"


def file_url(endpoint: str, repository: str, revision: str, path: PurePosixPath) -> str:
    """Where one file is."""
    return f"{endpoint}/{quote(repository)}/resolve/{quote(revision)}/{quote(str(path))}"


def parse_tree(listing: Any, repository: str) -> list[RemoteFile]:
    """Reads the hub's list of files. Raises: ModelError: it is none, or has unsafe paths."""
    if not isinstance(listing, list):
        raise ModelError(f"{repository}: the hub's answer is no list of files")
    files = []
    for entry in listing:
        if not isinstance(entry, Mapping) or entry.get("type") != "file":
            continue
        try:
            path = PurePosixPath(entry["path"])
            lfs = entry.get("lfs")
            file = RemoteFile(
                path,
                int(entry["size"]),
                sha256=str(lfs["oid"]) if lfs else None,
                git_sha1=None if lfs else str(entry["oid"]),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise ModelError(f"{repository}: the hub describes a file as {entry!r}") from error
        if path.is_absolute() or ".." in path.parts:
            raise ModelError(f"{repository}: the hub lists a file outside the model: {path}")
        files.append(file)
    return files


def needed(files: Iterable[RemoteFile], repository: str) -> list[RemoteFile]:
    """The texts and safetensors that a model is loaded from; half precision where there is both.

    Of a repository in diffusers' layout only what is in the folders of its parts: checkpoints
    beside them have the same weights again.

    Raises: ModelError: there are no safetensors.
    """
    found = list(files)
    is_model = any(str(file.path) == "model_index.json" for file in found)
    weights = [file for file in found if file.path.suffix == _WEIGHTS]
    if is_model:
        weights = [file for file in weights if len(file.path.parts) == 2]
        weights = [file for file in weights if _STANDARD.match(file.path.name)]
    halves = {file.path.parent for file in weights if _FP16.search(file.path.name)}
    weights = [
        file for file in weights if _FP16.search(file.path.name) or file.path.parent not in halves
    ]
    if not weights:
        raise ModelError(
            f"{repository}: has no .safetensors files with weights; pickles are not read"
        )
    folders = {file.path.parent for file in weights}
    texts = [
        file
        for file in found
        if file.path.suffix in _TEXTS
        and file.num_bytes <= _SMALL_BYTES
        and (is_model or file.path.parent in folders)
    ]
    return texts + weights


def tokenizer_files(files: Iterable[RemoteFile], repository: str) -> list[RemoteFile]:
    """The words of CLIP's tokenizer, which checkpoints in one file come without.

    Raises: ModelError: there are none.
    """
    by_path = {str(file.path): file for file in files}
    for folder in ("tokenizer/", ""):
        if all(f"{folder}{name}" in by_path for name in TOKENIZER_NAMES):
            return [by_path[f"{folder}{name}"] for name in TOKENIZER_NAMES]
    raise ModelError(
        f"{repository}: has no tokenizer of CLIP: neither tokenizer/ nor the top has both "
        + " and ".join(TOKENIZER_NAMES)
    )
