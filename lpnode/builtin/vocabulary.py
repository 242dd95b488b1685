"""The words that the shipped model knows, and what they look like."""

from typing import Final

SHAPES: Final = ("circle", "square", "triangle", "star", "heart", "cross", "ring", "diamond")

# Far apart from each other, so that a colour can be told from a picture's pixels.
PALETTE: Final[dict[str, tuple[int, int, int]]] = {
    "red": (215, 38, 38),
    "green": (40, 160, 60),
    "blue": (40, 70, 210),
    "yellow": (245, 215, 50),
    "purple": (125, 50, 165),
    "orange": (245, 135, 30),
    "cyan": (60, 205, 220),
    "pink": (245, 150, 190),
    "white": (245, 245, 245),
    "black": (25, 25, 25),
}

SIZES: Final = ("small", "big")
TEXTURES: Final = ("striped", "dotted", "checkered")
STYLES: Final = ("outline", "soft", "pixel")
COUNTS: Final = {2: "two", 3: "three", 4: "four"}

# Centres of objects, as shares of the picture's width and height.
POSITIONS: Final[dict[str, tuple[float, float]]] = {
    "in the middle": (0.5, 0.5),
    "on the left": (0.28, 0.5),
    "on the right": (0.72, 0.5),
    "at the top": (0.5, 0.28),
    "at the bottom": (0.5, 0.72),
    "at the top left": (0.29, 0.29),
    "at the top right": (0.71, 0.29),
    "at the bottom left": (0.29, 0.71),
    "at the bottom right": (0.71, 0.71),
}

_OTHER_WORDS: Final = (
    "a an one and of on in at the to with above below left right top bottom middle center "
    "background picture drawing image gradient style art , ."
)


def plural(shape: str) -> str:
    """The word for several: ``cross`` → ``crosses``, ``star`` → ``stars``."""
    return f"{shape}es" if shape.endswith("s") else f"{shape}s"


def words() -> list[str]:
    """Every word of every caption, each once, sorted; the tokenizer has one token for each."""
    known = {*SHAPES, *map(plural, SHAPES), *PALETTE, *SIZES, *TEXTURES, *STYLES, *COUNTS.values()}
    return sorted(known | set(_OTHER_WORDS.split()))
