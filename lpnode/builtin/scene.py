"""What is in a picture, before it is drawn: a few shapes on a background."""

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from lpnode.builtin.vocabulary import PALETTE, POSITIONS, SHAPES, STYLES, TEXTURES

# Distance in RGB below which one colour on the other would hardly be seen.
_MIN_CONTRAST = 95.0
_PLAIN = "plain"
_FLAT = "flat"


@dataclass(frozen=True, slots=True)
class Item:
    """One shape. Lengths are shares of the picture's side, x to the right and y down."""

    shape: str
    colour: str
    x: float
    y: float
    radius: float
    """Of the circle that the shape is drawn into."""
    rotation: float = 0.0
    """Radians, clockwise; small, so that a square stays a square and a diamond a diamond."""
    texture: str = _PLAIN


@dataclass(frozen=True, slots=True)
class Scene:
    """A picture: one to four items that do not overlap, on one colour or on two that blend.

    ``position`` and ``size`` are the words that were drawn for a single item, None where there
    is no word for it; ``relation`` is how the first of two different items lies to the second.
    ``chance`` holds the numbers that decided what a caption may leave open: see Note [Chance].
    """

    items: tuple[Item, ...]
    background: str
    chance: NDArray[np.float32]
    gradient_to: str | None = None
    style: str = _FLAT
    position: str | None = None
    size: str | None = None
    relation: str | None = None

    @property
    def is_plain(self) -> bool:
        """One item without texture, drawn flat on one colour: what the measure is made for."""
        only = self.items[0]
        is_flat = self.style == _FLAT and self.gradient_to is None
        return len(self.items) == 1 and only.texture == _PLAIN and is_flat


# Note [Chance]
# "A red circle" has no place, size, rotation or background. Were these drawn by themselves, the
# best one-step guess from pure noise would be the mean of all of them: a blur. So they're made
# from ten numbers of N(0, 1), and in training the noise that a picture is to come from has these
# ten as its coarsest components (lpnode.builtin.noise). The noise stays N(0, 1), whatever the
# caption is, and decides what the caption leaves open: one step can be sharp, and another seed
# gives another picture. What a caption does say is decided by the caption; its numbers are drawn
# afresh then.
NUM_CHANCES = 10
PLACE, SIZE, BACKGROUND = slice(0, 2), slice(2, 3), slice(7, 10)
"""Which numbers of a scene's chance a caption can make idle."""
_X, _Y, _SIZE, _SHIFT_X, _SHIFT_Y, _SCALE, _ROTATION = range(7)


def sample_scene(rng: np.random.Generator, spread: float = 1.0) -> Scene:
    """Draws one scene from the distribution that the model is trained on.

    Args: spread: how far from their middle sizes, rotations and places may be for which there is
        no word, 0 to 1.
    """
    chance = rng.normal(size=NUM_CHANCES).astype(np.float32)
    shape, colour = str(rng.choice(SHAPES)), str(rng.choice(list(PALETTE)))
    kind = rng.random()
    if kind < 0.76:
        scene = single(shape, colour, chance, spread)
    elif kind < 0.88:
        scene = _several(
            shape, colour, int(rng.choice((2, 3, 4), p=(0.5, 0.3, 0.2))), chance, spread
        )
    else:
        scene = _two_different(shape, colour, chance, spread, rng)
    variation = rng.random()
    if variation < 0.1:
        texture = str(rng.choice(TEXTURES))
        items = tuple(replace(item, texture=texture) for item in scene.items)
        return replace(scene, items=items)
    if variation < 0.24:
        return replace(scene, style=str(rng.choice(STYLES)))
    if variation < 0.3:
        others = [c for c in _backgrounds(scene.items) if c != scene.background]
        return replace(scene, gradient_to=str(rng.choice(others)))
    return scene


def single(shape: str, colour: str, chance: NDArray[np.float32], spread: float = 1.0) -> Scene:
    """One plain item; ``chance``, (10,) of N(0, 1), decides place, size, rotation, background."""
    share = _quantile(chance[_SIZE])
    size = "small" if share < 0.14 else "big" if share > 0.8 else None
    low, high = {None: (0.2, 0.29), "small": (0.13, 0.17), "big": (0.33, 0.4)}[size]
    radius = _between(low, high, chance, spread)
    across = _third(chance[_X], ("left", "", "right"))
    down = _third(chance[_Y], ("top", "", "bottom"))
    side = f"{down} {across}".strip()
    position = f"{'at' if down else 'on'} the {side}" if side else "in the middle"
    reach = (0.03 if size == "big" else 0.045) * spread
    x, y = (v + d for v, d in zip(POSITIONS[position], _shift(chance, reach), strict=True))
    # A big item stays inside the picture even where the word says a corner.
    x, y = (min(max(v, radius + 0.02), 0.98 - radius) for v in (x, y))
    item = Item(shape, colour, x, y, radius, _rotation(chance) * spread)
    background = _background((item,), chance)
    return Scene((item,), background, chance, position=position, size=size)


