"""Compiled networks on disk: found again at the next start, and built by one process at a time.

An engine is a folder named by its key's digest. A build writes into a folder with a temporary name
beside it, and one rename makes engine and manifest appear together:

    3f…a1/manifest.json     key, files with size and sha256, last use
    3f…a1/engine            and whatever else its compiler wrote
    3f…a1.building/         of a build that runs, or of one that was killed
    3f…a1.lock              held by whoever builds or removes it

Source: streamdiffusion.md section 14.
"""

import fcntl
import hashlib
import json
import logging
import os
import shutil
import stat
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lpnode.errors import ConfigError, HostError, StorageFailed
from lpnode.pipeline.backend.engine_key import EngineKey

logger = logging.getLogger(__name__)

ENGINE_FILE = "engine"
_MANIFEST = "manifest.json"
_BUILDING = ".building"
_LOCK = ".lock"
_DIGEST_CHARS = 64
_LOCK_POLL_S = 0.1
_GIB = 1 << 30


class BuildCancelled(HostError):
    """A build was stopped before its engine was ready; nothing of it is left."""


@dataclass(frozen=True, slots=True)
class CachedEngine:
    """One engine as its manifest has it; ``last_use`` in seconds since the epoch."""

    folder: Path
    key: dict[str, Any]
    num_bytes: int
    last_use: float


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineCacheConfig:
    """Where engines are kept, and how much room they get.

    Attributes:
        max_bytes: above it, the engines that were used longest ago are removed.
        spare_bytes: what a build leaves free on the disk.
    """

    folder: Path
    max_bytes: int = 64 * _GIB
    spare_bytes: int = 2 * _GIB

    def __post_init__(self) -> None:
        if self.max_bytes < 1:
            raise ConfigError(f"the engine cache needs a size above 0, got {self.max_bytes} bytes")


