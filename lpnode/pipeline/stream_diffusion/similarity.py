"""The stochastic similarity filter: frames that look like the last one need not be computed."""

from dataclasses import dataclass

import torch

from lpnode.media.frame_similarity import FrameSimilarity

LEAST_NORM = 1e-6


@dataclass(frozen=True, slots=True)
class SimilarityConfig:
    """``threshold`` θ: the cosine below which nothing is skipped; ``max_skip_frame`` M."""

    threshold: float = 0.98
    max_skip_frame: int = 10


class SimilarityFilter:
    """Decides frame by frame whether a stream's frame is worth a UNet call.

    Frames that equal the last processed one are skipped, at most M + 1 in a row; nearly equal ones
    are skipped at random, the more alike the likelier. Seeded, so that a run can be repeated.

    Source: streamdiffusion.md section 9; nothing sleeps here, unlike in the reference.
    """

    def __init__(self, config: SimilarityConfig, *, seed: int) -> None:
        self.config = config
        self._generator = torch.Generator().manual_seed(seed)
        self._processed: torch.Tensor | None = None
        self._on_device: FrameSimilarity | None = None
        self._num_skipped = 0

    def forget(self) -> None:
        """Has the next frame processed whatever it looks like."""
        self._processed = None

    def skips(self, frame: torch.Tensor) -> bool:
        """Whether ``frame``, in [-1, 1], may be passed over; if not, it is kept for comparison.

        On a CUDA device this waits for three sums to arrive.
        """
        last = self._processed
        if last is None or last.shape != frame.shape:
            self._processed = frame.clone()  # the input buffer is overwritten by the next frame
            return False
        chance = skip_probability(self._cosine(last, frame), self.config.threshold)
        draw = float(torch.rand((), generator=self._generator))
        if chance >= draw:
            if self._num_skipped <= self.config.max_skip_frame:
                self._num_skipped += 1
                return True
            self._num_skipped = 0
        last.copy_(frame)
        return False

    def _cosine(self, first: torch.Tensor, second: torch.Tensor) -> float:
        if not first.is_cuda:
            return cosine(first, second)
        if self._on_device is None:
            self._on_device = FrameSimilarity(first.device)
        return cosine_of(*self._on_device.enqueue(first, second).tolist())


def cosine(first: torch.Tensor, second: torch.Tensor) -> float:
    """The cosine between two frames, flattened; summed in float32."""
    a, b = first.flatten(), second.flatten()
    if a.dtype not in (torch.float32, torch.float64):
        a, b = a.float(), b.float()
    return cosine_of(*torch.stack([a @ b, a @ a, b @ b]).tolist())


def cosine_of(product: float, first_sq: float, second_sq: float) -> float:
    """The cosine from its three sums."""
    return float(product / max((first_sq * second_sq) ** 0.5, LEAST_NORM))


def skip_probability(cosine: float, threshold: float) -> float:
    """p of section 9: 1 for equal frames, falling to 0 at the threshold."""
    if threshold >= 1.0:
        return 0.0
    return max(0.0, 1.0 - (1.0 - cosine) / (1.0 - threshold))
