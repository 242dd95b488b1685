"""Pairs of pictures that show what a prompt does to a picture: image-to-image is trained on them.

What the caption says changes, what it doesn't say stays: the layout, and the background unless
there is a word for it.
"""

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from lpnode.builtin.caption import caption
from lpnode.builtin.render import PICTURE_SIDE, render
from lpnode.builtin.scene import BACKGROUND, NUM_CHANCES, redrawn, sample_scene, single
from lpnode.builtin.vocabulary import PALETTE, SHAPES
from lpnode.media.test_source import MovingPicture

_SHARE_OF_TEST_FRAMES = 0.2
_NUM_FRAMES_OF_A_ROUND = 90
_LIKE_BLUE = ("blue", "purple")


@dataclass(frozen=True, slots=True)
class Edit:
    """Pictures before and after, (side, side, 3) RGB, and the text that leads to the second."""

    before: NDArray[np.uint8]
    after: NDArray[np.uint8]
    text: str


def sample_edit(rng: np.random.Generator, side: int = PICTURE_SIDE) -> Edit:
    """Draws one pair: of two scenes, or of the demo's moving test picture and a scene."""
    if rng.random() < _SHARE_OF_TEST_FRAMES:
        return _test_frame_edit(rng, side)
    scene = sample_scene(rng)
    words = caption(scene, rng, is_exact=False)
    before = redrawn(scene, rng, keeps_background=bool(words.is_open[BACKGROUND].any()))
    return Edit(render(before, side, rng), render(scene, side, rng), words.text)


def _test_frame_edit(rng: np.random.Generator, side: int) -> Edit:
    """The disc that circles in the test picture becomes what the prompt says."""
    large = int(rng.integers(128, 400)) // 2 * 2
    number = int(rng.integers(1 << 20))
    frame = MovingPicture(large, large).draw(number)
    picture = Image.fromarray(frame.to_ndarray(format="rgb24"))
    before = np.asarray(picture.resize((side, side), Image.Resampling.BOX))

    scene = single(
        str(rng.choice(SHAPES)),
        str(rng.choice(list(PALETTE))),
        rng.normal(size=NUM_CHANCES).astype(np.float32),
    )
    angle = 2 * math.pi * number / _NUM_FRAMES_OF_A_ROUND
    item = replace(
        scene.items[0], x=0.5 + 0.37 * math.cos(angle), y=0.5 + 0.37 * math.sin(angle), radius=0.13
    )
    scene = replace(scene, items=(item,), position=None, size=None)
    words = caption(scene, rng, is_exact=False)
    if words.is_open[BACKGROUND].any():
        # Something has to stand there, and always the same.
        scene = replace(scene, background="blue" if item.colour not in _LIKE_BLUE else "yellow")
    return Edit(before, render(scene, side, rng), words.text)
