"""Conversion of frames to tensors and back, on every path this machine runs."""

import threading

import av
import numpy as np
import pytest
import torch
from media.colour_reference import Picture, noise, rgb_to_yuv, yuv_to_rgb

from lpnode._native import media
from lpnode.errors import InvalidArgument, NotBuilt
from lpnode.media.frame import Colour, Frame, Matrix
from lpnode.media.tensor import Crop, cover_crop, to_frame, to_tensor

PATHS = ["portable", "avx2", "avx512"]
COLOURS = [Colour(matrix, full) for matrix in Matrix for full in (False, True)]
LIMITED_709 = Colour(Matrix.BT709, False)

# Fixed-point steps of 1/128 level at each of the two mixes and 1/64 in the matrix.
TOLERANCE_LEVELS = 0.1
# Plus half a step of binary16 below 1.0, where a step is 2^-11 of the range 0..1.
TOLERANCE_HALF_LEVELS = TOLERANCE_LEVELS + 255 * 2**-12

SIZES = [
    # source, crop, target
    ((1280, 720), None, (512, 512)),
    ((720, 1280), None, (512, 512)),
    ((640, 360), Crop(0, 0, 640, 360), (384, 704)),
    ((1280, 720), Crop(0, 0, 1280, 720), (512, 512)),
    ((1920, 1080), Crop(0, 0, 1920, 1080), (256, 144)),
    ((3840, 64), Crop(0, 0, 3840, 64), (512, 64)),
    ((512, 512), Crop(0, 0, 512, 512), (512, 512)),
    ((321, 243), Crop(0, 0, 321, 243), (129, 67)),
    ((37, 19), Crop(3.25, 1.5, 30.5, 17.25), (61, 35)),
    ((5, 3), Crop(0, 0, 5, 3), (33, 17)),
    ((1, 1), Crop(0, 0, 1, 1), (5, 3)),
    ((64, 2), Crop(10.5, 0, 0.5, 1), (31, 1)),
]


@pytest.fixture(params=PATHS)
def path(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    if PATHS.index(name) > PATHS.index(media.best_simd_path()):
        pytest.skip(f"this machine does not run {name}")
    return name


def frame_of(picture: Picture, colour: Colour, pixel_format: str = "yuv420p") -> Frame:
    """Copies the planes into a picture of FFmpeg's, with its pitches."""
    target = av.VideoFrame(picture.width, picture.height, pixel_format)
    planes = [picture.y, picture.u, picture.v]
    if pixel_format == "nv12":
        chroma = np.stack([picture.u, picture.v], axis=2)
        planes = [picture.y, chroma.reshape(chroma.shape[0], -1)]
    for plane, values in zip(target.planes, planes, strict=True):
        rows = np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)
        rows[: values.shape[0], : values.shape[1]] = values
    return Frame(target, 0, colour)


def planes_of(picture: av.VideoFrame) -> list[np.ndarray]:
    sizes = [(picture.height, picture.width)] + 2 * [
        ((picture.height + 1) // 2, (picture.width + 1) // 2)
    ]
    return [
        np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)[:rows, :columns]
        for plane, (rows, columns) in zip(picture.planes, sizes, strict=True)
    ]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize("pixel_format", ["yuv420p", "nv12"])
@pytest.mark.parametrize(("source", "crop", "target"), SIZES)
def test_tensor_is_the_resized_picture(
    path: str,
    source: tuple[int, int],
    crop: Crop | None,
    target: tuple[int, int],
    pixel_format: str,
    dtype: torch.dtype,
) -> None:
    picture = noise(*source)
    crop = crop or cover_crop(*source, *target)
    out = torch.full((3, target[1], target[0]), 7.0, dtype=dtype)
    frame = frame_of(picture, LIMITED_709, pixel_format)
    to_tensor(frame, out, crop, (0.0, 1.0), path=path)
    expected = yuv_to_rgb(picture, crop, target, LIMITED_709)
    tolerance = TOLERANCE_LEVELS if dtype is torch.float32 else TOLERANCE_HALF_LEVELS
    np.testing.assert_allclose(out.float().numpy() * 255, expected, rtol=0, atol=tolerance)


@pytest.mark.parametrize("value_range", [(0.0, 1.0), (-1.0, 1.0), (255.0, 0.0)])
@pytest.mark.parametrize("colour", COLOURS)
def test_tensor_follows_matrix_and_range(
    path: str, colour: Colour, value_range: tuple[float, float]
) -> None:
    picture = noise(320, 180)
    crop = cover_crop(320, 180, 96, 64)
    out = torch.empty(3, 64, 96)
    to_tensor(frame_of(picture, colour), out, crop, value_range, path=path)
    black, white = value_range
    levels = (out.numpy() - black) / (white - black) * 255
    expected = yuv_to_rgb(picture, crop, (96, 64), colour)
    np.testing.assert_allclose(levels, expected, rtol=0, atol=TOLERANCE_LEVELS)


