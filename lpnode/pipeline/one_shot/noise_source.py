"""Gaussian noise for each picture of a batch, the same on every device and in every batch."""

from collections.abc import Sequence

import torch


class NoiseSource:
    """One random generator a picture, on the processor: a seed gives the same noise anywhere."""

    def __init__(
        self, seeds: Sequence[int], latent: tuple[int, int, int], device: torch.device
    ) -> None:
        """``latent`` is (channels, height, width) of one picture in latent pixels."""
        self.generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        self._shape = (1, *latent)
        self._device = device

    def draw(self) -> torch.Tensor:
        """The next noise of every picture: (N, C, h, w) float32 on the device."""
        rows = [torch.randn(self._shape, generator=generator) for generator in self.generators]
        return torch.cat(rows).to(self._device)
