"""Measures how well the shipped model follows prompts: ``python -m lpnode.builtin.measure``.

The pictures are judged by lpnode.builtin.geometry, which has never seen a model's output.
"""

import argparse
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lpnode.builtin.caption import with_article
from lpnode.builtin.geometry import Finding, count_things, find, overlap
from lpnode.builtin.render import render
from lpnode.builtin.sampler import STEPS, Sampler
from lpnode.builtin.scene import NUM_CHANCES, Scene, contrast, single
from lpnode.builtin.vocabulary import COUNTS, PALETTE, POSITIONS, SHAPES, plural
from lpnode.builtin.weights_folder import SHIPPED, digest

EDIT_STEPS: dict[str, tuple[int, ...]] = {
    "[45]": (45,),
    "[32, 45]": (32, 45),
    "[16, 32, 45]": (16, 32, 45),
    "[0, 16, 32, 45]": (0, 16, 32, 45),
}
"""Image-to-image from weak to strong."""
_CHUNK = 25
_PLACE_REACH = 0.13


@dataclass(frozen=True, slots=True)
class Score:
    """Shares of pictures, 0 to 1, in which what was asked for was found."""

    colour: float
    shape: float
    both: float


@dataclass(frozen=True, slots=True)
class EditScore:
    """Image-to-image at one strength: means over pictures.

    ``overlap`` is that of the thing before and after when only its colour was to change (its
    intersection over union, 0 where nothing was found); ``colour`` the share that got the colour
    asked for then; ``other_shape`` the share that got colour and shape when both were to change.
    """

    overlap: float
    colour: float
    other_shape: float


Pictures = NDArray[np.uint8]


def prompts(num_prompts: int) -> list[tuple[str, str, str]]:
    """(colour, shape, text) in turn: every colour with every shape before one comes again."""
    pairs = [(colour, shape) for shape in SHAPES for colour in PALETTE]
    # Steps through the 80 pairs by a number prime to 80: few prompts are a fair sample too.
    chosen = [pairs[index * 27 % len(pairs)] for index in range(num_prompts)]
    return [(c, s, with_article(f"{c} {s}")) for c, s in chosen]


def follow_score(sampler: Sampler, num_seeds: int, num_steps: int) -> Score:
    """Text-to-image of "a red circle" and its like, one seed each."""
    asked = prompts(num_seeds)
    pictures = _drawn(sampler, [text for *_, text in asked], STEPS[num_steps])
    return _score([(c, s) for c, s, _ in asked], [find(picture) for picture in pictures])


def edit_score(sampler: Sampler, num_seeds: int, steps: Sequence[int]) -> EditScore:
    """Image-to-image on drawn scenes."""
    scenes = [_source(index) for index in range(num_seeds)]
    sources = np.stack([render(scene) for scene in scenes])
    before = [find(picture) for picture in sources]
    colours = [_another_colour(scene, index) for index, scene in enumerate(scenes)]
    shapes = [scene.items[0].shape for scene in scenes]
    others = [SHAPES[(SHAPES.index(shape) + 1 + i % 7) % 8] for i, shape in enumerate(shapes)]

    def edited(asked: list[str]) -> list[Finding | None]:
        texts = [with_article(f"{c} {s}") for c, s in zip(colours, asked, strict=True)]
        pictures = _in_chunks(
            num_seeds,
            lambda rows: sampler.image_to_image(sources[rows], texts[rows], _seeds(rows), steps),
        )
        return [find(picture) for picture in pictures]

    recoloured, reshaped = edited(shapes), edited(others)
    overlaps = [
        overlap(one.mask, other.mask) if one and other else 0.0
        for one, other in zip(before, recoloured, strict=True)
    ]
    return EditScore(
        overlap=float(np.mean(overlaps)),
        colour=_score(list(zip(colours, shapes, strict=True)), recoloured).colour,
        other_shape=_score(list(zip(colours, others, strict=True)), reshaped).both,
    )


