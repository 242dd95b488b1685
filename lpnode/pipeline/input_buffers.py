"""The tensors that frames are converted into, kept from frame to frame."""

from collections import OrderedDict

import torch

from lpnode.pipeline.pipeline import PipelineSpec

MAX_SIZES = 4
"""Frame sizes kept at once, if a batch cannot have more; one at 1024x1024 float32 takes 12 MiB a
batch row."""


class InputBuffers:
    """One (max_batch, 3, H, W) tensor for each frame size in use. Used from one thread."""

    def __init__(self, spec: PipelineSpec) -> None:
        self._spec = spec
        self.max_sizes = max(MAX_SIZES, spec.max_batch)
        """Sizes that keep their addresses, which captured graphs know, from frame to frame."""
        self._by_size: OrderedDict[tuple[int, int], torch.Tensor] = OrderedDict()

    def get(self, width: int, height: int) -> torch.Tensor:
        """The buffer for frames of this size; its content is whatever was written last.

        The least recently used size gives way when more than ``max_sizes`` are wanted: none that
        the frames of the present batch may lie in.
        """
        size = (width, height)
        buffer = self._by_size.get(size)
        if buffer is None:
            spec = self._spec
            shape = (spec.max_batch, 3, height, width)
            buffer = torch.zeros(shape, dtype=spec.dtype, device=spec.device)
            self._by_size[size] = buffer
            if len(self._by_size) > self.max_sizes:
                self._by_size.popitem(last=False)
        else:
            self._by_size.move_to_end(size)
        return buffer

    def clear(self) -> None:
        """Forgets every buffer."""
        self._by_size.clear()