def test_nothing_outside_the_tensor_is_written(path: str) -> None:
    whole = torch.full((5, 13, 45), 9.0)
    frame = frame_of(noise(100, 60), LIMITED_709)
    to_tensor(frame, whole[1:4], Crop(0, 0, 100, 60), (0.0, 1.0), path=path)
    assert (whole[0] == 9).all()
    assert (whole[4] == 9).all()
    assert (whole[1:4] <= 1).all()


def test_columns_outside_the_crop_do_not_matter(path: str) -> None:
    picture = noise(640, 64)
    other = noise(640, 64, seed=1)
    crop = Crop(200, 0, 64, 64)
    for plane, foreign, margin in (
        (picture.y, other.y, 199),
        (picture.u, other.u, 99),
        (picture.v, other.v, 99),
    ):
        foreign[:, margin:-margin] = plane[:, margin:-margin]
    tensors = [torch.empty(3, 64, 64), torch.empty(3, 64, 64)]
    for tensor, source in zip(tensors, (picture, other), strict=True):
        to_tensor(frame_of(source, LIMITED_709), tensor, crop, (0.0, 1.0), path=path)
    # The pixels next to the edge of the crop may see one column beyond it.
    assert torch.equal(tensors[0][:, :, 2:-2], tensors[1][:, :, 2:-2])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize("colour", COLOURS)
@pytest.mark.parametrize("size", [(512, 64), (1, 1), (2, 2), (33, 17), (63, 5), (70, 36)])
def test_picture_is_the_tensor(
    path: str, size: tuple[int, int], colour: Colour, dtype: torch.dtype
) -> None:
    width, height = size
    generator = torch.Generator().manual_seed(3)
    # Beyond -1..1, so that clamping is seen.
    tensor = (torch.rand(3, height, width, generator=generator) * 2.4 - 1.2).to(dtype)
    picture = av.VideoFrame(width, height, "yuv420p")
    to_frame(tensor, picture, colour, (-1.0, 1.0), path=path)
    levels = (tensor.float().clamp(-1, 1).numpy() + 1) * np.float32(127.5)
    for plane, expected in zip(planes_of(picture), rgb_to_yuv(levels, colour), strict=True):
        # Half a level is rounding; the rest is float32 summed in another order.
        np.testing.assert_allclose(plane, expected, rtol=0, atol=0.501)


def test_not_a_number_and_infinities_become_black_and_white(path: str) -> None:
    values = [float("nan"), float("-inf"), float("inf"), 2.0]
    picture = av.VideoFrame(64, 2, "yuv420p")
    for value, expected in zip(values, [16, 16, 235, 235], strict=True):
        to_frame(torch.full((3, 2, 64), value), picture, LIMITED_709, (0.0, 1.0), path=path)
        y, u, v = planes_of(picture)
        assert (y == expected).all()
        assert (u == 128).all()
        assert (v == 128).all()


def test_padding_behind_the_rows_is_left_alone(path: str) -> None:
    picture = av.VideoFrame(33, 17, "yuv420p")
    rows = [np.frombuffer(p, np.uint8).reshape(-1, p.line_size) for p in picture.planes]
    for row in rows:
        row[:] = 77
    to_frame(torch.zeros(3, 17, 33), picture, LIMITED_709, (0.0, 1.0), path=path)
    for row, width in zip(rows, (33, 17, 17), strict=True):
        assert (row[:, width:] == 77).all()


def test_there_and_back_keeps_a_smooth_picture(path: str) -> None:
    ramp = np.linspace(40, 200, 128, dtype=np.float32)
    y = np.broadcast_to(ramp, (128, 128)).astype(np.uint8)
    u = np.broadcast_to(ramp[::2, None], (64, 64)).astype(np.uint8)
    source = frame_of(Picture(y, u, u[::-1]), Colour(Matrix.BT601, True))
    tensor = torch.empty(3, 128, 128)
    to_tensor(source, tensor, Crop(0, 0, 128, 128), (0.0, 1.0), path=path)
    inside = ((tensor > 0.01) & (tensor < 0.99)).all(0).numpy()
    back = av.VideoFrame(128, 128, "yuv420p")
    to_frame(tensor, back, source.colour, (0.0, 1.0), path=path)
    difference = np.abs(planes_of(back)[0].astype(int) - y)
    assert difference[inside].max() <= 1


def test_paths_agree() -> None:
    frame = frame_of(noise(1280, 720), LIMITED_709)
    crop = cover_crop(1280, 720, 512, 512)
    results = []
    for name in PATHS[: PATHS.index(media.best_simd_path()) + 1]:
        out = torch.empty(3, 512, 512)
        to_tensor(frame, out, crop, (0.0, 255.0), path=name)
        results.append(out)
    for other in results[1:]:
        torch.testing.assert_close(other, results[0], rtol=0, atol=0.07)


