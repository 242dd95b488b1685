"""The interface between a session and whatever turns its frames into other frames."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch

from lpnode.errors import HostError
from lpnode.pipeline.params import BaseParams


@dataclass(frozen=True, slots=True)
class PipelineSpec:
    """What a pipeline takes and gives: tensors (3, H, W), RGB planes, on ``device``."""

    device: str
    dtype: torch.dtype
    value_range: tuple[float, float]
    """RGB black and white, e.g. (-1.0, 1.0)."""
    max_batch: int
    """Most frames one ``run`` may get, over all streams."""


class StreamState(Protocol):
    """What a pipeline keeps for one session; opaque to everybody else."""

    @property
    def params(self) -> BaseParams:
        """The full set in force."""


@dataclass(frozen=True, slots=True)
class FrameJob:
    """One frame of one stream. ``frame`` is (3, H, W) as the spec declares, borrowed for the run.

    The frames of one ``run`` that have the same size are the first rows, in order, of the
    pipeline's own ``input_buffer`` for that size.
    """

    state: StreamState
    frame: torch.Tensor
    pts_ticks: int


@dataclass(frozen=True, slots=True)
class FrameResult:
    """A finished frame: (3, H', W') as the spec declares, valid until the next ``run``.

    ``pts_ticks`` is that of the frame it was made from, which is an earlier one of the same stream
    where a pipeline keeps several frames in flight. ``is_repeat`` says that the picture is the one
    before once more, because the frame looked like the one before.
    """

    frame: torch.Tensor
    pts_ticks: int
    is_repeat: bool = False


class Hold(Protocol):
    """What a parameter set needs in memory, kept there for a stream that is about to use it."""

    @property
    def is_loaded(self) -> bool:
        """Whether all of it is there, and stays until ``release``. From any thread."""

    def load(self) -> None:
        """Brings in what is missing, while frames run on. Blocks; not on the device thread.

        Raises: BadParameters, HostError: names the field; nothing is left of what was begun.
        """

    def release(self) -> None:
        """Ends the hold, on the device thread: what no stream uses is unloaded."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineBuild:
    """How far the compiled networks for one size of frames are, as an operator is told.

    Attributes:
        width, height: in pixels.
        phase: ``waiting``, ``export``, ``compile``, ``verify``, ``ready`` or ``failed``; until it
            is ready, and if it fails, frames are run without.
        network: which one is being built, or ``""``.
        fraction: of the whole, 0 to 1.
        error: why it failed, or ``""``.
    """

    width: int
    height: int
    phase: str
    network: str = ""
    fraction: float = 0.0
    error: str = ""


class Pipeline(Protocol):
    """One loaded model, shared by the streams that run on it.

    Constructing one is cheap and touches no device. ``spec``, ``parse``, ``output_size``,
    ``is_dynamic``, ``hold`` and ``engine_builds`` may be used from any thread at any time; every
    other method is called from the model's own device thread, one at a time, and blocks.
    """

    @property
    def spec(self) -> PipelineSpec:
        """Fixed for the life of the pipeline."""

    def parse(self, raw: Mapping[str, Any] | None) -> BaseParams:
        """Validates a full parameter set; absent keys take this model's defaults.

        Raises: BadParameters: names the field and what would be accepted.
        """

    def output_size(self, params: BaseParams) -> tuple[int, int]:
        """(width, height) in pixels of the frames that ``run`` gives for ``params``."""

    def is_dynamic(self, old: BaseParams, new: BaseParams) -> bool:
        """Whether ``update`` from ``old`` to ``new`` fits between two frames.

        If not, the stream counts as reloading, and shows loading frames, until it returns.
        """

    def load(self) -> None:
        """Brings weights into memory. Raises: HostError."""

    def warm(self, params: BaseParams) -> None:
        """Compiles, captures and runs once for the shapes of ``params``, so that no frame waits."""

    def hold(self, params: BaseParams) -> Hold | None:
        """Claims what ``prepare`` and ``update`` need in memory, so that neither has to load it.

        The caller has it loaded on another thread, then sends the command, then ends the hold.

        Returns: None where nothing has to be loaded for these parameters, now or later.
        """

    def prepare(self, params: BaseParams) -> StreamState:
        """Makes the state of a new stream. Raises: BadParameters."""

    def input_buffer(self, width: int, height: int) -> torch.Tensor:
        """The (max_batch, 3, height, width) tensor that frames of this size are written into.

        It belongs to the pipeline, so that a captured graph may read from its address and rows may
        be used as one batch without a copy.
        """

    def run(self, batch: Sequence[FrameJob]) -> Sequence[FrameResult | HostError | None]:
        """Processes up to ``spec.max_batch`` frames of different streams.

        Returns: one result a job, in order; None where a stream has nothing to show yet, an error
            where one stream's frame failed alone. A result's tensor may be the job's own.
        """

    def update(self, state: StreamState, params: BaseParams) -> None:
        """Applies a full parameter set, all or nothing. Raises: BadParameters."""

    def release(self, state: StreamState) -> None:
        """Ends a stream."""

    async def run_background(self) -> None:
        """Work that makes later frames faster, such as compiling; ends when it is cancelled.

        Called on the event loop once ``load`` is done, beside everything else. Never raises.
        """

    def engine_builds(self) -> Sequence[EngineBuild]:
        """How far ``run_background`` is with each size, if it compiles."""

    def unload(self) -> None:
        """Returns the memory that ``load`` took."""
