"""A pipeline whose loads, runs and failures a test decides, and hosts to run it on."""

import asyncio
import threading
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import av
import pytest

from lpnode.media.frame import Colour, Frame, Matrix
from lpnode.pipeline.catalog import Catalog
from lpnode.pipeline.input_buffers import InputBuffers
from lpnode.pipeline.params import BaseParams
from lpnode.pipeline.passthrough import Passthrough
from lpnode.pipeline.pipeline import FrameJob, FrameResult, Hold, PipelineSpec, StreamState
from lpnode.schedule.hosted_model import Clocks, RestartConfig
from lpnode.schedule.local_host import LocalHost, LocalHostConfig

COLOUR = Colour(Matrix.BT601, is_full_range=False)


@dataclass
class Direction:
    """What every ``Directed`` pipeline made by one test does and has done."""

    max_batch: int = 1
    may_load: threading.Event = field(default_factory=threading.Event)
    may_run: threading.Event = field(default_factory=threading.Event)
    may_update: threading.Event = field(default_factory=threading.Event)
    may_prepare: threading.Event = field(default_factory=threading.Event)
    may_fetch: threading.Event = field(default_factory=threading.Event)
    load_errors: list[Exception] = field(default_factory=list)
    run_errors: list[Exception] = field(default_factory=list)
    prepare_errors: list[Exception] = field(default_factory=list)
    update_errors: list[Exception] = field(default_factory=list)
    fetch_errors: list[Exception] = field(default_factory=list)
    needs_fetch: Callable[[BaseParams], bool] = lambda params: False
    held: list[BaseParams] = field(default_factory=list)
    updates: list[BaseParams] = field(default_factory=list)
    is_dynamic: bool = True
    num_in_flight: int = 0
    batches: list[list[int]] = field(default_factory=list)
    calls: list[str] = field(default_factory=list)
    threads: set[str] = field(default_factory=set)
    watcher: tuple[asyncio.AbstractEventLoop, asyncio.Event] | None = None

    def __post_init__(self) -> None:
        self.let_everything_go()

    def note(self, call: str) -> None:
        self.calls.append(call)
        self.threads.add(threading.current_thread().name)
        if self.watcher is not None:
            loop, noted = self.watcher
            loop.call_soon_threadsafe(noted.set)

    async def until(self, is_so: Callable[[], object]) -> None:
        """Returns as soon as a call into the pipeline has made ``is_so`` true."""
        noted = asyncio.Event()
        self.watcher = (asyncio.get_running_loop(), noted)
        while not is_so():
            await noted.wait()
            noted.clear()
        self.watcher = None

    def let_everything_go(self) -> None:
        for event in (
            self.may_load,
            self.may_prepare,
            self.may_run,
            self.may_update,
            self.may_fetch,
        ):
            event.set()


@dataclass(eq=False)
class DirectedHold:
    """Something beside the model that parameters need."""

    direction: Direction
    params: BaseParams
    is_loaded: bool = False

    def load(self) -> None:
        self.direction.note("fetch")
        self.direction.may_fetch.wait()
        Directed._raise(self.direction.fetch_errors)
        self.is_loaded = True

    def release(self) -> None:
        self.direction.held.remove(self.params)
        self.direction.note("let go")


class Directed(Passthrough):
    """Passes frames through as its ``Direction`` says."""

    def __init__(self, direction: Direction) -> None:
        super().__init__()
        self._direction = direction
        old = self.spec
        self.spec = PipelineSpec(old.device, old.dtype, old.value_range, direction.max_batch)
        self._inputs = InputBuffers(self.spec)
        self._in_flight: deque[FrameResult] = deque()

    def is_dynamic(self, old: BaseParams, new: BaseParams) -> bool:
        return self._direction.is_dynamic

    def load(self) -> None:
        self._direction.note("load")
        self._direction.may_load.wait()
        self._raise(self._direction.load_errors)

    def hold(self, params: BaseParams) -> Hold | None:
        if not self._direction.needs_fetch(params):
            return None
        self._direction.held.append(params)
        return DirectedHold(self._direction, params)

    def prepare(self, params: BaseParams) -> StreamState:
        self._direction.note("prepare")
        self._direction.may_prepare.wait()
        self._raise(self._direction.prepare_errors)
        return super().prepare(params)

    def run(self, batch: Sequence[FrameJob]) -> list[FrameResult | None]:
        self._direction.batches.append([job.pts_ticks for job in batch])
        self._direction.note("run")
        self._direction.may_run.wait()
        self._raise(self._direction.run_errors)
        if self._direction.num_in_flight:
            return [self._delayed(job) for job in batch]
        return super().run(batch)

    def _delayed(self, job: FrameJob) -> FrameResult | None:
        self._in_flight.append(FrameResult(job.frame.clone(), job.pts_ticks))
        is_full = len(self._in_flight) > self._direction.num_in_flight
        return self._in_flight.popleft() if is_full else None

    def update(self, state: StreamState, params: BaseParams) -> None:
        self._direction.note("update")
        self._direction.updates.append(params)
        self._direction.may_update.wait()
        self._raise(self._direction.update_errors)
        super().update(state, params)

    def release(self, state: StreamState) -> None:
        self._direction.note("release")

    def unload(self) -> None:
        self._direction.note("unload")
        super().unload()

    @staticmethod
    def _raise(errors: list[Exception]) -> None:
        if errors:
            raise errors.pop(0)


Hosting = Callable[..., Any]


@pytest.fixture
def direction() -> Iterator[Direction]:
    direction = Direction()
    yield direction
    direction.let_everything_go()


@pytest.fixture
def hosting(direction: Direction) -> Hosting:
    """``async with hosting() as host``: a running host with the model ``directed``."""

    @asynccontextmanager
    async def run_host(
        restart: RestartConfig | None = None,
        *,
        models: Mapping[str, bool] | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> AsyncIterator[LocalHost]:
        catalog = Catalog({"directed": lambda _: Directed(direction), "noop": Passthrough})
        config = LocalHostConfig(
            models=models or {"directed": True}, restart=restart or RestartConfig()
        )
        clocks = Clocks(monotonic=monotonic, wall=lambda: 1_700_000_000.5)
        host = LocalHost(config, catalog, clocks=clocks)
        async with asyncio.TaskGroup() as tasks:
            running = tasks.create_task(host.run())
            try:
                yield host
            finally:
                direction.let_everything_go()
                running.cancel()

    return run_host


def picture(width: int = 512, height: int = 512, luma: int = 0) -> av.VideoFrame:
    """A grey yuv420p picture."""
    made = av.VideoFrame(width, height, "yuv420p")
    for plane, value in zip(made.planes, (luma, 128, 128), strict=True):
        plane.update(bytes([value]) * plane.buffer_size)
    return made


def frame(pts_ticks: int, *, width: int = 512, height: int = 512, luma: int = 120) -> Frame:
    """A grey frame."""
    return Frame(picture(width, height, luma), pts_ticks, COLOUR)


def luma_of(shown: av.VideoFrame) -> int:
    """The luma of the pixel in the middle."""
    plane = shown.planes[0]
    return memoryview(plane)[plane.height // 2 * plane.line_size + plane.width // 2]
