"""What viewers see while a pipeline loads: the last picture, dimmed, with a spinner."""

from dataclasses import dataclass
from functools import lru_cache

import av
import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from lpnode.media.frame import Colour, Matrix

TEXT = "Loading pipeline…"
BASE_MAX_AGE_S = 5.0
MID_GREY = 128
DARKNESS = 90 / 255
SPINNER_STEPS = 32
TURNS_PER_S = 0.5
ARC_DEGREES = 270
WHITE = 255

Luma = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class _Shown:
    picture: av.VideoFrame
    colour: Colour
    time_s: float


class LoadingOverlay:
    """Draws loading frames for one stream of one output size.

    Args:
        width, height: of the output, in pixels.
    Source: live.md section 4.5.
    """

    def __init__(self, width: int, height: int) -> None:
        self._width = width
        self._height = height
        self._radius = max(8, round(0.035 * min(width, height)))
        self._last: _Shown | None = None
        self._grey: Luma | None = None
        self._grey_until_s = float("inf")
        self._coded: dict[bool, Luma] = {}

    def remember(self, picture: av.VideoFrame, colour: Colour, now_s: float) -> None:
        """Notes a real output. Costs nothing: the picture is read only if it is ever needed.

        ``picture`` must keep its content until another is remembered; ``draw`` may write into it.
        """
        self._last = _Shown(picture, colour, now_s)
        self._grey = None

    def draw(self, picture: av.VideoFrame, colour: Colour, now_s: float) -> None:
        """Overwrites ``picture`` (yuv420p of the output's size) with a loading frame.

        Args:
            now_s: on the clock of ``remember``; turns the spinner.
        """
        if self._grey is None or now_s > self._grey_until_s:
            self._grey = self._still_part(now_s)
            self._coded.clear()
        coded = self._coded.get(colour.is_full_range)
        if coded is None:
            coded = self._coded[colour.is_full_range] = _coded(self._grey, colour)
        luma = _plane(picture, 0)
        luma[:] = coded
        self._draw_spinner(luma, colour, now_s)
        _plane(picture, 1)[:] = 128
        _plane(picture, 2)[:] = 128

    def _still_part(self, now_s: float) -> Luma:
        """The darkened base with the text, 0 to 255: what stays the same from frame to frame."""
        last = self._last
        if last is None or now_s - last.time_s > BASE_MAX_AGE_S:
            self._grey_until_s = float("inf")
            grey = np.full((self._height, self._width), MID_GREY, np.float32)
        else:
            self._grey_until_s = last.time_s + BASE_MAX_AGE_S
            grey = _grey_of(last.picture, last.colour)
        image = Image.fromarray(_to_bytes(grey * (1 - DARKNESS)))
        ImageDraw.Draw(image).text(
            (self._width // 2, self._height // 2 - 2 * self._radius),
            TEXT,
            fill=WHITE,
            font=_font(max(10, self._radius)),
            anchor="mb",
        )
        return np.asarray(image)

    def _draw_spinner(self, luma: Luma, colour: Colour, now_s: float) -> None:
        radius = self._radius
        top, left = self._height // 2 - radius, self._width // 2 - radius
        area = luma[top : top + 2 * radius + 1, left : left + 2 * radius + 1]
        image = Image.fromarray(area)
        start = int(now_s * TURNS_PER_S * SPINNER_STEPS) % SPINNER_STEPS * 360 / SPINNER_STEPS
        white = int(_coded(np.array(WHITE, np.uint8), colour))
        box = (0, 0, 2 * radius, 2 * radius)
        ImageDraw.Draw(image).arc(
            box, start, start + ARC_DEGREES, fill=white, width=max(2, radius // 5)
        )
        area[:] = np.asarray(image)


@lru_cache(maxsize=8)
def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)


def _plane(picture: av.VideoFrame, index: int) -> Luma:
    """The pixels of one plane, in place, without the padding of its lines."""
    plane = picture.planes[index]
    rows = np.frombuffer(memoryview(plane), np.uint8).reshape(-1, plane.line_size)
    return rows[: plane.height, : plane.width]


def _grey_of(picture: av.VideoFrame, colour: Colour) -> npt.NDArray[np.float32]:
    """Luma 0.299 R + 0.587 G + 0.114 B, 0 to 255, of a yuv420p picture or one of a device."""
    if picture.format.name == "cuda":
        picture = picture.reformat(format="yuv420p")  # read back, and only when a load begins
    luma = _plane(picture, 0).astype(np.float32)
    if not colour.is_full_range:
        luma = (luma - 16) * (255 / 219)
    if colour.matrix is Matrix.BT709:
        # BT.709 luma weighs the primaries otherwise; these are the difference's shares of Cb and
        # Cr once R, G and B are written in terms of them.
        luma += _full_size(picture, 1, colour) * 0.1016 + _full_size(picture, 2, colour) * 0.1961
    return luma


def _full_size(picture: av.VideoFrame, index: int, colour: Colour) -> npt.NDArray[np.float32]:
    """A chroma plane around 0, each sample repeated for its 2x2 pixels."""
    chroma = _plane(picture, index).astype(np.float32) - 128
    if not colour.is_full_range:
        chroma *= 255 / 224
    return chroma.repeat(2, axis=0).repeat(2, axis=1)[: picture.height, : picture.width]


def _coded(grey: Luma, colour: Colour) -> Luma:
    """Grey, 0 to 255, as luma samples."""
    return grey if colour.is_full_range else _to_bytes(grey * np.float32(219 / 255) + 16)


def _to_bytes(values: npt.NDArray[np.float32]) -> Luma:
    return np.rint(values).clip(0, 255).astype(np.uint8)
