"""What pipelines without a model have in common."""

import torch

from lpnode.pipeline.input_buffers import InputBuffers
from lpnode.pipeline.params import BaseParams
from lpnode.pipeline.pipeline import EngineBuild, Hold, PipelineSpec, StreamState


class FrameFilter:
    """Base of a pipeline that needs no model.

    Frames keep their size, any parameter may change between two of them, and nothing is loaded.
    """

    def __init__(self, device: str = "cpu") -> None:
        # One frame takes a fraction of a millisecond; waiting for companions would only add to it.
        self.spec = PipelineSpec(
            device=device, dtype=torch.float32, value_range=(0.0, 1.0), max_batch=1
        )
        self._inputs = InputBuffers(self.spec)

    def output_size(self, params: BaseParams) -> tuple[int, int]:
        """The input's own size."""
        return params.width, params.height

    def is_dynamic(self, old: BaseParams, new: BaseParams) -> bool:
        """Always: the next frame simply takes the new ones."""
        return True

    def load(self) -> None:
        """There is nothing to load."""

    def warm(self, params: BaseParams) -> None:
        """There is nothing to warm."""

    def hold(self, params: BaseParams) -> Hold | None:
        """There is nothing to load."""
        return None

    def input_buffer(self, width: int, height: int) -> torch.Tensor:
        """See ``Pipeline.input_buffer``."""
        return self._inputs.get(width, height)

    def release(self, state: StreamState) -> None:
        """There is nothing to release."""

    async def run_background(self) -> None:
        """There is nothing to do."""

    def engine_builds(self) -> tuple[EngineBuild, ...]:
        """There are none."""
        return ()

    def unload(self) -> None:
        """Forgets the input buffers."""
        self._inputs.clear()
