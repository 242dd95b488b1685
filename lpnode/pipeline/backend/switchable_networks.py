"""Networks that serve at once, and faster from the moment that their engines are ready."""

import asyncio
import logging
import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import torch

from lpnode.errors import InvalidArgument
from lpnode.model.diffusion_model import DiffusionModel
from lpnode.pipeline.backend.engine_build import (
    BuildPhase,
    BuildState,
    EngineBuilder,
)
from lpnode.pipeline.backend.engine_cache import BuildCancelled
from lpnode.pipeline.backend.engine_key import NetworkKind
from lpnode.pipeline.backend.engine_networks import EngineNetworks
from lpnode.pipeline.backend.networks import Conditioning, Networks, NetworkShapes
from lpnode.pipeline.failures import as_lpnode_error

logger = logging.getLogger(__name__)

_Size = tuple[int, int]


@dataclass(frozen=True, slots=True)
class _Wanted:
    """A build that ``prepare`` or ``update`` asked for."""

    model: DiffusionModel
    shapes: NetworkShapes


class SwitchableNetworks:
    """``Networks`` of a fallback until the engines of a size are ready, then of the engines.

    Calls may go on while engines are built: each one runs wholly on what it began with, and the
    next one may run on engines. What engines were not built for, other sizes and more rows, stays
    with the fallback; so does everything when a build fails.

    ``run`` builds, in a task of its own; everything else belongs to the device's thread.
    """

    def __init__(self, fallback: Networks, builder: EngineBuilder) -> None:
        if (builder.device, builder.dtype) != (fallback.device, fallback.dtype):
            raise InvalidArgument(
                f"engines would be of {builder.dtype} on {builder.device}, and the networks that "
                f"serve meanwhile of {fallback.dtype} on {fallback.device}"
            )
        self._fallback = fallback
        self._builder = builder
        self._model: DiffusionModel | None = None
        self._ready: dict[_Size, EngineNetworks] = {}
        self._shapes: dict[_Size, NetworkShapes] = {}
        self._states: dict[_Size, BuildState] = {}
        # Guards what the device's thread and the builder's both change.
        self._lock = threading.Lock()
        self._wanted: list[_Wanted] = []
        self._stop = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._wake = asyncio.Event()

    @property
    def name(self) -> str:
        """The compiler's once an engine serves, the fallback's before."""
        return self._builder.compiler.name if self._ready else self._fallback.name

    @property
    def device(self) -> torch.device:
        """See ``Networks.device``."""
        return self._fallback.device

    @property
    def dtype(self) -> torch.dtype:
        """See ``Networks.dtype``."""
        return self._fallback.dtype

    @property
    def max_sizes(self) -> int | None:
        """See ``Networks.max_sizes``; engines of every size are kept."""
        return self._fallback.max_sizes

    @property
    def states(self) -> Mapping[_Size, BuildState]:
        """How far the engines of each (width, height) are; may be read from any thread."""
        return dict(self._states)

    async def run(self) -> None:
        """Builds what is asked for, one size after the other, until it is cancelled.

        Cancelled, it ends the build's process and leaves nothing behind; see
        ``EngineBuilder.build`` for the little that it waits for.
        """
        loop = self._loop = asyncio.get_running_loop()
        thread = ThreadPoolExecutor(1, thread_name_prefix="engine build")
        build: asyncio.Future[None] | None = None
        try:
            while True:
                self._wake.clear()
                while (wanted := self._next()) is not None:
                    build = loop.run_in_executor(thread, self._build, wanted)
                    await asyncio.shield(build)
                await self._wake.wait()
        finally:
            with self._lock:
                self._loop = None
                self._stop.set()
            if build is not None:
                await asyncio.wait((build,))
            thread.shutdown(wait=False)

    def serving(self, width: int, height: int) -> object:
        """See ``Networks.serving``: each size changes over when its own engines are ready."""
        return self._ready.get((width, height)) or self._fallback.serving(width, height)

    def load(self, model: DiffusionModel) -> None:
        """See ``Networks.load``."""
        self._fallback.load(model)
        self._model = model
        self._forget_engines()

    def prepare(self, shapes: NetworkShapes) -> None:
        """Prepares the fallback, and asks for engines, which ``run`` builds."""
        self._fallback.prepare(shapes)
        size = (shapes.width, shapes.height)
        with self._lock:
            is_wanted = size in self._states and self._shapes.get(size) == shapes
            self._shapes[size] = shapes
        if not is_wanted:
            self._want(shapes)

    def encode(self, images: torch.Tensor, noise: torch.Tensor | None = None) -> torch.Tensor:
        """See ``Networks.encode``."""
        size = (images.shape[3], images.shape[2])
        return self._serving(size, NetworkKind.VAE_ENCODER, len(images)).encode(images, noise)

    def predict(
        self, latents: torch.Tensor, timesteps: torch.Tensor, conditioning: Conditioning
    ) -> torch.Tensor:
        """See ``Networks.predict``."""
        serving = self._serving(self._size_of(latents), NetworkKind.UNET, len(latents))
        return serving.predict(latents, timesteps, conditioning)

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        """See ``Networks.decode``."""
        size = self._size_of(latents)
        return self._serving(size, NetworkKind.VAE_DECODER, len(latents)).decode(latents)

    def update(self, model: DiffusionModel) -> None:
        """See ``Networks.update``: the fallback serves until engines of the new weights are ready.

        An engine is of one set of weights; a build that runs for the old one is stopped.
        """
        self._fallback.update(model)
        self._model = model
        self._forget_engines()
        for shapes in list(self._shapes.values()):
            self._want(shapes)

    def unload(self) -> None:
        """Stops a build and returns the memory of engines and fallback."""
        self._model = None
        self._forget_engines()
        self._shapes.clear()
        self._fallback.unload()

    def _serving(self, size: _Size, kind: NetworkKind, count: int) -> Networks | EngineNetworks:
        engines = self._ready.get(size)
        return engines if engines is not None and engines.takes(kind, count) else self._fallback

    def _size_of(self, latents: torch.Tensor) -> _Size:
        if self._model is None:
            return 0, 0  # the fallback says what is amiss
        side = self._model.traits.pixels_per_latent
        return latents.shape[3] * side, latents.shape[2] * side

    def _forget_engines(self) -> None:
        with self._lock:
            self._stop.set()
            self._stop = threading.Event()
            self._wanted.clear()
            self._states.clear()
            self._ready = {}

    def _want(self, shapes: NetworkShapes) -> None:
        if self._model is None:
            return
        with self._lock:
            self._wanted.append(_Wanted(self._model, shapes))
            self._states[shapes.width, shapes.height] = BuildState(BuildPhase.WAITING)
            loop = self._loop
        if loop is not None:
            loop.call_soon_threadsafe(self._wake.set)

    def _next(self) -> _Wanted | None:
        with self._lock:
            return self._wanted.pop(0) if self._wanted else None

    def _build(self, wanted: _Wanted) -> None:
        """On the thread of builds. What goes wrong is reported and stays here."""
        size = (wanted.shapes.width, wanted.shapes.height)
        with self._lock:
            stop = self._stop
            if wanted.model is not self._model:
                return

        def report(state: BuildState) -> None:
            with self._lock:
                if not stop.is_set():
                    self._states[size] = state

        try:
            engines = self._builder.build(wanted.model, wanted.shapes, report, stop)
        except BuildCancelled:
            logger.info("the engines for %dx%d are no longer built", *size)
            return
        except Exception as error:  # noqa: BLE001 - the fallback goes on, whatever it was
            reason = as_lpnode_error(error)
            report(BuildState(BuildPhase.FAILED, error=str(reason)))
            logger.warning(
                "no engines for %dx%d, %s goes on: %s", *size, self._fallback.name, reason
            )
            return
        with self._lock:
            if not stop.is_set():
                self._ready = {**self._ready, size: engines}
                self._states[size] = BuildState(BuildPhase.READY, fraction=1.0)
                logger.info("engines for %dx%d are ready", *size)
