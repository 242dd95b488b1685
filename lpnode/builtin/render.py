"""Draws scenes. What the shipped model has seen of the world is what this file can draw."""

import math

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from lpnode.builtin.scene import Item, Scene
from lpnode.builtin.vocabulary import PALETTE

PICTURE_SIDE = 128
"""Pixels of a picture's side, unless asked otherwise."""
_SUPERSAMPLING = 3
_PIXELS_OF_PIXEL_ART = 16
_OUTLINE_WIDTH = 0.045

Points = NDArray[np.float64]


def render(
    scene: Scene, side: int = PICTURE_SIDE, rng: np.random.Generator | None = None
) -> NDArray[np.uint8]:
    """Draws a scene as (side, side, 3) RGB.

    Args: rng: shifts every colour a little, as pictures of real things have it; exact without.
    """
    canvas = _background(scene, side, rng)
    for item in scene.items:
        cover = item_mask(item, side, is_outline=scene.style == "outline")
        if scene.style == "soft":
            blurred = Image.fromarray(cover).filter(ImageFilter.GaussianBlur(side / 28))
            cover = np.asarray(blurred)
        alpha = cover[..., None].astype(np.float32) / 255
        canvas += alpha * (_paint(item, side, rng) - canvas)
    picture = np.clip(np.rint(canvas), 0, 255).astype(np.uint8)
    if scene.style == "pixel":
        few = Image.fromarray(picture).resize((_PIXELS_OF_PIXEL_ART,) * 2, Image.Resampling.BOX)
        picture = np.asarray(few.resize((side, side), Image.Resampling.NEAREST))
    return picture


def item_mask(item: Item, side: int, *, is_outline: bool = False) -> NDArray[np.uint8]:
    """How much of each pixel an item covers: (side, side), 0 to 255."""
    large = side * _SUPERSAMPLING
    mask = Image.new("L", (large, large))
    draw = ImageDraw.Draw(mask)
    turn = np.array(
        [
            [math.cos(item.rotation), math.sin(item.rotation)],
            [-math.sin(item.rotation), math.cos(item.rotation)],
        ]
    )
    for index, polygon in enumerate(_polygons(item.shape)):
        points = (polygon @ turn * item.radius + (item.x, item.y)) * large
        corners = [(float(x), float(y)) for x, y in points]
        if is_outline:
            closed = [*corners, *corners[:2]]
            draw.line(closed, fill=255, width=round(_OUTLINE_WIDTH * large), joint="curve")
        else:
            draw.polygon(corners, fill=0 if index else 255)
    return np.asarray(mask.reduce(_SUPERSAMPLING))


def _polygons(shape: str) -> list[Points]:
    """Outlines in the unit circle; those after the first are holes."""
    match shape:
        case "circle":
            return [_circle(0.9)]
        case "square":
            return [np.array([(-1, -1), (1, -1), (1, 1), (-1, 1)]) * 0.78]
        case "triangle":
            return [np.array([(0, -0.95), (0.95, 0.72), (-0.95, 0.72)])]
        case "star":
            angles = np.arange(10) * math.pi / 5 - math.pi / 2
            radii = np.where(np.arange(10) % 2, 0.42, 1.0)
            return [np.stack([np.cos(angles), np.sin(angles)], 1) * radii[:, None]]
        case "heart":
            t = np.linspace(0, 2 * math.pi, 60, endpoint=False)
            x = 16 * np.sin(t) ** 3
            y = 13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t)
            return [np.stack([x, -y - 2.5], 1) / 16]
        case "cross":
            a, b = 0.92, 0.3
            quarter = [(b, -a), (b, -b), (a, -b)]
            corners = [_turned(point, n) for n in range(4) for point in quarter]
            return [np.array(corners)]
        case "ring":
            return [_circle(0.95), _circle(0.52)]
        case "diamond":
            return [np.array([(0, -1), (0.64, 0), (0, 1), (-0.64, 0)])]
    raise ValueError(f"no shape is called {shape!r}")


def _circle(radius: float) -> Points:
    angles = np.linspace(0, 2 * math.pi, 72, endpoint=False)
    return np.stack([np.cos(angles), np.sin(angles)], 1) * radius


def _turned(point: tuple[float, float], quarters: int) -> tuple[float, float]:
    x, y = point
    for _ in range(quarters):
        x, y = -y, x
    return x, y


def _rgb(colour: str, rng: np.random.Generator | None) -> NDArray[np.float32]:
    rgb = np.array(PALETTE[colour], np.float32)
    if rng is not None:
        rgb += rng.normal(0, 3, 3).astype(np.float32)
    return rgb


def _background(scene: Scene, side: int, rng: np.random.Generator | None) -> NDArray[np.float32]:
    first = _rgb(scene.background, rng)
    canvas = np.empty((side, side, 3), np.float32)
    canvas[:] = first
    if scene.gradient_to is not None:
        downwards = np.linspace(0, 1, side, dtype=np.float32)[:, None, None]
        canvas += downwards * (_rgb(scene.gradient_to, rng) - first)
    return canvas


def _paint(item: Item, side: int, rng: np.random.Generator | None) -> NDArray[np.float32]:
    """The colours that an item's mask lets through: (side, side, 3) or (3,)."""
    rgb = _rgb(item.colour, rng)
    if item.texture == "plain":
        return rgb
    is_bright = item.colour in ("white", "yellow", "pink", "cyan")
    second = rgb * 0.45 if is_bright else rgb + (255 - rgb) * 0.65
    y, x = np.mgrid[0:side, 0:side].astype(np.float32) / side
    period = 0.1
    if item.texture == "striped":
        pattern = np.sin(2 * math.pi * x / period)
    elif item.texture == "checkered":
        pattern = np.sin(math.pi * x / period) * np.sin(math.pi * y / period) * 3
    else:
        pattern = np.cos(2 * math.pi * x / period) + np.cos(2 * math.pi * y / period) - 0.6
    # A steep ramp instead of a step: edges of textures are as smooth as those of shapes.
    share = np.clip(pattern * 3 + 0.5, 0, 1)[..., None]
    return np.asarray(rgb + share * (second - rgb), np.float32)
