"""No model: frames go in and come out. The latency floor of everything else."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from lpnode.pipeline.input_buffers import InputBuffers
from lpnode.pipeline.params import BaseParams
from lpnode.pipeline.pipeline import FrameJob, FrameResult, PipelineSpec, StreamState


@dataclass(frozen=True, slots=True, kw_only=True)
class PassthroughParams(BaseParams):
    """The base fields; other keys are ignored. Source: live.md sections 7.1 and 7.2."""

    refuses_unknown: ClassVar[bool] = False


@dataclass(slots=True)
class _Stream:
    params: BaseParams


class Passthrough:
    """Gives back the very tensor it was given."""

    def __init__(self, device: str = "cpu") -> None:
        self.spec = PipelineSpec(
            device=device, dtype=torch.float32, value_range=(0.0, 1.0), max_batch=1
        )
        self._buffers = InputBuffers(self.spec)

    def parse(self, raw: Mapping[str, Any] | None) -> BaseParams:
        """See ``Pipeline.parse``."""
        return PassthroughParams.parse(raw)

    def output_size(self, params: BaseParams) -> tuple[int, int]:
        """The input's own size."""
        return params.width, params.height

    def is_dynamic(self, old: BaseParams, new: BaseParams) -> bool:
        """Always: nothing is computed from the parameters."""
        return True

    def load(self) -> None:
        """There is nothing to load."""

    def warm(self, params: BaseParams) -> None:
        """There is nothing to warm."""

    def prepare(self, params: BaseParams) -> StreamState:
        """See ``Pipeline.prepare``."""
        return _Stream(params)

    def input_buffer(self, width: int, height: int) -> torch.Tensor:
        """See ``Pipeline.input_buffer``."""
        return self._buffers.get(width, height)

    def run(self, batch: Sequence[FrameJob]) -> list[FrameResult | None]:
        """Returns each job's own tensor; nothing is copied."""
        return [FrameResult(job.frame, job.pts_ticks) for job in batch]

    def update(self, state: StreamState, params: BaseParams) -> None:
        """See ``Pipeline.update``."""
        state.params = params

    def release(self, state: StreamState) -> None:
        """There is nothing to release."""

    def unload(self) -> None:
        """Forgets the input buffers."""
        self._buffers.clear()
