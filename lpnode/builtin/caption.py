"""Says in a few words what is in a scene, in one of several ways."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lpnode.builtin.scene import BACKGROUND, NUM_CHANCES, PLACE, SIZE, Item, Scene
from lpnode.builtin.vocabulary import COUNTS, plural

_INTRODUCTIONS = ("a picture of", "a drawing of", "an image of")


@dataclass(frozen=True, slots=True)
class Caption:
    """A text, and which numbers of the scene's chance it says nothing about: (10,) bool."""

    text: str
    is_open: NDArray[np.bool_]


def caption(scene: Scene, rng: np.random.Generator, *, is_exact: bool = True) -> Caption:
    """Describes a scene.

    Shape, colour, count, texture, style and a blend are always said, the background often, and
    the middle and an ordinary size now and then. So what isn't said of a picture is either its
    plainest form or left to chance.

    Args: is_exact: says any other place or size always, instead of often.
    """
    is_open = np.ones(NUM_CHANCES, np.bool_)
    text = _subject(scene, rng, is_open, is_exact)
    if rng.random() < 0.15:
        text = f"{rng.choice(_INTRODUCTIONS)} {text}"
    text += _style(scene, rng)
    text = _with_background(text, scene, rng, is_open)
    return Caption(text, is_open)


def _subject(
    scene: Scene, rng: np.random.Generator, is_open: NDArray[np.bool_], is_exact: bool
) -> str:
    first = scene.items[0]
    if scene.relation is not None:
        return _relation(scene, rng, is_open)
    if len(scene.items) > 1:
        return f"{COUNTS[len(scene.items)]} {_adjectives(first, None)} {plural(first.shape)}"
    size = scene.size if is_exact or rng.random() < 0.75 else None
    is_open[SIZE] = size is None and not is_exact
    is_open[PLACE] = not is_exact
    text = f"{_adjectives(first, size)} {first.shape}"
    start = rng.random()
    if start < 0.8:
        text = with_article(text)
    elif start < 0.85:
        text = f"one {text}"
    says_place = 0.2 if scene.position == "in the middle" else 1.0 if is_exact else 0.7
    if scene.position is not None and rng.random() < says_place:
        text = f"{text} {scene.position}"
        is_open[PLACE] = False
    return text


def _relation(scene: Scene, rng: np.random.Generator, is_open: NDArray[np.bool_]) -> str:
    first, second = (f"{_adjectives(item, None)} {item.shape}" for item in scene.items)
    one, other = with_article(first), with_article(second)
    if rng.random() < 0.4:
        return f"{one} and {other}"
    is_open[PLACE] = False
    is_reversed = rng.random() < 0.4
    if is_reversed:
        one, other = other, one
    match scene.relation, is_reversed:
        case "left", False:
            return f"{one} to the left of {other}"
        case "left", True:
            return f"{one} to the right of {other}"
        case _, False:
            return f"{one} above {other}"
    return f"{one} below {other}"


def _adjectives(item: Item, size: str | None) -> str:
    texture = None if item.texture == "plain" else item.texture
    return " ".join(word for word in (size, texture, item.colour) if word)


def with_article(words: str) -> str:
    """``red circle`` → ``a red circle``, ``orange ring`` → ``an orange ring``."""
    return f"{'an' if words[0] in 'aeiou' else 'a'} {words}"


def _style(scene: Scene, rng: np.random.Generator) -> str:
    match scene.style:
        case "outline":
            return ", outline" if rng.random() < 0.5 else ", outline style"
        case "soft":
            return ", soft" if rng.random() < 0.5 else ", soft style"
        case "pixel":
            return ", pixel art"
    return ""


def _with_background(
    text: str, scene: Scene, rng: np.random.Generator, is_open: NDArray[np.bool_]
) -> str:
    if scene.gradient_to is not None:
        is_open[BACKGROUND] = False
        return f"{text} on a {scene.background} and {scene.gradient_to} gradient"
    if rng.random() < 0.55:
        return text
    is_open[BACKGROUND] = False
    colour = scene.background
    form = rng.choice(3, p=(0.6, 0.25, 0.15))
    if form == 0:
        return f"{text} on {with_article(colour)} background"
    if form == 1:
        return f"{text}, {colour} background"
    return f"{text} on {colour}"
