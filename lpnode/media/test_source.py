"""A moving test picture whose frames carry their number, to measure latency through a node.

The number stands in large black and white cells around the centre: it survives coding, the
centre crop of live.md 4.2, scaling, and effects that change colours or draw outlines, because each
cell is compared with reference cells of the same picture.
"""

import zlib

import av
import numpy as np
from numpy.typing import NDArray

from lpnode.errors import InvalidArgument

_COLUMNS = 10
_ROWS = 4
_NUM_NUMBER_BITS = 28
_NUM_CHECK_BITS = 8
MAX_FRAME_NUMBER = (1 << _NUM_NUMBER_BITS) - 1
# Side of a cell as a share of the picture's shorter side.
_CELL = 0.06
# Reading order: white, black, 36 bits, black, white. Both colours stand at both ends, so that a
# gradient or a tint over the picture does not decide.
_REFERENCES = (1, 0, 0, 1)
_BLACK, _WHITE, _GREY = 16, 235, 110
_MIN_CONTRAST = 24.0


class MovingPicture:
    """Draws the picture: a drifting pattern, a disc that circles, and the frame's number."""

    def __init__(self, width: int = 1280, height: int = 720) -> None:
        """Pixels, even, at least 128x128. BT.601 limited range is assumed."""
        if width < 128 or height < 128 or width % 2 or height % 2:
            raise InvalidArgument(f"size must be even and at least 128x128, got {width}x{height}")
        self.width = width
        self.height = height
        # Twice as wide as needed: drifting is a slice, not a computation.
        x = np.arange(2 * width)
        y = np.arange(height)[:, None]
        waves = np.sin(2 * np.pi * x / width * 4) * 40 + np.sin(2 * np.pi * y / height * 2) * 30
        self._luma = np.clip(126 + waves, 16, 235).astype(np.uint8)
        shape = (height // 2, width // 2)
        ramp = np.linspace(90, 166, shape[1], dtype=np.uint8)
        self._chroma = (np.broadcast_to(ramp, shape).copy(), np.full(shape, 120, np.uint8))
        radius = min(width, height) // 10
        dy, dx = np.ogrid[-radius:radius, -radius:radius]
        self._disc = (dx * dx + dy * dy < radius * radius)[::2, ::2]
        self._radius = radius // 2 * 2

    def draw(self, frame_number: int, picture: av.VideoFrame | None = None) -> av.VideoFrame:
        """Draws frame ``frame_number`` (0 to ``MAX_FRAME_NUMBER``) as ``yuv420p``.

        Args: picture: drawn into if given, else a new one is made.
        """
        if not 0 <= frame_number <= MAX_FRAME_NUMBER:
            raise InvalidArgument(f"frame number must fit 28 bits, got {frame_number}")
        if picture is None:
            picture = av.VideoFrame(self.width, self.height, "yuv420p")
        luma, u, v = (_pixels(picture, i) for i in range(3))
        shift = frame_number * 4 % self.width
        luma[:] = self._luma[:, shift : shift + self.width]
        u[:], v[:] = self._chroma
        self._draw_disc(frame_number, luma, u, v)
        self._draw_number(frame_number, luma, u, v)
        return picture

    def _draw_disc(
        self,
        frame_number: int,
        luma: NDArray[np.uint8],
        u: NDArray[np.uint8],
        v: NDArray[np.uint8],
    ) -> None:
        angle = 2 * np.pi * frame_number / 90
        reach = min(self.width, self.height) // 2 - self._radius - 4
        left = int(self.width / 2 + reach * np.cos(angle)) // 2 - self._radius // 2
        top = int(self.height / 2 + reach * np.sin(angle)) // 2 - self._radius // 2
        rows, columns = self._disc.shape
        u[top : top + rows, left : left + columns][self._disc] = 90
        v[top : top + rows, left : left + columns][self._disc] = 220
        bright = luma[2 * top : 2 * (top + rows), 2 * left : 2 * (left + columns)]
        bright[self._disc.repeat(2, axis=0).repeat(2, axis=1)] = 150

    def _draw_number(
        self,
        frame_number: int,
        luma: NDArray[np.uint8],
        u: NDArray[np.uint8],
        v: NDArray[np.uint8],
    ) -> None:
        side = min(self.width, self.height) * _CELL
        left, top = _origin(self.width, self.height, side)
        levels = np.where(np.array(_cells_of(frame_number)), _WHITE, _BLACK).astype(np.uint8)
        xs = np.rint(left + side * np.arange(_COLUMNS + 1)).astype(int)
        ys = np.rint(top + side * np.arange(_ROWS + 1)).astype(int)
        margin = int(side / 2)
        area = np.s_[ys[0] - margin : ys[-1] + margin, xs[0] - margin : xs[-1] + margin]
        luma[area] = _GREY
        block = levels.reshape(_ROWS, _COLUMNS)
        block = block.repeat(np.diff(ys), axis=0).repeat(np.diff(xs), axis=1)
        luma[ys[0] : ys[-1], xs[0] : xs[-1]] = block
        half = np.s_[
            (ys[0] - margin) // 2 : (ys[-1] + margin) // 2,
            (xs[0] - margin) // 2 : (xs[-1] + margin) // 2,
        ]
        u[half] = v[half] = 128


def read_mark(picture: av.VideoFrame, source_size: tuple[int, int] | None = None) -> int | None:
    """Reads the frame number back from a decoded picture.

    Args:
        picture: 8 bit with a luma plane (``yuv420p``, ``nv12``), of any size.
        source_size: (width, height) of the picture that was drawn, needed when cropping changed
            the aspect ratio so far that the shorter side was cut.
    Returns: the number, or None if there is no readable mark.
    """
    width, height = picture.width, picture.height
    source_width, source_height = source_size or (width, height)
    if source_size is None:
        side = min(width, height) * _CELL
    else:
        scale = max(width / source_width, height / source_height)
        side = min(source_width, source_height) * scale * _CELL
    left, top = _origin(width, height, side)
    if left < 0 or top < 0 or side < 4:
        return None
    luma = _pixels(picture, 0)
    inner = max(1.0, side * 0.2)  # half the side of what is averaged: clear of edges and outlines
    levels = []
    for index in range(_ROWS * _COLUMNS):
        x = left + side * (index % _COLUMNS + 0.5)
        y = top + side * (index // _COLUMNS + 0.5)
        cell = luma[int(y - inner) : int(y + inner) + 1, int(x - inner) : int(x + inner) + 1]
        levels.append(float(cell.mean()))
    return _number_of(levels)


def _origin(width: int, height: int, side: float) -> tuple[float, float]:
    return width / 2 - side * _COLUMNS / 2, height / 2 - side * _ROWS / 2


def _checksum(number: int) -> int:
    return zlib.crc32(number.to_bytes(4, "big")) & ((1 << _NUM_CHECK_BITS) - 1)


def _cells_of(number: int) -> list[int]:
    word = number << _NUM_CHECK_BITS | _checksum(number)
    num_bits = _NUM_NUMBER_BITS + _NUM_CHECK_BITS
    bits = [word >> shift & 1 for shift in range(num_bits - 1, -1, -1)]
    return [*_REFERENCES[:2], *bits, *_REFERENCES[2:]]


def _number_of(levels: list[float]) -> int | None:
    white = (levels[0] + levels[-1]) / 2
    black = (levels[1] + levels[-2]) / 2
    # An effect may invert the picture, but not level it.
    if abs(white - black) < _MIN_CONTRAST:
        return None
    word = 0
    for level in levels[2:-2]:
        word = word << 1 | (abs(level - white) < abs(level - black))
    number = word >> _NUM_CHECK_BITS
    is_intact = word & ((1 << _NUM_CHECK_BITS) - 1) == _checksum(number)
    return number if is_intact else None


def _pixels(picture: av.VideoFrame, plane_index: int) -> NDArray[np.uint8]:
    plane = picture.planes[plane_index]
    rows = np.frombuffer(memoryview(plane), np.uint8).reshape(-1, plane.line_size)
    return rows[: plane.height, : plane.width]
