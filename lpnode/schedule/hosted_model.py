"""The life of one model on a host: cold, loading, ready, restarted, given up."""

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from lpnode.errors import ConfigError, HostError, LpnodeError
from lpnode.pipeline.params import BaseParams
from lpnode.pipeline.pipeline import EngineBuild, Pipeline
from lpnode.schedule.hosted_stream import HostedStream, Restart
from lpnode.schedule.loaded_model import LoadedModel

logger = logging.getLogger(__name__)


class ModelState(StrEnum):
    """What a model is doing."""

    COLD = "cold"
    LOADING = "loading"
    WARMING = "warming"
    READY = "ready"
    FAILED = "failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class RestartConfig:
    """When a model is restarted and when it is given up. Source: live.md section 8.5."""

    load_timeout_s: float = 180.0
    max_restarts: int = 3
    """More than these within ``window_s`` and the model is given up; the reference's worker counts
    for its whole life, which a node that runs for months cannot."""
    window_s: float = 3600.0
    rest_s: float = 600.0
    """How long a model that was given up stays so; the reference has its container replaced."""
    hang_s: float = 2.0
    """A call that has taken this long when a session complains counts as hung."""
    release_timeout_s: float = 0.5
    """How long closing a stream waits for the frame that is being processed."""

    def __post_init__(self) -> None:
        for name in ("load_timeout_s", "window_s", "rest_s", "hang_s", "release_timeout_s"):
            if getattr(self, name) <= 0:
                raise ConfigError(f"{name} must be positive, got {getattr(self, name)}")
        if self.max_restarts < 0:
            raise ConfigError(f"max_restarts must not be negative, got {self.max_restarts}")


@dataclass(frozen=True, slots=True)
class Clocks:
    """Where time comes from, in seconds: ``monotonic`` for intervals, ``wall`` since 1970."""

    monotonic: Callable[[], float]
    wall: Callable[[], float]


