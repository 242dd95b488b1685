"""Finds the shape and the colour in a picture by geometry alone: nothing here was ever trained."""

import math
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from lpnode.builtin.render import item_mask
from lpnode.builtin.scene import Item
from lpnode.builtin.vocabulary import PALETTE, SHAPES

_NORMAL_SIDE = 64
# Root mean square distance from the centre of gravity, in pixels, that masks are scaled to.
_NORMAL_SPREAD = 13.0
_ROTATIONS = tuple(np.linspace(-0.36, 0.36, 13))
_MIN_CONTRAST = 45.0
_MIN_AREA = 0.005
MIN_LIKENESS = 0.75
"""Intersection over union with the best template below which a mask has no known shape."""

Mask = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Finding:
    """What the largest thing in a picture is.

    Attributes:
        shape: the shape it resembles most; None where it resembles none.
        colour: the palette colour nearest to its median.
        background: the same of the picture's border.
        likeness: intersection over union with the best template, 0 to 1.
        mask: (H, W), the pixels of the thing.
    """

    shape: str | None
    colour: str
    background: str
    likeness: float
    mask: Mask


def find(picture: NDArray[np.uint8]) -> Finding | None:
    """Looks for one thing on an even background.

    What differs from the border's median colour is cut out, its largest connected part is moved
    and scaled to a normal size and laid over a template of every shape in every rotation.

    Args: picture: (H, W, 3) RGB.
    Returns: None where nothing stands out.
    """
    background = np.median(_border(picture), axis=0)
    mask = _largest_part(_standing_out(picture, background))
    if mask.mean() < _MIN_AREA:
        return None
    shape, likeness = _best_shape(mask)
    inner = _eroded(mask, 2)
    pixels = picture[inner if inner.sum() > 20 else mask]
    return Finding(
        shape=shape if likeness >= MIN_LIKENESS else None,
        colour=nearest_colour(np.median(pixels, axis=0)),
        background=nearest_colour(background),
        likeness=likeness,
        mask=mask,
    )


def count_things(picture: NDArray[np.uint8]) -> int:
    """How many separate things stand out from the border's colour."""
    rest = _standing_out(picture, np.median(_border(picture), axis=0))
    count = 0
    while (part := _largest_part(rest)).mean() >= _MIN_AREA:
        rest = rest & ~part
        count += 1
    return count


def nearest_colour(rgb: NDArray[np.floating]) -> str:
    """The palette's colour at the smallest Euclidean distance."""
    return min(PALETTE, key=lambda name: float(np.linalg.norm(rgb - np.array(PALETTE[name]))))


def overlap(first: Mask, second: Mask) -> float:
    """Intersection over union of two masks of one size, 0 to 1."""
    return float((first & second).sum() / max(1, (first | second).sum()))


def _border(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    width = max(1, picture.shape[0] // 32)
    edges = (picture[:width], picture[-width:], picture[:, :width], picture[:, -width:])
    return np.concatenate([edge.reshape(-1, 3) for edge in edges])


def _standing_out(picture: NDArray[np.uint8], background: NDArray[np.floating]) -> Mask:
    """Pixels nearer to the things' colour than to the background's: edges are cut half-way."""
    distance = np.linalg.norm(picture - background, axis=2)
    far = distance[distance > _MIN_CONTRAST]
    if far.size < _MIN_AREA * distance.size:
        return np.zeros(distance.shape, np.bool_)
    # That of the bulk of a thing, not of a few stray pixels.
    level = np.percentile(far, 60)
    return np.asarray(distance > level / 2)


def _largest_part(mask: Mask) -> Mask:
    """The largest 4-connected part."""
    labels = np.where(mask, np.arange(1, mask.size + 1).reshape(mask.shape), 0)
    while True:
        # Each pixel takes the largest label within its run of neighbours, row by row and back.
        spread = labels
        for axis in (0, 1):
            spread = _spread_along(spread, mask, axis)
        if np.array_equal(spread, labels):
            break
        labels = spread
    names, counts = np.unique(labels[mask], return_counts=True)
    if not names.size:
        return mask
    return np.asarray(labels == names[counts.argmax()])


def _spread_along(labels: NDArray[np.int_], mask: Mask, axis: int) -> NDArray[np.int_]:
    spread = np.moveaxis(labels, axis, 0).copy()
    inside = np.moveaxis(mask, axis, 0)
    for order in (range(1, len(spread)), range(len(spread) - 2, -1, -1)):
        for index in order:
            before = index - 1 if order.step > 0 else index + 1
            larger = np.maximum(spread[index], spread[before])
            spread[index] = np.where(inside[index], larger, 0)
    return np.moveaxis(spread, 0, axis)


def _eroded(mask: Mask, num_pixels: int) -> Mask:
    smaller = mask
    for _ in range(num_pixels):
        padded = np.pad(smaller, 1)
        smaller = (
            padded[1:-1, 1:-1]
            & padded[:-2, 1:-1]
            & padded[2:, 1:-1]
            & padded[1:-1, :-2]
            & padded[1:-1, 2:]
        )
    return smaller


def _normalised(mask: Mask) -> Mask:
    """Moves the centre of gravity to the middle and scales the spread to the normal one."""
    rows, columns = np.nonzero(mask)
    y, x = rows.mean(), columns.mean()
    spread = math.sqrt(((rows - y) ** 2 + (columns - x) ** 2).mean())
    scale = max(spread, 0.5) / _NORMAL_SPREAD
    half = _NORMAL_SIDE / 2
    image = Image.fromarray(mask.astype(np.uint8) * 255)
    # From the normal picture back to the mask: pixel centres are at halves.
    back = (scale, 0, x + 0.5 - half * scale, 0, scale, y + 0.5 - half * scale)
    moved = image.transform(
        (_NORMAL_SIDE, _NORMAL_SIDE), Image.Transform.AFFINE, back, Image.Resampling.BILINEAR
    )
    return np.asarray(moved) >= 128


@cache
def _templates() -> tuple[tuple[str, ...], NDArray[np.bool_]]:
    names, masks = [], []
    for shape in SHAPES:
        for rotation in _ROTATIONS:
            item = Item(shape, "white", 0.5, 0.5, 0.4, rotation)
            names.append(shape)
            masks.append(_normalised(item_mask(item, 128) >= 128).ravel())
    return tuple(names), np.stack(masks)


def _best_shape(mask: Mask) -> tuple[str, float]:
    names, templates = _templates()
    normal = _normalised(mask).ravel()
    union = (templates | normal).sum(1)
    likeness = (templates & normal).sum(1) / np.maximum(union, 1)
    best = int(likeness.argmax())
    return names[best], float(likeness[best])