def redrawn(scene: Scene, rng: np.random.Generator, *, keeps_background: bool) -> Scene:
    """The same layout in other shapes and colours, now and then in another style."""
    shape, colours = str(rng.choice(SHAPES)), list(PALETTE)
    if keeps_background:
        colours = [c for c in colours if contrast(c, scene.background) > _MIN_CONTRAST]
    colour = str(rng.choice(colours))
    items = tuple(replace(item, shape=shape, colour=colour, texture=_PLAIN) for item in scene.items)
    style = str(rng.choice(STYLES)) if rng.random() < 0.15 else _FLAT
    if keeps_background:
        return replace(scene, items=items, style=style)
    background = str(rng.choice(_backgrounds(items)))
    return replace(scene, items=items, background=background, gradient_to=None, style=style)


def contrast(first: str, second: str) -> float:
    """Euclidean distance of two palette colours in 8-bit RGB."""
    difference = np.subtract(PALETTE[first], PALETTE[second]).astype(float)
    return float(np.sqrt((difference**2).sum()))


def _several(
    shape: str, colour: str, count: int, chance: NDArray[np.float32], spread: float
) -> Scene:
    is_row = chance[_X] < 0.5
    slots = {
        2: [(0.27, 0.5), (0.73, 0.5)] if is_row else [(0.5, 0.27), (0.5, 0.73)],
        3: [(0.26, 0.72), (0.5, 0.27), (0.74, 0.72)],
        4: [(0.27, 0.27), (0.73, 0.27), (0.27, 0.73), (0.73, 0.73)],
    }[count]
    items = _placed([(shape, colour)] * count, slots, chance, spread)
    return Scene(items, _background(items, chance), chance)


def _two_different(
    shape: str,
    colour: str,
    chance: NDArray[np.float32],
    spread: float,
    rng: np.random.Generator,
) -> Scene:
    other_colour = str(rng.choice(list(PALETTE)))
    other_shape = str(rng.choice([s for s in SHAPES if s != shape or other_colour != colour]))
    relation = "left" if chance[_X] < 0.25 else "above"
    slots = [(0.27, 0.5), (0.73, 0.5)] if relation == "left" else [(0.5, 0.27), (0.5, 0.73)]
    items = _placed([(shape, colour), (other_shape, other_colour)], slots, chance, spread)
    return Scene(items, _background(items, chance), chance, relation=relation)


def _placed(
    what: list[tuple[str, str]],
    slots: list[tuple[float, float]],
    chance: NDArray[np.float32],
    spread: float,
) -> tuple[Item, ...]:
    radius = _between(0.14, 0.2, chance, spread)
    dx, dy = _shift(chance, 0.03 * spread)
    return tuple(
        Item(shape, colour, x + dx, y + dy, radius, _rotation(chance) * spread)
        for (shape, colour), (x, y) in zip(what, slots, strict=True)
    )


def _backgrounds(items: tuple[Item, ...]) -> list[str]:
    return [c for c in PALETTE if all(contrast(i.colour, c) > _MIN_CONTRAST for i in items)]


def _background(items: tuple[Item, ...], chance: NDArray[np.float32]) -> str:
    """The colour that lies most in the direction of the last three numbers, seen from grey."""
    direction = chance[BACKGROUND]
    return max(_backgrounds(items), key=lambda colour: float(_from_grey(colour) @ direction))


def _from_grey(colour: str) -> NDArray[np.float32]:
    difference = np.array(PALETTE[colour], np.float32) - 128
    return np.asarray(difference / np.linalg.norm(difference), np.float32)


def _quantile(number: np.float32) -> float:
    """N(0, 1) → uniform in [0, 1]."""
    return (1 + math.erf(float(number) / math.sqrt(2))) / 2


def _third(number: np.float32, words: tuple[str, str, str]) -> str:
    share = _quantile(number)
    return words[0] if share < 0.16 else words[2] if share > 0.84 else words[1]


def _between(low: float, high: float, chance: NDArray[np.float32], spread: float) -> float:
    share = 0.5 + spread * (_quantile(chance[_SCALE]) - 0.5)
    return low + (high - low) * share


def _shift(chance: NDArray[np.float32], reach: float) -> tuple[float, float]:
    dx, dy = (2 * _quantile(chance[index]) - 1 for index in (_SHIFT_X, _SHIFT_Y))
    return dx * reach, dy * reach


def _rotation(chance: NDArray[np.float32]) -> float:
    return 0.2 * (2 * _quantile(chance[_ROTATION]) - 1)
