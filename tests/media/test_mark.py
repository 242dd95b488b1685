"""The moving picture's number survives what a node does to it."""

import av
import numpy as np
import pytest
import torch

from lpnode._native import effect
from lpnode.errors import InvalidArgument
from lpnode.media.encoder import EncoderConfig, VideoEncoder
from lpnode.media.frame import Colour, Frame, Matrix
from lpnode.media.tensor import cover_crop, to_frame, to_tensor
from lpnode.media.test_source import MAX_FRAME_NUMBER, MovingPicture, read_mark

NUMBERS = [0, 1, 77, 12_345, 9_999_999, MAX_FRAME_NUMBER]


def coded(pictures: list[av.VideoFrame], bitrate_bps: int | None = None) -> list[av.VideoFrame]:
    size = (pictures[0].width, pictures[0].height)
    encoder = VideoEncoder(EncoderConfig(width=size[0], height=size[1], bitrate_bps=bitrate_bps))
    decoder = av.CodecContext.create("h264", "r")
    out = []
    for n, picture in enumerate(pictures):
        for packet in encoder.encode(picture, n * 3000, Colour(Matrix.BT601, False)):
            out += decoder.decode(av.Packet(bytes(packet.payload)))
    return out + decoder.decode(None)


def covered(picture: av.VideoFrame, width: int, height: int) -> av.VideoFrame:
    """Scales to cover and crops the centre, as live.md 4.2 says."""
    scale = max(width / picture.width, height / picture.height)
    size = (round(picture.width * scale) // 2 * 2, round(picture.height * scale) // 2 * 2)
    pixels = picture.reformat(*size, format="rgb24").to_ndarray()
    top, left = (pixels.shape[0] - height) // 2, (pixels.shape[1] - width) // 2
    cut = np.ascontiguousarray(pixels[top : top + height, left : left + width])
    return av.VideoFrame.from_ndarray(cut, format="rgb24").reformat(format="yuv420p")


@pytest.mark.parametrize(
    "size", [(1280, 720), (1920, 1080), (720, 1280), (640, 480), (512, 512), (384, 384)]
)
def test_the_number_survives_coding_at_every_size(size: tuple[int, int]) -> None:
    source = MovingPicture(*size)
    pictures = coded([source.draw(n) for n in NUMBERS])
    assert [read_mark(p) for p in pictures] == NUMBERS


@pytest.mark.parametrize("size", [(1280, 720), (720, 1280)])
@pytest.mark.parametrize("target", [(512, 512), (384, 384), (1024, 576), (512, 768)])
def test_the_number_survives_the_crop(size: tuple[int, int], target: tuple[int, int]) -> None:
    source = MovingPicture(*size)
    marks = [read_mark(covered(source.draw(n), *target), source_size=size) for n in NUMBERS]
    assert marks == NUMBERS


def stylised(picture: av.VideoFrame) -> av.VideoFrame:
    """Four levels, black lines on the edges, a tint: rougher than any effect of this node."""
    rgb = picture.to_ndarray(format="rgb24").astype(float)
    luma = rgb.mean(axis=2)
    edges = np.hypot(*np.gradient(luma)) > 20
    flat = np.floor(rgb / 64) * 80 * [0.6, 1.0, 0.8]
    flat[edges] = 0
    out = np.clip(flat, 0, 255).astype(np.uint8)
    return av.VideoFrame.from_ndarray(out, format="rgb24").reformat(format="yuv420p")


def test_the_number_survives_posterising_outlines_and_low_bit_rate() -> None:
    source = MovingPicture()
    pictures = [stylised(covered(source.draw(n), 512, 512)) for n in NUMBERS]
    assert [read_mark(p) for p in coded(pictures, bitrate_bps=300_000)] == NUMBERS


@pytest.mark.parametrize(
    "style",
    [
        {},
        {"levels": 2},
        {"threshold": 0.02, "softness": 0.001},
        {"tint": (0.3, 0.6, 1.0), "ink": (1.0, 0.2, 0.2)},
        {"tint": (0.25, 0.3, 0.2), "strength": 0.5},
        {"ink": (1.0, 1.0, 1.0), "levels": 3},
    ],
)
def test_the_number_survives_the_edge_style_effect(style: dict[str, object]) -> None:
    source, colour = MovingPicture(), Colour(Matrix.BT601, False)
    crop = cover_crop(1280, 720, 512, 512)
    tensor, drawn = torch.empty(3, 512, 512), torch.empty(3, 512, 512)
    defaults = {
        "strength": 1.0,
        "threshold": 0.12,
        "softness": 0.12,
        "levels": 6,
        "tint": (1.0, 1.0, 1.0),
        "ink": (0.05, 0.05, 0.1),
    }
    pictures = []
    for number, picture in zip(NUMBERS, coded([source.draw(n) for n in NUMBERS]), strict=True):
        to_tensor(Frame(picture, number, colour), tensor, crop, (0.0, 1.0))
        effect.edge_style(tensor, drawn, **(defaults | style))
        pictures.append(av.VideoFrame(512, 512, "yuv420p"))
        to_frame(drawn, pictures[-1], colour, (0.0, 1.0))
    assert [read_mark(p) for p in coded(pictures)] == NUMBERS


def test_the_number_survives_inversion() -> None:
    picture = MovingPicture().draw(4711)
    luma = np.asarray(memoryview(picture.planes[0]))
    luma[:] = 255 - luma
    assert read_mark(picture) == 4711


def test_a_picture_without_a_mark_gives_none() -> None:
    picture = av.VideoFrame(512, 512, "yuv420p")
    for plane in picture.planes:
        np.asarray(memoryview(plane))[:] = 128
    assert read_mark(picture) is None
    noise = np.random.default_rng(7)
    luma = np.asarray(memoryview(picture.planes[0]))
    luma[:] = noise.integers(0, 255, luma.shape)
    assert read_mark(picture) is None


def test_the_picture_moves() -> None:
    source = MovingPicture(640, 480)
    first = np.frombuffer(source.draw(0).planes[0], np.uint8).astype(int)
    second = np.frombuffer(source.draw(1).planes[0], np.uint8).astype(int)
    assert np.abs(first - second).mean() > 1


def test_drawing_into_a_picture_replaces_what_was_there() -> None:
    source = MovingPicture(640, 480)
    picture = source.draw(5)
    assert source.draw(6, picture) is picture
    assert read_mark(picture) == 6


def test_a_number_or_size_out_of_range_is_refused() -> None:
    with pytest.raises(InvalidArgument, match="28 bits"):
        MovingPicture().draw(MAX_FRAME_NUMBER + 1)
    with pytest.raises(InvalidArgument, match="even"):
        MovingPicture(641, 480)
