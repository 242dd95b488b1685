"""Frame conversion in plain float32 NumPy, against which every other implementation is tested."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lpnode.media.frame import Colour, Matrix
from lpnode.media.tensor import Crop

Plane = NDArray[np.uint8]
Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Picture:
    """4:2:0 planes without padding; chroma sizes rounded up."""

    y: Plane
    u: Plane
    v: Plane

    @property
    def width(self) -> int:
        return self.y.shape[1]

    @property
    def height(self) -> int:
        return self.y.shape[0]


def noise(width: int, height: int, seed: int = 0) -> Picture:
    """White noise: every neighbour differs, so a wrong index or weight shows."""
    rng = np.random.default_rng(seed)
    half = ((height + 1) // 2, (width + 1) // 2)
    return Picture(
        rng.integers(0, 256, (height, width), dtype=np.uint8),
        rng.integers(0, 256, half, dtype=np.uint8),
        rng.integers(0, 256, half, dtype=np.uint8),
    )


def _luma_weights(matrix: Matrix) -> tuple[float, float]:
    return (0.299, 0.114) if matrix is Matrix.BT601 else (0.2126, 0.0722)


def _taps(origin: float, step: float, count: int, size: int) -> tuple[NDArray[np.intp], Floats]:
    at = np.clip(origin + step * np.arange(count), 0, size - 1)
    first = np.floor(at).astype(np.intp)
    return first, (at - first).astype(np.float32)


def _sample(plane: Plane, crop: Crop, size: tuple[int, int], shrink: int) -> Floats:
    """Bilinear with half-pixel centres; the sample lies in the middle of its shrink² block."""
    width, height = size
    step_x, step_y = crop.width / width, crop.height / height
    x, wx = _taps((crop.x + step_x / 2) / shrink - 0.5, step_x / shrink, width, plane.shape[1])
    y, wy = _taps((crop.y + step_y / 2) / shrink - 0.5, step_y / shrink, height, plane.shape[0])
    values = plane.astype(np.float32)
    right = np.minimum(x + 1, plane.shape[1] - 1)
    below = np.minimum(y + 1, plane.shape[0] - 1)
    upper = values[y][:, x] * (1 - wx) + values[y][:, right] * wx
    lower = values[below][:, x] * (1 - wx) + values[below][:, right] * wx
    return upper * (1 - wy)[:, None] + lower * wy[:, None]


def yuv_to_rgb(picture: Picture, crop: Crop, size: tuple[int, int], colour: Colour) -> Floats:
    """Returns (3, H, W) in 0..255, clamped."""
    red, blue = _luma_weights(colour.matrix)
    green = 1 - red - blue
    y = _sample(picture.y, crop, size, 1)
    u = _sample(picture.u, crop, size, 2) - 128
    v = _sample(picture.v, crop, size, 2) - 128
    if not colour.is_full_range:
        y = (y - 16) * np.float32(255 / 219)
        u = u * np.float32(255 / 224)
        v = v * np.float32(255 / 224)
    r = y + np.float32(2 * (1 - red)) * v
    b = y + np.float32(2 * (1 - blue)) * u
    g = (
        y
        - np.float32(2 * blue * (1 - blue) / green) * u
        - np.float32(2 * red * (1 - red) / green) * v
    )
    return np.clip(np.stack([r, g, b]), 0, 255)


def rgb_to_yuv(rgb: Floats, colour: Colour) -> tuple[Floats, Floats, Floats]:
    """Unrounded planes from (3, H, W) in 0..255; chroma is the mean of 2x2, edges repeated."""
    red, blue = _luma_weights(colour.matrix)
    r, g, b = rgb
    y = np.float32(red) * r + np.float32(1 - red - blue) * g + np.float32(blue) * b
    u = (b - y) / np.float32(2 * (1 - blue))
    v = (r - y) / np.float32(2 * (1 - red))
    padding = [(0, y.shape[0] % 2), (0, y.shape[1] % 2)]

    def mean(plane: Floats) -> Floats:
        padded = np.pad(plane, padding, mode="edge")
        height, width = padded.shape
        means: Floats = padded.reshape(height // 2, 2, width // 2, 2).mean((1, 3))
        return means

    u, v = mean(u), mean(v)
    if not colour.is_full_range:
        y = y * np.float32(219 / 255) + 16
        u = u * np.float32(224 / 255)
        v = v * np.float32(224 / 255)
    return y, np.clip(u + 128, 0, 255), np.clip(v + 128, 0, 255)
