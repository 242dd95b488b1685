"""Which files of a Hugging Face repository a model needs.

Source: the hub's HTTP API, ``GET /api/models/ID/tree/REVISION``.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import quote

from lpnode.errors import ModelError

_TEXTS = (".json", ".txt")
_WEIGHTS = ".safetensors"
_FP16 = ".fp16."
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
    halves = {_plain(file.path) for file in weights if _FP16 in file.path.name}
    weights = [
        file for file in weights if _FP16 in file.path.name or _plain(file.path) not in halves
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


def _plain(path: PurePosixPath) -> PurePosixPath:
    """The name without its precision."""
    return path.with_name(path.name.replace(_FP16, "."))
