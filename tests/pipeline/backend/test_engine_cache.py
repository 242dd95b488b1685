"""Engines on disk: what makes one be built again, and what a crash may not leave behind."""

import dataclasses
import json
import logging
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from lpnode.errors import ConfigError, HostError, InvalidArgument, StorageFailed
from lpnode.pipeline.backend.engine_cache import BuildCancelled, EngineCache, EngineCacheConfig
from lpnode.pipeline.backend.engine_key import (
    EngineFlags,
    EngineKey,
    NetworkKind,
    Precision,
    ShapeProfile,
    Target,
)

KEY = EngineKey(
    weights_sha256="ab" * 32,
    structure_sha256="cd" * 32,
    network=NetworkKind.UNET,
    profile=ShapeProfile(
        width=512, height=384, opt_rows=2, max_rows=4, num_tokens=77, token_width=768
    ),
    precision=Precision.FP16,
    flags=EngineFlags(),
    compiler="tensorrt",
    compiler_version="10.13.3",
    target=Target("sm_90", 570),
)


def variants(value: Any) -> list[Any]:
    """The same value with each of its fields, at any depth, changed once."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return [
            dataclasses.replace(value, **{field.name: changed})
            for field in dataclasses.fields(value)
            for changed in variants(getattr(value, field.name))
        ]
    if isinstance(value, NetworkKind | Precision):
        return [other for other in type(value) if other is not value]
    if isinstance(value, bool):
        return [not value]
    return [value + 8 if value % 8 == 0 else value + 1] if isinstance(value, int) else [value + "1"]


def variant_keys() -> list[EngineKey]:
    wide = dataclasses.replace(KEY.profile, min_rows=1, opt_rows=3, max_rows=9)
    return variants(dataclasses.replace(KEY, profile=wide))


CacheOf = Callable[..., EngineCache]


@pytest.fixture
def cache_of(tmp_path: Path) -> CacheOf:
    def make(**values: Any) -> EngineCache:
        return EngineCache(
            EngineCacheConfig(folder=tmp_path / "engines", **{"spare_bytes": 0, **values})
        )

    return make


@pytest.fixture
def cache(cache_of: CacheOf) -> EngineCache:
    return cache_of()


def accept(engine: Path) -> None:
    assert engine.exists()


def build(cache: EngineCache, key: EngineKey = KEY, content: bytes = b"engine of KEY") -> Path:
    return cache.build(key, lambda path: _write(path, content), accept, num_bytes=len(content))


def _write(path: Path, content: bytes) -> None:
    path.write_bytes(content)


def fail(_: Path) -> None:
    raise AssertionError("built an engine that is there already")


def test_an_engine_is_found_again_by_another_start(cache_of: CacheOf) -> None:
    built = build(cache_of())
    assert cache_of().find(KEY) == built
    assert cache_of().build(KEY, fail, fail, num_bytes=1) == built
    assert built.read_bytes() == b"engine of KEY"


def test_the_same_values_always_give_the_same_key() -> None:
    again = EngineKey(**{f.name: getattr(KEY, f.name) for f in dataclasses.fields(KEY)})
    assert again.digest == dataclasses.replace(KEY, flags=EngineFlags()).digest == KEY.digest
    assert KEY.digest == "e28d05bf67bb5643567a9cba0eb9fbbd5298ea7a4675f5be4005f0b3214128ea"


@pytest.mark.parametrize("key", variant_keys(), ids=lambda key: key.digest[:8])
def test_a_change_of_any_one_field_means_another_engine(cache: EngineCache, key: EngineKey) -> None:
    base = dataclasses.replace(
        KEY, profile=dataclasses.replace(KEY.profile, min_rows=1, opt_rows=3, max_rows=9)
    )
    first = build(cache, base)
    assert cache.find(key) is None
    assert build(cache, key, b"another") != first
    assert first.read_bytes() == b"engine of KEY"


def test_the_changes_tried_cover_every_field_of_a_key() -> None:
    def leaves(value: Any) -> int:
        if not dataclasses.is_dataclass(value):
            return 1
        return sum(leaves(getattr(value, field.name)) for field in dataclasses.fields(value))

    digests = {key.digest for key in variant_keys()}
    assert len(digests) == len(variant_keys())
    assert len(digests) == leaves(KEY) - 2 + (len(NetworkKind) - 1) + (len(Precision) - 1)


def test_the_target_of_a_processor_is_its_instruction_set() -> None:
    target = Target.of(torch.device("cpu"))
    assert torch.backends.cpu.get_cpu_capability() in target.architecture
    assert target.driver_major is None


@pytest.mark.gpu
def test_the_target_of_a_gpu_has_its_capability_and_driver() -> None:
    target = Target.of(torch.device("cuda"))
    assert target.architecture == "sm_{}{}".format(*torch.cuda.get_device_capability())
    assert target.driver_major is not None
    assert target.driver_major > 400


@pytest.mark.parametrize("size", [(500, 384), (512, 0), (-8, 8)])
def test_pictures_that_no_latent_fits_are_refused(size: tuple[int, int]) -> None:
    with pytest.raises(InvalidArgument, match="multiples of 8"):
        ShapeProfile(width=size[0], height=size[1], opt_rows=1, max_rows=1)


def test_rows_out_of_order_are_refused() -> None:
    with pytest.raises(InvalidArgument, match="min <= opt <= max, got 1, 5, 4"):
        ShapeProfile(width=64, height=64, opt_rows=5, max_rows=4)


def test_a_manifest_says_what_an_engine_is(cache: EngineCache) -> None:
    engine = build(cache)
    manifest = json.loads((engine.parent / "manifest.json").read_text())
    assert manifest["key"]["profile"]["width"] == 512
    assert manifest["key"]["target"] == {"architecture": "sm_90", "driver_major": 570}
    assert manifest["files"]["engine"]["num_bytes"] == len(b"engine of KEY")
    (entry,) = cache.entries()
    assert entry.folder == engine.parent
    assert entry.num_bytes == len(b"engine of KEY")
    assert entry.last_use == manifest["last_use"]


def flip_a_bit(engine: Path) -> None:
    content = bytearray(engine.read_bytes())
    content[3] ^= 1
    engine.write_bytes(content)


def cut_short(engine: Path) -> None:
    engine.write_bytes(engine.read_bytes()[:-1])


def remove_engine(engine: Path) -> None:
    engine.unlink()


def remove_manifest(engine: Path) -> None:
    (engine.parent / "manifest.json").unlink()


def garble_manifest(engine: Path) -> None:
    (engine.parent / "manifest.json").write_text('{"key": ')


def empty_manifest(engine: Path) -> None:
    (engine.parent / "manifest.json").write_text("[]")


def of_another_key(engine: Path) -> None:
    path = engine.parent / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["key"]["target"]["architecture"] = "sm_80"
    path.write_text(json.dumps(manifest))


def link_elsewhere(engine: Path) -> None:
    engine.rename(engine.parent.parent / "elsewhere")
    engine.symlink_to(engine.parent.parent / "elsewhere")


def add_a_file(engine: Path) -> None:
    (engine.parent / "engine.data").write_bytes(b"foreign")


@pytest.mark.parametrize(
    "damage",
    [
        flip_a_bit,
        cut_short,
        remove_engine,
        remove_manifest,
        garble_manifest,
        empty_manifest,
        of_another_key,
        link_elsewhere,
        add_a_file,
    ],
)
def test_a_damaged_engine_is_logged_once_and_built_again(
    cache: EngineCache, caplog: pytest.LogCaptureFixture, damage: Callable[[Path], None]
) -> None:
    damage(build(cache))
    with caplog.at_level(logging.WARNING):
        assert cache.find(KEY) is None
        assert cache.find(KEY) is None
    assert len(caplog.records) == 1
    assert "is built again: " in caplog.text
    assert build(cache, content=b"new").read_bytes() == b"new"
    assert cache.find(KEY) is not None


def test_an_engine_that_fails_its_inference_is_never_found(
    cache: EngineCache, tmp_path: Path
) -> None:
    def refuse(_: Path) -> None:
        raise HostError("differs from torch")

    with pytest.raises(HostError, match="differs from torch"):
        cache.build(KEY, lambda path: _write(path, b"x"), refuse, num_bytes=1)
    assert cache.find(KEY) is None
    assert list((tmp_path / "engines").iterdir()) == []


def test_a_compiler_that_writes_nothing_is_not_believed(cache: EngineCache) -> None:
    with pytest.raises(HostError, match="tensorrt reported success and wrote no engine"):
        cache.build(KEY, lambda _: None, lambda _: None, num_bytes=1)


def test_a_compiler_that_cannot_write_is_an_error_with_the_folder(
    cache: EngineCache, tmp_path: Path
) -> None:
    with pytest.raises(StorageFailed, match=str(tmp_path)):
        cache.build(KEY, lambda path: _write(path / "no" / "folder", b""), accept, num_bytes=1)


def test_too_full_a_disk_is_said_before_the_work_begins(cache: EngineCache) -> None:
    with pytest.raises(StorageFailed, match=r"takes about 1048576\.0 GiB .* are free; free some"):
        cache.build(KEY, fail, fail, num_bytes=1 << 50)


def test_files_beside_an_engine_belong_to_it(cache: EngineCache) -> None:
    def write(path: Path) -> None:
        path.write_bytes(b"graph")
        path.with_name("engine.data").write_bytes(b"weights")

    engine = cache.build(KEY, write, accept, num_bytes=1)
    assert cache.find(KEY) == engine
    engine.with_name("engine.data").write_bytes(b"weightz")
    assert cache.find(KEY) is None


def keys(count: int) -> list[EngineKey]:
    return [dataclasses.replace(KEY, compiler_version=str(n)) for n in range(count)]


def test_the_engine_used_longest_ago_makes_room(cache_of: CacheOf) -> None:
    cache = cache_of(max_bytes=30)
    a, b, c, d = keys(4)
    for key in (a, b, c):
        build(cache, key, b"0123456789")
    assert cache.find(a) is not None  # b is now the one that was used longest ago
    build(cache, d, b"0123456789")
    assert [cache.find(key) is not None for key in (a, b, c, d)] == [True, False, True, True]


def test_an_engine_larger_than_the_cache_stays_until_the_next(cache_of: CacheOf) -> None:
    cache = cache_of(max_bytes=5)
    a, b = keys(2)
    assert build(cache, a, b"0123456789").exists()
    assert build(cache, b, b"0123456789").exists()
    assert cache.find(a) is None


def test_a_cache_without_room_is_a_mistake_in_the_configuration(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="a size above 0"):
        EngineCacheConfig(folder=tmp_path, max_bytes=0)


def test_a_folder_that_others_may_write_to_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "engines"
    folder.mkdir()
    folder.chmod(0o770)
    with pytest.raises(ConfigError, match=r"others may write to it.*chmod 700"):
        EngineCache(EngineCacheConfig(folder=folder))


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="file/engines"):
        EngineCache(EngineCacheConfig(folder=tmp_path / "file" / "engines"))


BUILDER = """
import pickle, sys, time
from pathlib import Path
from lpnode.pipeline.backend.engine_cache import EngineCache, EngineCacheConfig
folder, key = Path(sys.argv[1]), pickle.loads(bytes.fromhex(sys.argv[2]))
def write(path):
    path.write_bytes(b"half")
    print("building", flush=True)
    sys.stdin.readline()
    path.write_bytes(b"by a child")