def detail_scores(sampler: Sampler, num_seeds: int, num_steps: int) -> dict[str, float]:
    """Shares in which a background, a place and a count that were asked for were found."""
    asked = prompts(num_seeds)
    colours = [
        next(iter([c for c in _rotated(index) if contrast(c, colour) > 150]))
        for index, (colour, *_) in enumerate(asked)
    ]
    on_background = _drawn(
        sampler,
        [f"{a[2]} on {with_article(c)} background" for a, c in zip(asked, colours, strict=True)],
        STEPS[num_steps],
    )
    backgrounds = [found and found.background for found in map(find, on_background)]
    places = [list(POSITIONS)[index % len(POSITIONS)] for index in range(num_seeds)]
    placed = _drawn(
        sampler, [f"{a[2]} {p}" for a, p in zip(asked, places, strict=True)], STEPS[num_steps]
    )
    counts = [2 + index % 3 for index in range(num_seeds)]
    texts = [f"{COUNTS[n]} {a[0]} {plural(a[1])}" for a, n in zip(asked, counts, strict=True)]
    counted = [count_things(picture) for picture in _drawn(sampler, texts, STEPS[num_steps])]
    return {
        "background": float(np.mean([b == c for b, c in zip(backgrounds, colours, strict=True)])),
        "place": float(np.mean([_is_at(p, w) for p, w in zip(placed, places, strict=True)])),
        "count": float(np.mean([n == m for n, m in zip(counted, counts, strict=True)])),
    }


def num_backgrounds(sampler: Sampler, num_seeds: int, num_steps: int) -> int:
    """How many background colours the seeds of one prompt bring."""
    pictures = _drawn(sampler, ["a red circle"] * num_seeds, STEPS[num_steps])
    return len({found.background for picture in pictures if (found := find(picture))})


def main() -> None:
    """Prints all scores as JSON."""
    parser = argparse.ArgumentParser(prog="python -m lpnode.builtin.measure", description=__doc__)
    parser.add_argument("--weights", type=Path, default=SHIPPED, help="model folder")
    parser.add_argument("--seeds", type=int, default=100, help="default %(default)s")
    parser.add_argument("--device", default="cpu")
    arguments = parser.parse_args()
    sampler, seeds = Sampler(arguments.weights, arguments.device), arguments.seeds
    report = {
        "weights": digest(arguments.weights),
        "seeds": seeds,
        "text-to-image": {n: asdict(follow_score(sampler, seeds, n)) for n in STEPS},
        "details": {n: detail_scores(sampler, seeds, n) for n in STEPS},
        "backgrounds": {n: num_backgrounds(sampler, seeds, n) for n in STEPS},
        "image-to-image": {
            name: asdict(edit_score(sampler, seeds, steps)) for name, steps in EDIT_STEPS.items()
        },
    }
    print(json.dumps(report, indent=2))


def _score(asked: list[tuple[str, str]], found: Sequence[Finding | None]) -> Score:
    colours = [
        one is not None and one.colour == c for one, (c, _) in zip(found, asked, strict=True)
    ]
    shapes = [one is not None and one.shape == s for one, (_, s) in zip(found, asked, strict=True)]
    return Score(
        colour=float(np.mean(colours)),
        shape=float(np.mean(shapes)),
        both=float(np.mean(np.logical_and(colours, shapes))),
    )


def _drawn(sampler: Sampler, texts: list[str], steps: Sequence[int]) -> Pictures:
    return _in_chunks(
        len(texts), lambda rows: sampler.text_to_image(texts[rows], _seeds(rows), steps)
    )


def _in_chunks(num_rows: int, draw: Callable[[slice], Pictures]) -> Pictures:
    rows = [slice(i, min(i + _CHUNK, num_rows)) for i in range(0, num_rows, _CHUNK)]
    return np.concatenate([draw(chunk) for chunk in rows])


def _seeds(rows: slice) -> range:
    return range(rows.start, rows.stop)


def _source(index: int) -> Scene:
    rng = np.random.default_rng((index, 4))
    chance = rng.normal(size=NUM_CHANCES).astype(np.float32)
    # Neither small nor big: an overlap of small things says more of pixels than of layout.
    chance[2] = 0
    colour, shape, _ = prompts(index + 1)[-1]
    return single(shape, colour, chance)


def _another_colour(scene: Scene, index: int) -> str:
    taken = (scene.items[0].colour, scene.background)
    return next(c for c in _rotated(index) if all(contrast(c, one) > 100 for one in taken))


def _rotated(index: int) -> list[str]:
    names = list(PALETTE)
    return names[index % len(names) :] + names[: index % len(names)]


def _is_at(picture: Pictures, position: str) -> bool:
    found = find(picture)
    if found is None:
        return False
    rows, columns = np.nonzero(found.mask)
    centre = np.array([columns.mean(), rows.mean()]) / picture.shape[0]
    return bool(np.abs(centre - POSITIONS[position]).max() < _PLACE_REACH)


if __name__ == "__main__":
    main()
