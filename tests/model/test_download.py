"""Fetching models from a real server that breaks off, knows no ranges, or sends the wrong bytes."""

import hashlib
from collections import Counter
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from lpnode.errors import ConfigError, ModelError
from lpnode.model.download import fetch_model, hub_sources, url_source

REPOSITORY = "some/model"
FILES = {
    "model_index.json": b'{"_class_name": "StableDiffusionPipeline"}',
    "README.md": b"words",
    "unet/config.json": b"{}",
    "unet/diffusion_pytorch_model.safetensors": b"full precision" * 1000,
    "unet/diffusion_pytorch_model.fp16.safetensors": bytes(range(256)) * 500,
    "unet/diffusion_pytorch_model.non_ema.safetensors": b"for training",
    "unet/diffusion_pytorch_model.bin": b"pickle",
    "vae/config.json": b"{}",
    "vae/diffusion_pytorch_model.safetensors": b"vae" * 999,
    "checkpoint.safetensors": b"all of it again",
}
WANTED = {
    "model_index.json",
    "unet/config.json",
    "unet/diffusion_pytorch_model.fp16.safetensors",
    "vae/config.json",
    "vae/diffusion_pytorch_model.safetensors",
}
LARGE = "unet/diffusion_pytorch_model.fp16.safetensors"


@dataclass
class Hub:
    """A hub with one repository, and what is to go wrong with it."""

    endpoint: str = ""
    files: dict[str, bytes] = field(default_factory=lambda: dict(FILES))
    knows_ranges: bool = True
    breaks_after: int | None = None
    """Bytes of each answer after which the connection breaks."""
    swapped: set[str] = field(default_factory=set)
    """Files sent with other bytes than the list says."""
    requests: Counter[str] = field(default_factory=Counter)
    num_sent: int = 0

    async def tree(self, request: web.Request) -> web.Response:
        entries: list[dict[str, object]] = [{"type": "directory", "path": "unet"}]
        for path, data in self.files.items():
            entry = {"type": "file", "path": path, "size": len(data)}
            blob = hashlib.sha1(f"blob {len(data)}\0".encode() + data).hexdigest()
            if path.endswith(".safetensors"):
                lfs = {"oid": hashlib.sha256(data).hexdigest(), "size": len(data)}
                entries.append(entry | {"oid": "0" * 40, "lfs": lfs})
            else:
                entries.append(entry | {"oid": blob})
        return web.json_response(entries)

    async def file(self, request: web.Request) -> web.StreamResponse:
        path = request.match_info["path"]
        self.requests[path] += 1
        data = self.files[path]
        if path in self.swapped:
            data = data[::-1]
        start = 0
        if self.knows_ranges and (wanted := request.headers.get("Range")):
            start = int(wanted.removeprefix("bytes=").removesuffix("-"))
        response = web.StreamResponse(status=206 if start else 200)
        response.content_length = len(data) - start
        await response.prepare(request)
        if request.method == "HEAD":
            return response
        rest = data[start:]
        if self.breaks_after is not None and len(rest) > self.breaks_after:
            rest = rest[: self.breaks_after]
            await response.write(rest)
            self.num_sent += len(rest)
            assert request.transport is not None
            request.transport.close()
            return response
        self.num_sent += len(rest)
        await response.write(rest)
        return response


@pytest.fixture
async def hub() -> AsyncIterator[Hub]:
    hub = Hub()
    application = web.Application()
    application.router.add_get("/api/models/some/model/tree/main", hub.tree)
    application.router.add_get("/some/model/resolve/main/{path:.+}", hub.file)
    runner = web.AppRunner(application)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    hub.endpoint = f"http://127.0.0.1:{port}"
    yield hub
    await runner.cleanup()


Seen = list[tuple[str, int, int]]


async def fetch(hub: Hub, target: Path) -> Seen:
    seen: Seen = []
    async with aiohttp.ClientSession() as http:
        sources = await hub_sources(http, hub.endpoint, REPOSITORY, "main")
        await fetch_model(http, sources, target, lambda *step: seen.append(step))
    return seen


