"""No model: frames go in and come out. The latency floor of everything else."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from lpnode.errors import InvalidArgument
from lpnode.pipeline.frame_filter import FrameFilter
from lpnode.pipeline.params import BaseParams
from lpnode.pipeline.pipeline import FrameJob, FrameResult, StreamState


@dataclass(frozen=True, slots=True, kw_only=True)
class PassthroughParams(BaseParams):
    """The base fields; other keys are ignored. Source: live.md sections 7.1 and 7.2."""

    refuses_unknown: ClassVar[bool] = False


@dataclass(slots=True)
class _Stream:
    params: BaseParams


class Passthrough(FrameFilter):
    """Gives back the very tensor it was given."""

    def parse(self, raw: Mapping[str, Any] | None) -> BaseParams:
        """See ``Pipeline.parse``."""
        return PassthroughParams.parse(raw)

    def prepare(self, params: BaseParams) -> StreamState:
        """See ``Pipeline.prepare``."""
        return _Stream(params)

    def run(self, batch: Sequence[FrameJob]) -> list[FrameResult | None]:
        """Returns each job's own tensor; nothing is copied."""
        return [FrameResult(job.frame, job.pts_ticks) for job in batch]

    def update(self, state: StreamState, params: BaseParams) -> None:
        """See ``Pipeline.update``."""
        _own(state).params = params


def _own(state: StreamState) -> _Stream:
    if not isinstance(state, _Stream):
        raise InvalidArgument(f"expected a stream of passthrough, got {type(state).__name__}")
    return state
