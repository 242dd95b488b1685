"""One session's place on a loaded model."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import av

from lpnode.errors import BadParameters, HostError, LpnodeError
from lpnode.media.frame import Colour, Frame
from lpnode.pipeline.frame_runner import FrameTask, Shown
from lpnode.pipeline.params import BaseParams
from lpnode.pipeline.pipeline import StreamState
from lpnode.schedule.loaded_model import LoadedModel


@dataclass(frozen=True, slots=True)
class Restart:
    """One restart of a model. Source: live.md section 6.2, event ``restart``."""

    count: int
    """Restarts since the node started, this one included."""
    time_s: float
    """Unix time."""
    logs: tuple[str, ...]
    """The newest log lines about models, oldest first."""


class Model(Protocol):
    """What a stream needs to know of the model it runs on."""

    model_id: str
    restart_count: int
    last_restart: Restart | None

    @property
    def device(self) -> str:
        """Where the model's tensors are, as torch names it."""

    def output_size(self, params: BaseParams) -> tuple[int, int]:
        """(width, height) of the pictures that come out."""

    def suspect(self, stream: "HostedStream", reason: str) -> None:
        """Hears that a session gave its stream up."""

    def forget(self, stream: "HostedStream") -> None:
        """Hears that a stream was closed."""


class HostedStream:
    """Processes the frames of one session; made by ``LocalHost.open_stream``.

    The stream outlives restarts of its model: it is prepared anew, with its latest parameters, as
    soon as the model is back. Used from the event loop only.
    """

    def __init__(
        self,
        model: Model,
        params: BaseParams,
        *,
        clock: Callable[[], float],
        release_timeout_s: float,
    ) -> None:
        self.params = params
        """The full set in force, or the one that the stream will be prepared with."""
        self.output_size = model.output_size(params)
        """(width, height) of every picture that ``process`` writes; fixed."""
        self.device = model.device
        """Where frames are wanted: ``cpu``, ``cuda`` or ``cuda:N``."""
        self.ready_at_s: float | None = None
        """When frames could last be taken again after a load or reload, on the host's clock."""
        self.error: LpnodeError | None = None
        """Why this stream will never be ready again, if so."""
        self._kept = params
        """What ``params`` goes back to if the pipeline refuses it: the last set that it took."""
        self._refusal: tuple[BaseParams, LpnodeError] | None = None
        """The set that was refused last while the stream was prepared, and why."""
        self._model = model
        self._clock = clock
        self._release_timeout_s = release_timeout_s
        self._loaded: LoadedModel | None = None
        self._state: StreamState | None = None
        self._num_reloads = 0
        self._is_closed = False
        self._updating = asyncio.Lock()
        self._changed = asyncio.Event()

    @property
    def is_ready(self) -> bool:
        """Whether ``process`` would take a frame; false during loads, reloads and restarts."""
        return self._state is not None and not self._num_reloads

    @property
    def is_alive(self) -> bool:
        """Whether the stream is ready or may yet become so."""
        return self.error is None and not self._is_closed

    @property
    def restart_count(self) -> int:
        """How often the model was restarted since the node started."""
        return self._model.restart_count

    @property
    def last_restart(self) -> Restart | None:
        """The latest restart of the model; another object after each."""
        return self._model.last_restart

    async def wait_ready(self) -> None:
        """Returns once a frame may be processed. Raises: LpnodeError: that will never be."""
        while not self.is_ready:
            if self.error is not None:
                raise self.error
            if self._is_closed:
                raise HostError("the stream is closed")
            self._changed.clear()
            await self._changed.wait()

    async def process(self, frame: Frame, picture: av.VideoFrame, colour: Colour) -> Shown | None:
        """Turns ``frame`` into ``picture``: one hop to the device thread and back.

        Args:
            frame: any size; scaled to cover the params' size and cropped. Borrowed for the call.
            picture: yuv420p of ``output_size``; written as ``colour`` says. When the caller is
                cancelled, a frame that has begun may still be written into it.
        Returns: which frame ``picture`` now shows, PTS in 1/90000 s; None if the pipeline has
            nothing to show yet and ``picture`` means nothing.
        Raises:
            HostError: the pipeline failed on this frame, or is not ready; later frames may succeed.
            MediaError: the frame cannot be converted.
        Source: live.md section 4.2.
        """
        loaded, state = self._loaded, self._state
        if loaded is None or state is None or self._num_reloads:
            raise self._not_ready()
        return await loaded.process(self, FrameTask(state, frame, picture, colour))

    async def update(self, params: BaseParams) -> None:
        """Replaces the whole parameter set between two frames, or changes nothing at all.

        While the stream is not prepared, the set is kept for when it will be, and awaited. What the
        set needs in memory is loaded first, and the stream goes on with the set before meanwhile;
        updates that come while one is under way wait for it, in order.

        Raises:
            BadParameters: the set would change the output size, or the pipeline declines it.
            HostError: the pipeline failed to apply it, or the stream will never be ready.
        Source: live.md section 7.1.
        """
        self._check_size(params)
        async with self._updating:
            loaded, state = self._loaded, self._state
            if loaded is not None and state is not None:
                async with loaded.held(params):
                    if state is not self._state:  # closed, or the model broke, in the meantime
                        raise self._not_ready()
                    await self._apply(loaded, state, params)
                return
            self.params = params
        await self._prepared_with(params)

    async def _apply(self, loaded: LoadedModel, state: StreamState, params: BaseParams) -> None:
        is_reload = not loaded.pipeline.is_dynamic(self.params, params)
        self._num_reloads += is_reload
        try:
            await loaded.update(state, params)
            self.params = self._kept = params
        finally:
            self._num_reloads -= is_reload
            if is_reload:
                self._note_ready()

    def fail(self, reason: str) -> None:
        """Says that the session has given this stream up because no output came.

        The model is restarted in the background if it hangs, or fails and nobody else is on it.
        The reference restarts its worker whatever the reason; here a stream whose own frames or
        encoder are at fault must not cost others the model. Source: live.md section 8.5.
        """
        self._model.suspect(self, reason)

    async def close(self) -> None:
        """Ends the stream: no frame of it is begun afterwards. May be called twice.

        Returns when the pipeline has let go of the stream, or after the release timeout if it is
        busy for longer; then the pipeline will as soon as it can.
        """
        if self._is_closed:
            return
        self._is_closed = True
        self._model.forget(self)
        self._changed.set()
        loaded, state = self._loaded, self._state
        self.detach()
        if loaded is None or state is None:
            return
        try:
            async with asyncio.timeout(self._release_timeout_s):
                await loaded.release(self, state)
        except (TimeoutError, LpnodeError):
            return  # hung or restarted; either way there is nothing left to do for this stream

    async def attach(self, loaded: LoadedModel) -> None:
        """Prepares the stream on a model that has become ready. Called by the stream's model."""
        if self._is_closed:
            return
        self._loaded = loaded
        while loaded is self._loaded and self._state is None:
            params = self.params
            try:
                await self._prepare(loaded, params)
            except LpnodeError as error:
                # A model that went away meanwhile comes back, and prepares the stream anew.
                if loaded is self._loaded:
                    self._refuse(params, error)

    async def _prepare(self, loaded: LoadedModel, params: BaseParams) -> None:
        async with loaded.held(params):
            if not self._still_wants(params, loaded):
                return
            state = await loaded.prepare(params)
        if self._still_wants(params, loaded):
            self._state = state
            self._kept = params
            self._note_ready()
        else:
            await loaded.release(self, state)

    def _refuse(self, params: BaseParams, error: LpnodeError) -> None:
        """Goes back to the set that was in force before ``params``, if there is one."""
        self._refusal = (params, error)
        if params is not self.params:
            return  # another was given in the meantime, and is tried next
        if params is self._kept:
            self.give_up(error)
        else:
            self.params = self._kept

    async def _prepared_with(self, params: BaseParams) -> None:
        """Returns once the stream is ready. Raises: LpnodeError: ``params`` was refused."""
        await self.wait_ready()
        if self._refusal is not None and self._refusal[0] is params:
            raise self._refusal[1]

    def _still_wants(self, params: BaseParams, loaded: LoadedModel) -> bool:
        """Whether the stream was neither closed nor given other parameters in the meantime."""
        return loaded is self._loaded and params is self.params

    def detach(self) -> None:
        """Forgets a model that has gone away. Called by the stream's model."""
        self._loaded = None
        self._state = None

    def give_up(self, error: LpnodeError) -> None:
        """Ends the hope of ever being ready. Called by the stream's model."""
        self.detach()
        self.error = error
        self._changed.set()

    def _note_ready(self) -> None:
        if self.is_ready:
            self.ready_at_s = self._clock()
            self._changed.set()

    def _check_size(self, params: BaseParams) -> None:
        old = (self.params.width, self.params.height)
        new = (params.width, params.height)
        if old == new:
            old, new = self.output_size, self._model.output_size(params)
        if old != new:
            raise BadParameters(
                f"Cannot change output resolution mid-stream "
                f"({old[0]}x{old[1]} to {new[0]}x{new[1]})"
            )

    def _not_ready(self) -> HostError:
        return HostError(f"model {self._model.model_id} is not ready")