def test_one_geometry_serves_several_threads() -> None:
    pictures = [noise(640, 360, seed) for seed in range(4)]
    crop = cover_crop(640, 360, 256, 256)
    outs = [torch.empty(3, 256, 256) for _ in pictures]

    def convert(index: int) -> None:
        frame = frame_of(pictures[index], LIMITED_709)
        for _ in range(20):
            to_tensor(frame, outs[index], crop, (0.0, 255.0))

    threads = [threading.Thread(target=convert, args=(index,)) for index in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for picture, out in zip(pictures, outs, strict=True):
        expected = yuv_to_rgb(picture, crop, (256, 256), LIMITED_709)
        np.testing.assert_allclose(out.numpy(), expected, rtol=0, atol=TOLERANCE_LEVELS)


@pytest.mark.parametrize(
    ("source", "scaled"),
    [((1280, 720), (910, 512)), ((720, 1280), (512, 910)), ((1920, 1080), (910, 512))],
)
def test_cover_crop_is_the_middle_of_the_scaled_picture(
    source: tuple[int, int], scaled: tuple[int, int]
) -> None:
    crop = cover_crop(*source, 512, 512)
    assert crop.x == pytest.approx((scaled[0] - 512) // 2 * source[0] / scaled[0])
    assert crop.y == pytest.approx((scaled[1] - 512) // 2 * source[1] / scaled[1])
    assert crop.width == pytest.approx(512 * source[0] / scaled[0])
    assert crop.height == pytest.approx(512 * source[1] / scaled[1])


@pytest.mark.parametrize("source", [(512, 512), (64, 64), (1024, 1024)])
def test_cover_crop_of_the_same_aspect_is_the_whole_picture(source: tuple[int, int]) -> None:
    assert cover_crop(*source, 512, 512) == Crop(0, 0, *source)


@pytest.mark.parametrize("source", [(513, 512), (512, 513), (3, 1000), (1000, 3), (1, 1), (511, 7)])
def test_cover_crop_never_leaves_the_picture(source: tuple[int, int]) -> None:
    crop = cover_crop(*source, 384, 704)
    out = torch.empty(3, 704, 384)
    to_tensor(frame_of(noise(*source), LIMITED_709), out, crop, (0.0, 1.0))


@pytest.mark.parametrize(
    "tensor",
    [
        torch.empty(4, 8, 8),
        torch.empty(3, 8, 8, dtype=torch.float64),
        torch.empty(3, 8, 8, dtype=torch.uint8),
        torch.empty(3, 8, 16)[:, :, ::2],
        torch.empty(1, 3, 8, 8),
        torch.empty(3, 0, 8),
    ],
)
def test_tensors_of_another_kind_are_refused(tensor: torch.Tensor) -> None:
    frame = frame_of(noise(8, 8), LIMITED_709)
    with pytest.raises(InvalidArgument):
        to_tensor(frame, tensor, Crop(0, 0, 8, 8), (0.0, 1.0))
    with pytest.raises(InvalidArgument):
        to_frame(tensor, frame.picture, LIMITED_709, (0.0, 1.0))


@pytest.mark.parametrize(
    "crop", [Crop(0, 0, 9, 8), Crop(-1, 0, 4, 4), Crop(0, 0, 0, 4), Crop(0, float("nan"), 4, 4)]
)
def test_crops_outside_the_picture_are_refused(crop: Crop) -> None:
    with pytest.raises(InvalidArgument, match="crop must be"):
        to_tensor(frame_of(noise(8, 8), LIMITED_709), torch.empty(3, 8, 8), crop, (0.0, 1.0))


def test_other_pixel_formats_and_sizes_are_refused() -> None:
    tensor = torch.empty(3, 8, 8)
    other = av.VideoFrame(8, 8, "rgb24")
    with pytest.raises(InvalidArgument, match="rgb24"):
        to_tensor(Frame(other, 0, LIMITED_709), tensor, Crop(0, 0, 8, 8), (0.0, 1.0))
    with pytest.raises(InvalidArgument, match="rgb24"):
        to_frame(tensor, other, LIMITED_709, (0.0, 1.0))
    with pytest.raises(InvalidArgument, match="picture must be 8x8"):
        to_frame(tensor, av.VideoFrame(16, 8, "yuv420p"), LIMITED_709, (0.0, 1.0))


def test_short_planes_are_refused_before_they_are_read() -> None:
    converter = media.YuvToRgb((64, 64), (0.0, 0.0, 64.0, 64.0), (8, 8), 1, False, (0.0, 1.0))
    out = torch.empty(3, 8, 8)
    whole, half = bytes(64 * 64), bytes(32 * 32)
    with pytest.raises(InvalidArgument, match="plane y"):
        converter.convert_i420(whole[1:], half, half, (64, 32, 32), out)
    with pytest.raises(InvalidArgument, match="plane v"):
        converter.convert_i420(whole, half, half, (64, 32, 33), out)
    with pytest.raises(InvalidArgument, match="plane uv"):
        converter.convert_nv12(whole, half, (64, 64), out)
    with pytest.raises(InvalidArgument, match="plane u"):
        converter.convert_i420(whole, half, half, (64, -32, 32), out)


def test_unknown_paths_are_refused() -> None:
    frame = frame_of(noise(8, 8), LIMITED_709)
    with pytest.raises((InvalidArgument, NotBuilt), match="path must be"):
        to_tensor(frame, torch.empty(3, 8, 8), Crop(0, 0, 8, 8), (0.0, 1.0), path="mmx")
