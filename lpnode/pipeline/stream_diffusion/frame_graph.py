"""The way of frames through the networks as one CUDA graph a number of streams.

Note [One graph a frame]
What depends on the frame is data in fixed tensors: which rows of the input buffer, which slots of
the state, and noise. So one graph serves every choice of streams, and a change of prompt, scale,
seed or timestep needs no new one. Conversions from and to YUV run on the same stream before and
behind it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from lpnode.pipeline.backend.cuda_graph import CapturedGraph, graph_memory

FrameNoise = tuple[torch.Tensor | None, torch.Tensor | None]
"""For the KL encoder's posterior, and for the steps of sequential mode."""

Pass = Callable[[torch.Tensor, torch.Tensor, FrameNoise], tuple[torch.Tensor, torch.Tensor]]
"""(S,) slots, (S, 3, H, W) images and noise → pictures and (S,) whether each has failed."""


@dataclass(slots=True)
class _Captured:
    indices: torch.Tensor
    """(2, S) int64 on the device: rows of the input buffer, and slots."""
    noise: FrameNoise
    graph: CapturedGraph[tuple[torch.Tensor, torch.Tensor]]


class FrameGraphs:
    """Captured passes over one input buffer. Used from the device's thread.

    Args:
        run: the pass; it neither waits for the device nor reads from it.
        state: tensors that a pass advances, which captures leave as they were.
        images: the input buffer (max_batch, 3, H, W).
    """

    def __init__(self, run: Pass, state: Sequence[torch.Tensor], images: torch.Tensor) -> None:
        self.images = images
        self._run = run
        self._state = tuple(state)
        self._by_streams: dict[int, _Captured] = {}
        self._memory = graph_memory(images.device)

    def replay(
        self, rows: Sequence[int], slots: Sequence[int], noise: FrameNoise
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Runs the pass for some rows; the first time for so many it is captured."""
        captured = self._by_streams.get(len(rows))
        if captured is None:
            captured = self._by_streams[len(rows)] = self._capture(rows, slots, noise)
        # Both are copied from pageable memory, which is staged at once: nothing is waited for.
        captured.indices.copy_(torch.tensor([list(rows), list(slots)]), non_blocking=True)
        for target, values in zip(captured.noise, noise, strict=True):
            if target is not None and values is not None:
                target.copy_(values, non_blocking=True)
        return captured.graph.replay()

    def release(self) -> None:
        """Returns the memory of every graph."""
        for captured in self._by_streams.values():
            captured.graph.release()
        self._by_streams.clear()

    def _capture(self, rows: Sequence[int], slots: Sequence[int], noise: FrameNoise) -> _Captured:
        device, images = self.images.device, self.images
        indices = torch.tensor([list(rows), list(slots)], device=device)
        first, second = noise
        own: FrameNoise = (
            None if first is None else first.to(device, copy=True),
            None if second is None else second.to(device, copy=True),
        )

        def whole() -> tuple[torch.Tensor, torch.Tensor]:
            return self._run(indices[1], images.index_select(0, indices[0]), own)

        before = [tensor.clone() for tensor in self._state]
        statics = [images, indices, *(tensor for tensor in own if tensor is not None)]
        graph = CapturedGraph(whole, device, statics=statics, pool=self._memory)
        for tensor, values in zip(self._state, before, strict=True):
            tensor.copy_(values)
        return _Captured(indices, own, graph)