class EngineCache:
    """The engines of one folder. Any number of processes may share it; methods block.

    Raises: ConfigError: the folder cannot be made, or others may write to it.
    """

    def __init__(self, config: EngineCacheConfig) -> None:
        self._config = config
        self._folder = config.folder
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            status = self._folder.stat()
        except OSError as error:
            raise ConfigError(f"engines cannot be kept in {self._folder}: {error}") from error
        if status.st_uid != os.geteuid() or status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            raise ConfigError(
                f"engines cannot be kept in {self._folder}: others may write to it, and engines "
                "are code that is run; chown it to the node's user and chmod 700"
            )
        self._refused: set[str] = set()

    def find(self, key: EngineKey) -> Path | None:
        """The engine of a key, read through and found whole; None where it has to be built.

        An engine that is corrupt, cut short or another key's is logged and removed.
        """
        found, _ = self._inspect(key)
        if found is not None or not (self._folder / key.digest).exists():
            return found
        with self._try_lock(key.digest) as is_mine:
            return self._found_or_removed(key) if is_mine else None

    def build(
        self,
        key: EngineKey,
        write: Callable[[Path], None],
        verify: Callable[[Path], None],
        *,
        num_bytes: int,
        stop: threading.Event | None = None,
    ) -> Path:
        """Finds a key's engine or builds it; waits where another process is building it already.

        Args:
            write: compiles into the path it is given; may leave further files beside it.
            verify: raises where the engine at the path does not do what it should.
            num_bytes: about what the build writes; as much must be free.
            stop: set from another thread to give up waiting; ``write`` looks at it for itself.
        Raises:
            StorageFailed: the disk is too full, or cannot be written.
            BuildCancelled: ``stop`` was set.
        """
        stop = stop or threading.Event()
        with self._lock(key.digest, stop):
            found = self._found_or_removed(key)
            if found is not None:
                return found
            self.sweep()
            self._make_room(num_bytes)
            building = self._folder / (key.digest + _BUILDING)
            shutil.rmtree(building, ignore_errors=True)
            try:
                building.mkdir()
                write(building / ENGINE_FILE)
                verify(building / ENGINE_FILE)
                if stop.is_set():
                    raise BuildCancelled("the build was stopped before its engine was in place")
                self._publish(building, key)
            except OSError as error:
                raise StorageFailed(
                    f"an engine could not be written to {self._folder}: {error}"
                ) from error
            finally:
                shutil.rmtree(building, ignore_errors=True)
            self._evict(self._config.max_bytes, keep=key.digest)
            return self._folder / key.digest / ENGINE_FILE

    def remove(self, key: EngineKey) -> None:
        """Removes a key's engine, unless another process is just building it."""
        with self._try_lock(key.digest) as is_mine:
            if is_mine:
                shutil.rmtree(self._folder / key.digest, ignore_errors=True)

    def entries(self) -> list[CachedEngine]:
        """The engines with a readable manifest, the one used longest ago first."""
        found = []
        for path in self._folder.glob(f"*/{_MANIFEST}"):
            if len(path.parent.name) != _DIGEST_CHARS:
                continue
            with suppress(OSError, ValueError, KeyError, TypeError, AttributeError):
                manifest = json.loads(path.read_bytes())
                num_bytes = sum(int(file["num_bytes"]) for file in manifest["files"].values())
                found.append(
                    CachedEngine(
                        path.parent, dict(manifest["key"]), num_bytes, float(manifest["last_use"])
                    )
                )
        return sorted(found, key=lambda entry: entry.last_use)

    def sweep(self) -> None:
        """Removes what killed builds left behind; builds that run keep theirs."""
        for path in self._folder.glob(f"*{_BUILDING}"):
            with self._try_lock(path.name.removesuffix(_BUILDING)) as is_mine:
                if is_mine:
                    logger.info("removing what a killed build left: %s", path)
                    shutil.rmtree(path, ignore_errors=True)
        for path in self._folder.glob(f"*{_LOCK}"):
            with self._try_lock(path.name.removesuffix(_LOCK)):
                pass  # letting go of a lock removes its file

    def _inspect(self, key: EngineKey) -> tuple[Path | None, str]:
        """The engine, or why there is none."""
        entry = self._folder / key.digest
        try:
            manifest = _checked_manifest(entry, key)
        except (OSError, ValueError) as error:
            return None, str(error)
        except (KeyError, TypeError, AttributeError):
            return None, f"{_MANIFEST} is no manifest"
        # A cache that was baked into an image may be read-only; its engines are none the worse.
        with suppress(OSError):
            _write_manifest(entry, {**manifest, "last_use": time.time()})
        return entry / ENGINE_FILE, ""

    def _found_or_removed(self, key: EngineKey) -> Path | None:
        # With the lock held: whoever removes an engine has seen this very one be broken.
        found, reason = self._inspect(key)
        entry = self._folder / key.digest
        if found is None and entry.exists():
            if key.digest not in self._refused:
                self._refused.add(key.digest)
                logger.warning("the engine %s is built again: %s", entry, reason)
            shutil.rmtree(entry, ignore_errors=True)
        return found

    def _publish(self, building: Path, key: EngineKey) -> None:
        files = {}
        for path in sorted(building.iterdir()):
            _sync(path)
            files[path.name] = {"num_bytes": path.stat().st_size, "sha256": _sha256(path)}
        if ENGINE_FILE not in files:
            raise HostError(f"{key.compiler} reported success and wrote no engine")
        _write_manifest(building, {"key": key.to_json(), "files": files, "last_use": time.time()})
        _sync(building)
        os.rename(building, self._folder / key.digest)
        _sync(self._folder)

    def _make_room(self, num_bytes: int) -> None:
        self._evict(max(self._config.max_bytes - num_bytes, 0))
        free = shutil.disk_usage(self._folder).free
        needed = num_bytes + self._config.spare_bytes
        if free < needed:
            raise StorageFailed(
                f"building an engine takes about {needed / _GIB:.1f} GiB in {self._folder}, where "
                f"{free / _GIB:.1f} GiB are free; free some, or keep engines in another folder"
            )

    def _evict(self, max_bytes: int, keep: str | None = None) -> None:
        entries = self.entries()
        num_bytes = sum(entry.num_bytes for entry in entries)
        for entry in entries:
            if num_bytes <= max_bytes:
                return
            if entry.folder.name == keep:
                continue
            with self._try_lock(entry.folder.name) as is_mine:
                if is_mine:
                    logger.info("removing an engine to make room: %s", entry.folder)
                    shutil.rmtree(entry.folder, ignore_errors=True)
                    num_bytes -= entry.num_bytes

    @contextmanager
    def _lock(self, digest: str, stop: threading.Event) -> Iterator[None]:
        # Polled rather than waited for, as nothing but a signal ends a wait for flock.
        while not stop.is_set():
            with self._try_lock(digest) as is_mine:
                if is_mine:
                    yield
                    return
            stop.wait(_LOCK_POLL_S)
        raise BuildCancelled("stopped while another process was building the same engine")

    @contextmanager
    def _try_lock(self, digest: str) -> Iterator[bool]:
        path = self._folder / (digest + _LOCK)
        try:
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError:
            yield False
            return
        try:
            is_mine = _locked(fd, path)
            try:
                yield is_mine
            finally:
                if is_mine:
                    path.unlink(missing_ok=True)
        finally:
            os.close(fd)


def _locked(fd: int, path: Path) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # The file may have been removed, and another made, between opening and locking it.
        return os.fstat(fd).st_ino == path.stat().st_ino
    except OSError:
        return False


def _checked_manifest(entry: Path, key: EngineKey) -> dict[str, Any]:
    """The manifest of a whole engine. Raises: OSError, ValueError and kin: it is not whole."""
    manifest: dict[str, Any] = json.loads((entry / _MANIFEST).read_bytes())
    if manifest["key"] != key.to_json():
        raise ValueError(f"{_MANIFEST} is of another engine")
    files = manifest["files"]
    # Names with a dot are manifests that a killed process was writing.
    present = {path.name for path in entry.iterdir() if not path.name.startswith(".")}
    if ENGINE_FILE not in files or present != {_MANIFEST, *files}:
        raise ValueError(f"has {sorted(present)}, should have {sorted(files)}")
    for name, facts in files.items():
        path = entry / name
        num_bytes = path.stat().st_size
        if path.is_symlink() or num_bytes != facts["num_bytes"]:
            raise ValueError(f"{name} should have {facts['num_bytes']} bytes, has {num_bytes}")
        if _sha256(path) != facts["sha256"]:
            raise ValueError(f"{name} was changed since it was built")
    return manifest


def _write_manifest(folder: Path, manifest: dict[str, Any]) -> None:
    """Replaces the manifest in one step, so that no reader sees half of one."""
    partial = folder / f".{_MANIFEST}.{os.getpid()}.{threading.get_ident()}"
    try:
        with partial.open("w") as file:
            json.dump(manifest, file, indent=2)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, folder / _MANIFEST)
    finally:
        partial.unlink(missing_ok=True)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sync(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
