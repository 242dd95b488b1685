"""The interface between a session and whatever turns its frames into other frames."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch

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

    params: BaseParams


@dataclass(frozen=True, slots=True)
class FrameJob:
    """One frame of one stream. ``frame`` is (3, H, W) as the spec declares, borrowed for the run."""

    state: StreamState
    frame: torch.Tensor
    pts_ticks: int


class Pipeline(Protocol):
    """One loaded model, shared by the streams that run on it.

    All methods but ``parse`` are called from the host's device thread, one at a time, and block.
    """

    spec: PipelineSpec

    def parse(self, raw: Mapping[str, Any] | None) -> BaseParams:
        """Validates a full parameter set; absent keys take this model's defaults. Any thread.

        Raises: BadParameters: names the field and what would be accepted.
        """

    def load(self) -> None:
        """Brings weights into memory. Raises: HostError."""

    def warm(self, params: BaseParams) -> None:
        """Compiles, captures and runs once for the shapes of ``params``, so that no frame waits."""

    def prepare(self, params: BaseParams) -> StreamState:
        """Makes the state of a new stream. Raises: BadParameters."""

    def run(self, batch: Sequence[FrameJob]) -> Sequence[torch.Tensor]:
        """Processes up to ``spec.max_batch`` frames of one or more streams.

        Returns: one (3, H', W') tensor a job, in order, valid until the next ``run``; it may be
            the job's own tensor.
        """

    def update(self, state: StreamState, params: BaseParams) -> None:
        """Applies a full parameter set between two frames, all or nothing. Raises: BadParameters."""

    def release(self, state: StreamState) -> None:
        """Ends a stream."""

    def unload(self) -> None:
        """Returns the memory that ``load`` took."""
