"""Pictures that are no scenes: the autoencoder must get them through too, as cameras see them."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from lpnode.builtin.render import PICTURE_SIDE
from lpnode.media.test_source import MovingPicture

_MAX_FRAME = 1 << 20


def clutter(rng: np.random.Generator, side: int = PICTURE_SIDE) -> NDArray[np.uint8]:
    """Draws a picture without a caption: (side, side, 3) RGB.

    A frame of the demo's moving test picture, clouds of coloured noise, or polygons of any colour
    before such clouds, blurred a little or not.
    """
    kind = rng.random()
    if kind < 0.2:
        return _test_frame(rng, side)
    picture = Image.fromarray(_clouds(rng, side))
    if kind < 0.75:
        draw = ImageDraw.Draw(picture)
        for _ in range(int(rng.integers(2, 9))):
            centre, reach = rng.uniform(0, side, 2), rng.uniform(4, side / 2)
            corners = centre + rng.uniform(-reach, reach, (int(rng.integers(3, 7)), 2))
            fill = tuple(int(v) for v in rng.integers(0, 256, 3))
            draw.polygon([(float(x), float(y)) for x, y in corners], fill=fill)
    if rng.random() < 0.6:
        picture = picture.filter(ImageFilter.GaussianBlur(float(rng.uniform(0.4, 2.0))))
    return np.asarray(picture)


def _clouds(rng: np.random.Generator, side: int) -> NDArray[np.uint8]:
    total = np.zeros((side, side, 3), np.float32)
    total += rng.uniform(40, 215, 3)
    for cells, strength in ((2, 70.0), (5, 35.0), (12, 18.0), (32, 9.0)):
        # The same noise in all channels and some of its own: things are seldom rainbow-coloured.
        shared = rng.normal(0, 1, (cells, cells, 1))
        noise = shared * 0.7 + rng.normal(0, 0.5, (cells, cells, 3))
        noise *= strength * rng.uniform(0, 1)
        for channel in range(3):
            plane = Image.fromarray(noise[..., channel].astype(np.float32))
            total[..., channel] += np.asarray(plane.resize((side, side), Image.Resampling.BICUBIC))
    return np.clip(total, 0, 255).astype(np.uint8)


def _test_frame(rng: np.random.Generator, side: int) -> NDArray[np.uint8]:
    large = int(rng.integers(side, 3 * side)) // 2 * 2
    frame = MovingPicture(large, large).draw(int(rng.integers(_MAX_FRAME)))
    # Nearest neighbours would alias; Pillow's box filter doesn't.
    picture = Image.fromarray(frame.to_ndarray(format="rgb24"))
    return np.asarray(picture.resize((side, side), Image.Resampling.BOX))