class HostedModel:
    """Loads a model when first wanted, keeps it, and replaces it when it fails or hangs."""

    def __init__(
        self,
        model_id: str,
        make: Callable[[], Pipeline],
        config: RestartConfig,
        clocks: Clocks,
        recent_logs: Callable[[], tuple[str, ...]],
        changed: Callable[["HostedModel"], None],
    ) -> None:
        self.model_id = model_id
        self.state = ModelState.COLD
        self.restart_count = 0
        self.last_restart: Restart | None = None
        self._make = make
        self._config = config
        self._clocks = clocks
        self._recent_logs = recent_logs
        self._changed = changed
        self._unloaded = make()
        self._streams: set[HostedStream] = set()
        self._loaded: LoadedModel | None = None
        self._attaching: asyncio.TaskGroup | None = None
        self._is_wanted = asyncio.Event()
        self._settled = asyncio.Event()
        self._broken = asyncio.Event()
        self._failure = ""
        self._failures_s: deque[float] = deque(maxlen=config.max_restarts + 1)

    def parse(self, raw: Mapping[str, Any] | None) -> BaseParams:
        """Validates a full parameter set. Raises: BadParameters."""
        return self._unloaded.parse(raw)

    @property
    def device(self) -> str:
        """Where the model's tensors are, as torch names it."""
        return self._unloaded.spec.device

    def output_size(self, params: BaseParams) -> tuple[int, int]:
        """(width, height) of the pictures that come out."""
        return self._unloaded.output_size(params)

    @property
    def num_streams(self) -> int:
        """Streams that are open now."""
        return len(self._streams)

    @property
    def engine_builds(self) -> tuple[EngineBuild, ...]:
        """How far the networks that are compiled for the model are, a size each."""
        return () if self._loaded is None else tuple(self._loaded.pipeline.engine_builds())

    def want(self) -> None:
        """Has the model loaded, if it is not yet."""
        self._is_wanted.set()

    async def wait_settled(self) -> None:
        """Returns when the model is first ready, or given up."""
        await self._settled.wait()

    def open_stream(self, params: BaseParams) -> HostedStream:
        """Makes a stream that becomes ready as soon as the model is. Raises: HostError."""
        if self.state is ModelState.FAILED:
            raise HostError(f"model {self.model_id} is not available: {self._failure}")
        stream = HostedStream(
            self,
            params,
            clock=self._clocks.monotonic,
            release_timeout_s=self._config.release_timeout_s,
        )
        self._streams.add(stream)
        self.want()
        self._attach(stream)
        return stream

    def forget(self, stream: HostedStream) -> None:
        """Takes a stream that closes off the list."""
        self._streams.discard(stream)

    def suspect(self, stream: HostedStream, reason: str) -> None:
        """Hears that a session gave ``stream`` up, and decides whether the model is to blame."""
        self.forget(stream)
        stream.give_up(HostError(reason))
        loaded = self._loaded
        if loaded is None:
            return
        is_hung = loaded.busy_for_s() >= self._config.hang_s
        if is_hung or (loaded.has_failed and not self._streams):
            self._break(reason)
        else:
            logger.warning(
                "a stream of %s was given up, the model stays: %s", self.model_id, reason
            )

    async def run(self) -> None:
        """Keeps the model alive until the caller cancels."""
        await self._is_wanted.wait()
        try:
            while True:
                await self._live_once()
                if self.state is ModelState.FAILED:
                    await asyncio.sleep(self._config.rest_s)
                    self._failures_s.clear()
        finally:
            if self.state is not ModelState.FAILED:
                self._give_up("the node is shutting down")

    async def _live_once(self) -> None:
        """Loads the model and serves streams until it breaks."""
        self._broken.clear()
        loaded = LoadedModel(self.model_id, self._make(), clock=self._clocks.monotonic)
        self._loaded = loaded
        try:
            await self._load(loaded)
            await self._serve(loaded)
        except TimeoutError:
            self._break(f"not loaded after {self._config.load_timeout_s:g} s")
        except LpnodeError as error:
            self._break(str(error))
        finally:
            if self._loaded is loaded:
                await self._stop(loaded)

    async def _load(self, loaded: LoadedModel) -> None:
        started_s = self._clocks.monotonic()
        async with asyncio.timeout(self._config.load_timeout_s):
            self._enter(ModelState.LOADING)
            await loaded.load()
            self._enter(ModelState.WARMING)
            await loaded.warm(loaded.pipeline.parse(None))
        elapsed_s = self._clocks.monotonic() - started_s
        logger.info("model %s is ready after %.2f s", self.model_id, elapsed_s)

    async def _serve(self, loaded: LoadedModel) -> None:
        async with asyncio.TaskGroup() as attaching:
            self._attaching = attaching
            for stream in self._streams:
                self._attach(stream)
            self._enter(ModelState.READY)
            self._settled.set()
            background = attaching.create_task(
                loaded.pipeline.run_background(), name=f"compile {self.model_id}"
            )
            await self._broken.wait()
            background.cancel()

    def _attach(self, stream: HostedStream) -> None:
        if self._attaching is not None and self._loaded is not None:
            task = stream.attach(self._loaded)
            self._attaching.create_task(task, name=f"prepare a stream of {self.model_id}")

    def _break(self, reason: str) -> None:
        """Throws the present incarnation away; ``run`` makes another, unless it was the last."""
        loaded = self._forget_loaded()
        if loaded is None:
            return
        logger.error("model %s failed: %s", self.model_id, reason)
        loaded.abandon(reason)
        self._broken.set()
        now_s, failures_s = self._clocks.monotonic(), self._failures_s
        failures_s.append(now_s)
        if len(failures_s) == failures_s.maxlen and now_s - failures_s[0] <= self._config.window_s:
            logger.error("model %s is given up after %d failures", self.model_id, len(failures_s))
            self._give_up(reason)
            return
        self.restart_count += 1
        logger.warning("model %s is restarted (restart %d)", self.model_id, self.restart_count)
        self.last_restart = Restart(self.restart_count, self._clocks.wall(), self._recent_logs())
        self._enter(ModelState.LOADING)

    def _give_up(self, reason: str) -> None:
        self._failure = reason
        self._enter(ModelState.FAILED)
        self._settled.set()
        for stream in self._streams:
            stream.give_up(HostError(reason))

    def _enter(self, state: ModelState) -> None:
        if state is not self.state:
            self.state = state
            self._changed(self)

    async def _stop(self, loaded: LoadedModel) -> None:
        self._forget_loaded()
        try:
            async with asyncio.timeout(self._config.release_timeout_s):
                await loaded.stop()
        except TimeoutError:
            loaded.abandon("the node is shutting down")

    def _forget_loaded(self) -> LoadedModel | None:
        loaded, self._loaded = self._loaded, None
        self._attaching = None
        for stream in self._streams:
            stream.detach()
        return loaded
