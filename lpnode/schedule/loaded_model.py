"""A pipeline together with the thread it lives on: what a restart throws away."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import TypeVar

from lpnode.pipeline.failures import as_lpnode_error
from lpnode.pipeline.frame_runner import FrameRunner, FrameTask, Shown
from lpnode.pipeline.params import BaseParams
from lpnode.pipeline.pipeline import Pipeline, StreamState
from lpnode.schedule.device_thread import ENDED, DeviceThread

logger = logging.getLogger(__name__)

T = TypeVar("T")


class LoadedModel:
    """One incarnation of a model. Used from the event loop only.

    Every model has a thread of its own: loading one never stalls frames of another, and one that
    hangs can be given up alone.
    """

    def __init__(
        self, model_id: str, pipeline: Pipeline, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.pipeline = pipeline
        self._model_id = model_id
        self._runner = FrameRunner(pipeline)
        self._thread: DeviceThread[FrameTask, Shown | None] = DeviceThread(
            f"lpnode {pipeline.spec.device} {model_id}",
            self._run_batch,
            max_batch=pipeline.spec.max_batch,
            parting=self._unload,
            clock=clock,
        )
        self._loader: DeviceThread[None, None] | None = None
        """What streams ask for beside the model itself is loaded here, and frames go on."""

    async def load(self) -> None:
        """Brings the model into memory. Raises: HostError."""
        await self._call(self._load)

    async def warm(self, params: BaseParams) -> None:
        """Makes the first frame as fast as the others. Raises: HostError."""
        await self._call(lambda: self.pipeline.warm(params))

    @asynccontextmanager
    async def held(self, params: BaseParams) -> AsyncIterator[None]:
        """Has what ``params`` need in memory for the block, where ``prepare`` or ``update`` is.

        It is loaded beside the frames of all streams. A load whose waiter has gone is not waited
        for; what it brings is dropped. Raises: BadParameters, HostError.
        """
        hold = self.pipeline.hold(params)
        if hold is None:
            yield
            return
        try:
            if not hold.is_loaded:
                await self._loading_thread().post(lambda: _mapped(hold.load))
            yield
        finally:
            released = self._thread.post(hold.release)
            released.add_done_callback(_forget)

    async def prepare(self, params: BaseParams) -> StreamState:
        """Makes the state of a stream. Raises: BadParameters, HostError."""
        return await self._call(lambda: self.pipeline.prepare(params))

    async def update(self, state: StreamState, params: BaseParams) -> None:
        """Replaces a stream's parameters between two frames. Raises: BadParameters, HostError."""
        await self._call(lambda: self.pipeline.update(state, params))

    async def release(self, stream: object, state: StreamState) -> None:
        """Ends a stream; frames of it that wait fail, and are not run. Raises: HostError."""
        self._thread.withdraw(stream, "the stream is closed")
        await self._call(lambda: self.pipeline.release(state))

    async def process(self, stream: object, task: FrameTask) -> Shown | None:
        """Runs one frame of ``stream``. See ``HostedStream.process``."""
        return await self._thread.process(stream, task)

    @property
    def has_failed(self) -> bool:
        """Whether the latest run of the pipeline raised."""
        return self._runner.has_failed

    def busy_for_s(self) -> float:
        """Seconds the present call into the pipeline has taken so far."""
        return self._thread.busy_for_s()

    def abandon(self, reason: str) -> None:
        """Gives the incarnation up without waiting; every call waiting on it fails."""
        if self._loader is not None:
            self._loader.abandon(reason)
        self._thread.abandon(reason)

    async def stop(self) -> None:
        """Waits for the present calls, unloads the model and ends its threads."""
        if self._loader is not None:
            self._loader.abandon(ENDED)
        await self._thread.stop()
        if self._loader is not None:
            await self._loader.stop()

    def _loading_thread(self) -> DeviceThread[None, None]:
        if self._loader is None:
            self._loader = DeviceThread(
                f"lpnode weights {self._model_id}", list, max_batch=1, parting=lambda: None
            )
        return self._loader

    async def _call(self, action: Callable[[], T]) -> T:
        return await self._thread.post(lambda: _mapped(action))

    def _run_batch(self, tasks: Sequence[FrameTask]) -> Sequence[Shown | Exception | None]:
        return self._runner.run(tasks)

    def _load(self) -> None:
        self._runner.enter_thread()
        self.pipeline.load()

    def _unload(self) -> None:
        try:
            self.pipeline.unload()
        except Exception:  # the thread ends either way, and nobody waits for this
            logger.exception("model %s could not be unloaded", self._model_id)


def _forget(released: "asyncio.Future[None]") -> None:
    """Nobody waits for a hold to end; what an unloaded model held is gone anyway."""
    if not released.cancelled() and (error := released.exception()) is not None:
        logger.debug("a hold was not ended by itself: %s", error)


def _mapped(action: Callable[[], T]) -> T:
    try:
        return action()
    except Exception as error:
        raise as_lpnode_error(error) from error
