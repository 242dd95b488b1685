"""Frames that came back from the demo, beside those that went in."""

from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from lpnode.media.frame import Frame
from lpnode.media.tensor import cover_crop
from lpnode.media.test_source import MovingPicture

_NUM_SAMPLES = 6
_CHANGED = 8.0
"""Mean difference of RGB levels that makes another picture; coding alone makes 1 to 2."""
_SHIFTED = 8.0
_LABEL_HEIGHT = 22
_SHOWN_SIDE = 512
"""Pixels up to which small pictures are enlarged on the sheet."""

Rgb = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Verdict:
    """Mean absolute differences of RGB levels, 0 to 255.

    ``change``: the least one between a frame that went in and came back. ``shift``: between the
    mean colours before and after the parameter update, each taken relative to the input.
    """

    change: float
    shift: float

    @property
    def is_changed(self) -> bool:
        """The model did something to every sample."""
        return self.change > _CHANGED

    @property
    def is_updated(self) -> bool:
        """The update did something more."""
        return self.shift > _SHIFTED


class DemoFrames:
    """Keeps a few frames of the first and of the second half, by number."""

    def __init__(self, size: tuple[int, int], fps: int, duration_s: float) -> None:
        self._source = MovingPicture(*size)
        half = duration_s * fps / 2
        share = np.linspace(0.3, 0.85, _NUM_SAMPLES // 2)
        self._wanted = [round(half * part) for part in share]
        self._wanted += [round(half * (1 + part)) for part in share]
        self._half = half
        self._returned: dict[int, Frame] = {}

    def take(self, number: int, frame: Frame) -> None:
        """Keeps the frame if it is wanted: the first to come back at or after each sample."""
        if self._wanted and number >= self._wanted[0]:
            del self._wanted[0]
            self._returned[number] = frame

    def verdict(self) -> Verdict:
        """Compares what came back with what went in; zeros when nothing did."""
        changes: list[float] = []
        before: list[Rgb] = []
        after: list[Rgb] = []
        for number, frame in self._returned.items():
            out = _rgb(frame.picture)
            difference = out - self._input(number, frame)
            changes.append(float(np.abs(difference).mean()))
            (before if number < self._half else after).append(difference.mean(axis=(0, 1)))
        if not (before and after):
            return Verdict(min(changes, default=0.0), 0.0)
        shift = np.abs(np.mean(before, axis=0) - np.mean(after, axis=0)).mean()
        return Verdict(min(changes), float(shift))

    def write_picture(self, path: Path) -> None:
        """Writes the pairs as one PNG: what went in on top, what came back below."""
        pairs = [
            (number, self._input(number, frame), _rgb(frame.picture))
            for number, frame in self._returned.items()
        ]
        if not pairs:
            return
        height, width, _ = pairs[0][2].shape
        zoom = max(1, _SHOWN_SIDE // max(height, width))
        height, width = height * zoom, width * zoom
        sheet = Image.new("RGB", (width * len(pairs), 2 * height + _LABEL_HEIGHT), "white")
        draw = ImageDraw.Draw(sheet)
        font = ImageFont.load_default(14)
        for column, (number, sent, returned) in enumerate(pairs):
            phase = "before the update" if number < self._half else "after the update"
            left = column * width
            draw.text((left + 6, 3), f"frame {number}, {phase}", fill="black", font=font)
            for row, pixels in enumerate((sent, returned)):
                picture = Image.fromarray(pixels.astype(np.uint8))
                picture = picture.resize((width, height), Image.Resampling.NEAREST)
                sheet.paste(picture, (left, _LABEL_HEIGHT + row * height))
        sheet.save(path)

    def _input(self, number: int, frame: Frame) -> Rgb:
        """The frame that went in, scaled and cropped as the node does it."""
        picture = self._source.draw(number)
        crop = cover_crop(picture.width, picture.height, frame.width, frame.height)
        box = (crop.x, crop.y, crop.x + crop.width, crop.y + crop.height)
        image = Image.fromarray(picture.to_ndarray(format="rgb24")).resize(
            (frame.width, frame.height), Image.Resampling.BILINEAR, box=box
        )
        return np.asarray(image, np.float32)


def copy_to_mp4(source: Path, target: Path) -> None:
    """Puts the coded pictures of a transport stream into an MP4 file, which browsers play."""
    if not source.stat().st_size:
        return
    with av.open(str(source), format="mpegts") as stream, av.open(str(target), "w") as file:
        video = stream.streams.video[0]
        copied = file.add_stream_from_template(video)
        for packet in stream.demux(video):
            if packet.dts is not None:
                packet.stream = copied
                file.mux(packet)


def _rgb(picture: av.VideoFrame) -> Rgb:
    return picture.to_ndarray(format="rgb24").astype(np.float32)
