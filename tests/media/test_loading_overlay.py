import av
import numpy as np
import numpy.typing as npt
import pytest
from PIL import ImageFont

from lpnode.media.frame import Colour, Matrix
from lpnode.media.loading_overlay import TEXT, LoadingOverlay

WIDTH, HEIGHT = 512, 384
BT601 = Colour(Matrix.BT601, is_full_range=False)
BT709 = Colour(Matrix.BT709, is_full_range=False)
FULL = Colour(Matrix.BT601, is_full_range=True)


def blank(luma: int = 0, cb: int = 128, cr: int = 128) -> av.VideoFrame:
    picture = av.VideoFrame(WIDTH, HEIGHT, "yuv420p")
    for plane, value in zip(picture.planes, (luma, cb, cr), strict=True):
        plane.update(bytes([value]) * plane.buffer_size)
    return picture


def plane(picture: av.VideoFrame, index: int) -> npt.NDArray[np.uint8]:
    source = picture.planes[index]
    rows = np.frombuffer(bytes(source), np.uint8).reshape(-1, source.line_size)
    return rows[:, : source.width]


def corner(picture: av.VideoFrame) -> int:
    return int(plane(picture, 0)[3, 3])


def drawn(overlay: LoadingOverlay, now_s: float, colour: Colour = BT601) -> av.VideoFrame:
    picture = blank(200, 30, 220)
    overlay.draw(picture, colour, now_s)
    return picture


def limited(grey: float) -> int:
    return round(16 + grey * 219 / 255)


def test_before_any_output_the_base_is_darkened_mid_grey_without_colour() -> None:
    picture = drawn(LoadingOverlay(WIDTH, HEIGHT), 0.0)
    assert corner(picture) == limited(128 * (1 - 90 / 255))
    assert (plane(picture, 1) == 128).all()
    assert (plane(picture, 2) == 128).all()


def test_full_range_output_gets_full_range_grey() -> None:
    assert corner(drawn(LoadingOverlay(WIDTH, HEIGHT), 0.0, FULL)) == round(128 * (1 - 90 / 255))


def test_the_last_output_shows_through_until_it_is_older_than_five_seconds() -> None:
    overlay = LoadingOverlay(WIDTH, HEIGHT)
    overlay.remember(blank(235), BT601, 100.0)
    shown = limited(255 * (1 - 90 / 255))
    assert [corner(drawn(overlay, now_s)) for now_s in (100.1, 105.0)] == [shown, shown]
    assert corner(drawn(overlay, 105.1)) == limited(128 * (1 - 90 / 255))


def test_an_output_that_is_already_too_old_is_not_shown() -> None:
    overlay = LoadingOverlay(WIDTH, HEIGHT)
    overlay.remember(blank(235), BT601, 100.0)
    assert corner(drawn(overlay, 105.1)) == limited(128 * (1 - 90 / 255))


def test_a_later_output_replaces_the_base() -> None:
    overlay = LoadingOverlay(WIDTH, HEIGHT)
    overlay.remember(blank(235), BT601, 100.0)
    drawn(overlay, 100.1)
    overlay.remember(blank(16), BT601, 101.0)
    assert corner(drawn(overlay, 101.1)) == 16


def test_loading_frames_may_be_drawn_into_the_very_picture_that_was_shown_last() -> None:
    overlay = LoadingOverlay(WIDTH, HEIGHT)
    reused = blank(235)
    overlay.remember(reused, BT601, 100.0)
    for now_s in (100.0, 100.04, 100.08):
        overlay.draw(reused, BT601, now_s)
        assert corner(reused) == limited(255 * (1 - 90 / 255))


@pytest.mark.parametrize("colour", [BT601, BT709])
@pytest.mark.parametrize("rgb", [(255, 0, 0), (0, 255, 0), (0, 0, 255), (200, 100, 50)])
def test_grey_is_weighed_the_same_whatever_matrix_the_output_was_coded_with(
    colour: Colour, rgb: tuple[int, int, int]
) -> None:
    kr, kb = (0.2126, 0.0722) if colour.matrix is Matrix.BT709 else (0.299, 0.114)
    red, green, blue = rgb
    luma = kr * red + (1 - kr - kb) * green + kb * blue
    cb, cr = (blue - luma) / (2 * (1 - kb)), (red - luma) / (2 * (1 - kr))
    coded = (16 + luma * 219 / 255, 128 + cb * 224 / 255, 128 + cr * 224 / 255)
    overlay = LoadingOverlay(WIDTH, HEIGHT)
    overlay.remember(blank(*(round(value) for value in coded)), colour, 0.0)
    expected = limited((0.299 * red + 0.587 * green + 0.114 * blue) * (1 - 90 / 255))
    assert abs(corner(drawn(overlay, 0.0)) - expected) <= 1


def white_angles(picture: av.VideoFrame, radius: int) -> npt.NDArray[np.bool_]:
    """Which of 360 directions from the centre have a white pixel on the spinner's circle."""
    luma = plane(picture, 0)
    angles = np.deg2rad(np.arange(360))
    is_white = np.zeros(360, bool)
    for distance in (radius - 1, radius - 0.5, radius):
        x = np.rint(WIDTH // 2 + distance * np.cos(angles)).astype(int)
        y = np.rint(HEIGHT // 2 + distance * np.sin(angles)).astype(int)
        is_white |= luma[y, x] > 200
    return is_white


def test_the_spinner_is_three_quarters_of_a_circle_of_the_given_radius() -> None:
    radius = round(0.035 * HEIGHT)
    white = white_angles(drawn(LoadingOverlay(WIDTH, HEIGHT), 0.0), radius)
    assert 255 <= white.sum() <= 285
    assert white[10:260].all()
    assert not white[280:350].any()


def test_the_spinner_makes_half_a_turn_a_second_in_32_steps() -> None:
    overlay = LoadingOverlay(WIDTH, HEIGHT)
    radius = round(0.035 * HEIGHT)
    half_turned = white_angles(drawn(overlay, 1.0), radius)
    assert half_turned[190:360].all()
    assert not half_turned[100:170].any()
    pictures = {plane(drawn(overlay, index / 64), 0).tobytes() for index in range(128)}
    assert len(pictures) == 32


def test_the_spinner_never_gets_smaller_than_eight_pixels() -> None:
    picture = av.VideoFrame(128, 128, "yuv420p")
    LoadingOverlay(128, 128).draw(picture, BT601, 0.0)
    white = plane(picture, 0)[64 - 10 : 64 + 10, 64 - 10 : 64 + 10] > 200
    assert np.flatnonzero(white.any(axis=0)).size == 17


def test_the_text_stands_above_the_spinner_in_the_middle() -> None:
    luma = plane(drawn(LoadingOverlay(WIDTH, HEIGHT), 0.0), 0)
    above = luma[: HEIGHT // 2 - round(0.035 * HEIGHT) - 2] > 150
    columns = np.flatnonzero(above.any(axis=0))
    assert columns.size > 60
    assert abs((columns[0] + columns[-1]) / 2 - WIDTH / 2) < 4
    below = luma[HEIGHT // 2 + round(0.035 * HEIGHT) + 2 :] > 150
    assert not below.any()


def test_the_text_ends_in_a_real_ellipsis_that_the_font_has() -> None:
    assert TEXT == "Loading pipeline\u2026"
    font = ImageFont.load_default(20)
    assert list(font.getmask("\u2026")) != list(font.getmask("\uffff"))