cache = EngineCache(EngineCacheConfig(folder=folder, spare_bytes=0))
cache.build(key, write, lambda path: None, num_bytes=1)
"""


@pytest.fixture
def child(tmp_path: Path) -> Any:
    """A process in the middle of building KEY; a line on its standard input lets it finish."""
    import pickle

    process = subprocess.Popen(
        [sys.executable, "-c", BUILDER, str(tmp_path / "engines"), pickle.dumps(KEY).hex()],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"building\n"
    yield process
    process.kill()
    process.communicate()


def test_a_killed_build_leaves_no_engine_and_is_swept(
    cache: EngineCache, child: subprocess.Popen[bytes], tmp_path: Path
) -> None:
    os.kill(child.pid, signal.SIGKILL)
    child.wait()
    assert any((tmp_path / "engines").glob("*.building"))
    assert cache.find(KEY) is None
    cache.sweep()
    assert list((tmp_path / "engines").iterdir()) == []
    assert build(cache).read_bytes() == b"engine of KEY"


def test_two_processes_never_build_the_same_engine(
    cache: EngineCache, child: subprocess.Popen[bytes], tmp_path: Path
) -> None:
    engines: list[Path] = []
    waiting = threading.Thread(
        target=lambda: engines.append(cache.build(KEY, fail, fail, num_bytes=1))
    )
    waiting.start()
    cache.sweep()  # which leaves the child's folder alone
    assert any((tmp_path / "engines").glob("*.building"))
    assert child.stdin is not None
    child.stdin.write(b"\n")
    child.stdin.flush()
    waiting.join()
    assert engines[0].read_bytes() == b"by a child"


def test_waiting_for_another_process_can_be_given_up(
    cache: EngineCache, child: subprocess.Popen[bytes]
) -> None:
    stop = threading.Event()
    stop.set()
    with pytest.raises(BuildCancelled):
        cache.build(KEY, fail, fail, num_bytes=1, stop=stop)
    assert child.poll() is None