def files_of(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


async def test_only_what_a_model_is_loaded_from_is_fetched(hub: Hub, tmp_path: Path) -> None:
    target = tmp_path / "models" / "some--model"
    seen = await fetch(hub, target)
    assert files_of(target) == {path: FILES[path] for path in WANTED}
    assert [path.name for path in target.parent.iterdir()] == ["some--model"]
    assert seen[-1][1] == seen[-1][2] == sum(len(FILES[path]) for path in WANTED)


async def test_what_breaks_off_goes_on_where_it_was(hub: Hub, tmp_path: Path) -> None:
    hub.breaks_after = 50_000
    await fetch(hub, tmp_path / "model")
    assert (tmp_path / "model" / LARGE).read_bytes() == FILES[LARGE]
    assert hub.requests[LARGE] == 3
    assert hub.num_sent == sum(len(FILES[path]) for path in WANTED)


async def test_a_run_that_was_ended_is_gone_on_with(hub: Hub, tmp_path: Path) -> None:
    hub.breaks_after = 20_000
    with pytest.raises(ModelError, match=r"broke off 5 times.*run the command again"):
        await fetch(hub, tmp_path / "model")
    assert not (tmp_path / "model").exists()
    hub.breaks_after = None
    await fetch(hub, tmp_path / "model")
    assert files_of(tmp_path / "model") == {path: FILES[path] for path in WANTED}
    assert hub.num_sent == sum(len(FILES[path]) for path in WANTED)


async def test_a_server_without_ranges_sends_a_file_again(hub: Hub, tmp_path: Path) -> None:
    hub.knows_ranges = False
    partial = tmp_path / "model.partial" / LARGE
    partial.parent.mkdir(parents=True)
    partial.write_bytes(FILES[LARGE][:1000])
    await fetch(hub, tmp_path / "model")
    assert (tmp_path / "model" / LARGE).read_bytes() == FILES[LARGE]


@pytest.mark.parametrize("path", [LARGE, "model_index.json"])
async def test_wrong_bytes_are_refused_and_removed(hub: Hub, tmp_path: Path, path: str) -> None:
    hub.swapped.add(path)
    with pytest.raises(ModelError, match=r"has the digest .* instead of .*the file was removed"):
        await fetch(hub, tmp_path / "model")
    assert not (tmp_path / "model").exists()
    assert not (tmp_path / "model.partial" / path).exists()


async def test_a_repository_of_pickles_is_refused(hub: Hub, tmp_path: Path) -> None:
    hub.files = {"model_index.json": b"{}", "unet/diffusion_pytorch_model.bin": b"pickle"}
    with pytest.raises(ModelError, match="pickles are not read"):
        await fetch(hub, tmp_path / "model")


async def test_paths_outside_the_model_are_refused(hub: Hub, tmp_path: Path) -> None:
    hub.files = {"../../escaped.safetensors": b"x"}
    with pytest.raises(ModelError, match="outside the model"):
        await fetch(hub, tmp_path / "model")


async def test_shards_of_half_precision_stand_for_the_whole_in_full(
    hub: Hub, tmp_path: Path
) -> None:
    stem = "unet/diffusion_pytorch_model"
    halves = {f"{stem}.fp16-0000{n}-of-00002.safetensors": b"half" for n in (1, 2)}
    halves[f"{stem}.safetensors.index.fp16.json"] = b"{}"
    hub.files = {"model_index.json": b"{}", f"{stem}.safetensors": b"whole"} | halves
    await fetch(hub, tmp_path / "model")
    assert files_of(tmp_path / "model") == {"model_index.json": b"{}"} | halves


@pytest.mark.parametrize("folder", ["tokenizer/", ""])
async def test_a_tokenizer_alone_is_fetched_for_checkpoints(
    hub: Hub, tmp_path: Path, folder: str
) -> None:
    words = {"vocab.json": b"{}", "merges.txt": b"#version: 0.2"}
    hub.files |= {folder + name: data for name, data in words.items()}
    async with aiohttp.ClientSession() as http:
        sources = await hub_sources(http, hub.endpoint, REPOSITORY, "main", is_tokenizer=True)
        await fetch_model(http, sources, tmp_path / "tokenizer", lambda *step: None)
        assert files_of(tmp_path / "tokenizer") == words
        del hub.files[f"{folder}merges.txt"]
        with pytest.raises(ModelError, match="has no tokenizer of CLIP"):
            await hub_sources(http, hub.endpoint, REPOSITORY, "main", is_tokenizer=True)


async def test_an_unknown_repository_is_named(hub: Hub) -> None:
    async with aiohttp.ClientSession() as http:
        with pytest.raises(ModelError, match=r"no/model: .* answered 404"):
            await hub_sources(http, hub.endpoint, "no/model", "main")
        with pytest.raises(ModelError, match="cannot be asked"):
            await hub_sources(http, "http://127.0.0.1:1", REPOSITORY, "main")


async def test_what_is_there_already_is_not_overwritten(hub: Hub, tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    with pytest.raises(ConfigError, match="exists already"):
        await fetch(hub, tmp_path / "model")


async def test_a_url_is_one_file_with_the_digest_that_was_asked_for(
    hub: Hub, tmp_path: Path
) -> None:
    url = f"{hub.endpoint}/some/model/resolve/main/{LARGE}"
    right = hashlib.sha256(FILES[LARGE]).hexdigest()
    note: Callable[[str, int, int], None] = lambda *step: None  # noqa: E731
    async with aiohttp.ClientSession() as http:
        source = await url_source(http, url, right)
        await fetch_model(http, [source], tmp_path / "right", note)
        wrong = await url_source(http, url, "0" * 64)
        with pytest.raises(ModelError, match="has the digest"):
            await fetch_model(http, [wrong], tmp_path / "wrong", note)
        with pytest.raises(ModelError, match=r"only \.safetensors"):
            await url_source(http, f"{hub.endpoint}/model.ckpt", None)
    assert files_of(tmp_path / "right") == {Path(LARGE).name: FILES[LARGE]}
