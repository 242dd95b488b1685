"""A picture, decoded or about to be encoded."""

from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING, Optional

import av

if TYPE_CHECKING:
    import torch

TICKS_PER_SECOND = 90_000
"""MPEG-TS presentation time base; every ``pts_ticks`` counts these."""


class Matrix(IntEnum):
    """Which YUV matrix the picture was coded with; values are ITU-T H.273 matrix coefficients."""

    BT709 = 1
    BT601 = 6


@dataclass(frozen=True, slots=True)
class Colour:
    """How luma and chroma are to be read. Source: ITU-T H.273."""

    matrix: Matrix
    is_full_range: bool


@dataclass(frozen=True, slots=True)
class Frame:
    """An 8-bit 4:2:0 picture (``yuv420p`` or ``nv12``) whose planes are read and written in place.

    ``picture.planes[i]`` gives each plane through the buffer protocol with its ``line_size`` in
    bytes; the memory is the codec's own and lives as long as ``picture``. A picture of format
    ``cuda`` lies in device memory as NV12, and gives its planes through DLPack instead.
    ``pts_ticks`` is in 1/90000 s, unwrapped past 33 bits.
    """

    picture: av.VideoFrame
    pts_ticks: int
    colour: Colour
    ready: Optional["torch.cuda.Event"] = None
    """For a picture in device memory: the event that its reader's stream must wait for."""

    @property
    def width(self) -> int:
        """Pixels."""
        return self.picture.width

    @property
    def height(self) -> int:
        """Pixels."""
        return self.picture.height
