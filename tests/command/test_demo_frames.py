"""When the demo believes that frames came back changed, and the pictures it shows."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import av
from PIL import Image

from lpnode.command.demo_frames import DemoFrames
from lpnode.command.demo_models import DEMO_MODELS
from lpnode.media.frame import Colour, Frame, Matrix
from lpnode.media.tensor import cover_crop, to_frame, to_tensor
from lpnode.media.test_source import MovingPicture, read_mark
from lpnode.pipeline.edge_style import EdgeStyle
from lpnode.pipeline.passthrough import Passthrough
from lpnode.pipeline.pipeline import FrameJob

SHOW = DEMO_MODELS["edge-style"]
SIZE = (640, 360)
COLOUR = Colour(Matrix.BT601, is_full_range=False)
FPS, SECONDS = 10, 10


def returned(number: int, pipeline: Any, params: Mapping[str, Any]) -> Frame:
    """The frame with this number as the node would return it, but for the coding."""
    sent = Frame(MovingPicture(*SIZE).draw(number), 0, COLOUR)
    parsed = pipeline.parse(params)
    width, height = pipeline.output_size(parsed)
    tensor = pipeline.input_buffer(width, height)[0]
    value_range = pipeline.spec.value_range
    to_tensor(sent, tensor, cover_crop(*SIZE, width, height), value_range)
    (result,) = pipeline.run([FrameJob(pipeline.prepare(parsed), tensor, 0)])
    picture = av.VideoFrame(width, height, "yuv420p")
    to_frame(result.frame, picture, COLOUR, value_range)
    return Frame(picture, 0, COLOUR)


def taken(pipeline: Any, before: Mapping[str, Any], after: Mapping[str, Any]) -> DemoFrames:
    frames = DemoFrames(SIZE, FPS, SECONDS)
    for number in range(0, FPS * SECONDS, 5):
        params = before if number < FPS * SECONDS / 2 else after
        frames.take(number, returned(number, pipeline, params))
    return frames


def test_the_demos_own_parameters_change_frames_and_change_them_again(tmp_path: Path) -> None:
    frames = taken(EdgeStyle(), SHOW.before, SHOW.after)
    verdict = frames.verdict()
    assert verdict.is_changed
    assert verdict.is_updated
    frames.write_picture(tmp_path / "frames.png")
    with Image.open(tmp_path / "frames.png") as sheet:
        assert sheet.size == (6 * 512, 2 * 512 + 22)


def test_frames_that_come_back_as_they_were_are_not_taken_for_changed() -> None:
    verdict = taken(Passthrough(), {}, {}).verdict()
    assert verdict.change < 6
    assert not verdict.is_changed
    assert not verdict.is_updated


def test_an_update_without_effect_is_noticed() -> None:
    verdict = taken(EdgeStyle(), SHOW.before, SHOW.before).verdict()
    assert verdict.is_changed
    assert not verdict.is_updated


def test_nothing_back_is_no_change() -> None:
    verdict = DemoFrames(SIZE, FPS, SECONDS).verdict()
    assert not verdict.is_changed
    assert not verdict.is_updated


def test_the_number_survives_both_parameter_sets() -> None:
    for params in (SHOW.before, SHOW.after):
        for number in (7, 150, 4095):
            frame = returned(number, EdgeStyle(), params)
            assert read_mark(frame.picture, SIZE) == number
