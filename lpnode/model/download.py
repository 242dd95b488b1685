"""Fetching a model's files: resumed where they broke off, checked before they count."""

import asyncio
import hashlib
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import BinaryIO

import aiohttp

from lpnode.errors import ConfigError, ModelError
from lpnode.model.hub import RemoteFile, file_url, needed, parse_tree, tokenizer_files, tree_url

_CHUNK_BYTES = 1 << 20
_TRIES = 5
_PARTIAL = ".partial"
_SPARE_BYTES = 1 << 28

Fetched = Callable[[str, int, int], None]
"""Name of the file, bytes of all files that are here, bytes of all files."""


@dataclass(frozen=True, slots=True)
class Source:
    """One file to fetch and what it must turn out to be; ``file.path`` is where it goes."""

    url: str
    file: RemoteFile


async def hub_sources(
    http: aiohttp.ClientSession,
    endpoint: str,
    repository: str,
    revision: str,
    *,
    is_tokenizer: bool = False,
) -> list[Source]:
    """The files of a hub's repository that a model is loaded from, or those of its tokenizer.

    Raises: ModelError.
    """
    url = tree_url(endpoint, repository, revision)
    try:
        async with http.get(url) as response:
            if response.status != 200:
                raise ModelError(
                    f"{repository}: {url} answered {response.status} {response.reason}; "
                    "is the name right, and the model public?"
                )
            listing = await response.json()
    except (aiohttp.ClientError, TimeoutError, ValueError) as error:
        raise ModelError(f"{repository}: {url} cannot be asked: {error}") from error
    files = parse_tree(listing, repository)
    wanted = tokenizer_files(files, repository) if is_tokenizer else needed(files, repository)
    return [
        Source(
            file_url(endpoint, repository, revision, file.path),
            replace(file, path=PurePosixPath(file.path.name)) if is_tokenizer else file,
        )
        for file in wanted
    ]


async def url_source(http: aiohttp.ClientSession, url: str, sha256: str | None) -> Source:
    """A single file behind a URL. Raises: ModelError: it is not there, or no safetensors."""
    name = PurePosixPath(url.split("?")[0]).name
    if not name.endswith(".safetensors"):
        raise ModelError(f"{url}: only .safetensors files are taken, got {name!r}")
    try:
        async with http.head(url, allow_redirects=True) as response:
            num_bytes = response.content_length
            if response.status != 200 or num_bytes is None:
                raise ModelError(f"{url}: answered {response.status}, without a length")
    except (aiohttp.ClientError, TimeoutError) as error:
        raise ModelError(f"{url}: cannot be reached: {error}") from error
    return Source(url, RemoteFile(PurePosixPath(name), num_bytes, sha256=sha256))


async def fetch_model(
    http: aiohttp.ClientSession, sources: Sequence[Source], target: Path, fetched: Fetched
) -> None:
    """Fetches files into the folder ``target``, which appears when all are there and right.

    What an interrupted run fetched lies in a folder beside it, and is gone on with.

    Raises: ConfigError: no room, or the target exists. ModelError: names the file.
    """
    partial = _partial_folder(target, sources)
    num_bytes = sum(source.file.num_bytes for source in sources)
    num_done = 0
    for source in sources:
        path = partial / source.file.path

        def note(size: int, name: str = str(source.file.path), before: int = num_done) -> None:
            fetched(name, before + size, num_bytes)

        await _fetch(http, source, path, note)
        num_done += source.file.num_bytes
    partial.rename(target)


def _partial_folder(target: Path, sources: Sequence[Source]) -> Path:
    """Where files lie until all are there; with room for the rest. Raises: ConfigError."""
    if target.exists():
        raise ConfigError(f"{target} exists already; remove it to fetch the model again")
    partial = target.with_name(target.name + _PARTIAL)
    for source in sources:
        (partial / source.file.path).parent.mkdir(parents=True, exist_ok=True)
    rest = sum(source.file.num_bytes - _size(partial / source.file.path) for source in sources)
    free = shutil.disk_usage(partial).free
    if rest + _SPARE_BYTES > free:
        raise ConfigError(
            f"{partial}: {rest >> 20} MiB are to be fetched, {free >> 20} MiB are free; make room "
            "or choose another folder with --models-dir"
        )
    return partial


async def _fetch(
    http: aiohttp.ClientSession, source: Source, path: Path, note: Callable[[int], None]
) -> None:
    """Fetches one file, going on after what is there. Raises: ModelError."""
    for attempt in range(_TRIES):
        try:
            if _size(path) < source.file.num_bytes:
                await _fetch_rest(http, source, path, note)
        except (aiohttp.ClientError, TimeoutError) as error:
            if attempt + 1 == _TRIES:
                raise ModelError(
                    f"{source.url}: broke off {_TRIES} times: {error}; run the command again to "
                    "go on"
                ) from error
        else:
            if _size(path) >= source.file.num_bytes:
                break
    note(_size(path))
    problem = await asyncio.to_thread(_problem, path, source.file)
    if problem:
        raise ModelError(f"{source.url}: {problem}; the file was removed, run the command again")


async def _fetch_rest(
    http: aiohttp.ClientSession, source: Source, path: Path, note: Callable[[int], None]
) -> None:
    start = _size(path)
    headers = {"Range": f"bytes={start}-"} if start else {}
    async with http.get(source.url, headers=headers) as response:
        if response.status not in (200, 206):
            raise ModelError(f"{source.url}: answered {response.status} {response.reason}")
        # A server that knows no ranges sends the whole file again.
        with _opened(path, is_appending=response.status == 206) as file:
            async for chunk in response.content.iter_chunked(_CHUNK_BYTES):
                file.write(chunk)
                note(file.tell())


def _opened(path: Path, *, is_appending: bool) -> BinaryIO:
    return path.open("ab" if is_appending else "wb")


def _problem(path: Path, file: RemoteFile) -> str:
    """What is wrong with a file that was fetched, which is then removed; empty if nothing is."""
    problem = _difference(path, file)
    if problem:
        path.unlink(missing_ok=True)
    return problem


def _difference(path: Path, file: RemoteFile) -> str:
    size = _size(path)
    if size != file.num_bytes:
        return f"has {size} bytes instead of {file.num_bytes}"
    if file.sha256 is not None:
        wanted, hashed = file.sha256.lower(), hashlib.sha256()
    elif file.git_sha1 is not None:
        # Git's name of a blob: its size goes before its bytes.
        wanted, hashed = file.git_sha1, hashlib.sha1(f"blob {size}\0".encode())
    else:
        return ""
    with path.open("rb") as opened:
        while chunk := opened.read(_CHUNK_BYTES):
            hashed.update(chunk)
    if hashed.hexdigest() == wanted:
        return ""
    return f"has the digest {hashed.hexdigest()} instead of {wanted}"


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0
