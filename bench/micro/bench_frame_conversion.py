"""Frame conversion against PyAV with torch: CPU time, one thread, rotating inputs.

In: 24 decoded pictures, as a codec's pool has them. Out: 4 tensors, as a pipeline reuses its
buffers.

"Usual in": ``to_ndarray(rgb24)``, float, ``F.interpolate``; "usual out": clamp, byte, HWC,
``from_ndarray`` and ``reformat``. Both give (3, 512, 512) in -1..1 and take it back to yuv420p.
"""

from collections.abc import Callable, Iterator
from itertools import cycle
from time import process_time

import av
import numpy as np
import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture

from lpnode._native import media
from lpnode.media.frame import Colour, Frame, Matrix
from lpnode.media.tensor import Crop, cover_crop, to_frame, to_tensor

COLOUR = Colour(Matrix.BT709, False)
SIGNED = (-1.0, 1.0)
SIZE = 512
CROPS = {"cover": cover_crop(1280, 720, SIZE, SIZE), "whole": Crop(0, 0, 1280, 720)}
PATHS = ["avx512", "avx2", "portable"]


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def pictures(width: int, height: int, count: int = 24) -> list[av.VideoFrame]:
    """Smooth moving colours: what differs in siting or filter between the two ways stays small."""
    x, y = np.meshgrid(np.linspace(0, 3, width), np.linspace(0, 2, height))
    made = []
    for number in range(count):
        rgb = np.stack([np.sin(x + number / 5), np.cos(y + number / 7), np.sin(x + y)], axis=2)
        frame = av.VideoFrame.from_ndarray((rgb * 100 + 128).astype(np.uint8), format="rgb24")
        made.append(frame.reformat(format="yuv420p", dst_colorspace="itu709"))
    return made


def skip_unless_runs(path: str) -> None:
    names = PATHS[::-1]
    if names.index(path) > names.index(media.best_simd_path()):
        pytest.skip(f"this machine does not run {path}")


def usual_in(picture: av.VideoFrame, crop: Crop, dtype: torch.dtype) -> torch.Tensor:
    rgb = picture.to_ndarray(format="rgb24", src_colorspace="itu709")
    left, top = round(crop.x), round(crop.y)
    rgb = rgb[top : top + round(crop.height), left : left + round(crop.width)]
    planes = torch.from_numpy(rgb).permute(2, 0, 1).float().div_(127.5).sub_(1)
    size = (SIZE, SIZE)
    resized = torch.nn.functional.interpolate(planes[None], size, mode="bilinear")[0]
    return resized.to(dtype)


def usual_out(tensor: torch.Tensor) -> av.VideoFrame:
    levels = tensor.float().add(1).mul_(127.5).clamp_(0, 255).byte()
    rgb = levels.permute(1, 2, 0).contiguous().numpy()
    picture = av.VideoFrame.from_ndarray(rgb, format="rgb24")
    return picture.reformat(format="yuv420p", dst_colorspace="itu709")


def luma(picture: av.VideoFrame) -> np.ndarray:
    plane = picture.planes[0]
    return np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)[:, : picture.width]


DTYPES = {"fp32": torch.float32, "fp16": torch.float16}


@pytest.mark.benchmark(timer=process_time)
@pytest.mark.parametrize("way", ["usual", *PATHS])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("crop", CROPS)
def bench_picture_to_tensor(benchmark: BenchmarkFixture, crop: str, dtype: str, way: str) -> None:
    benchmark.group = f"1280x720 ({crop}) to 512x512 {dtype} tensor"
    sources = pictures(1280, 720)
    next_picture = cycle(sources).__next__
    out = torch.empty(3, SIZE, SIZE, dtype=DTYPES[dtype])
    convert: Callable[[av.VideoFrame], torch.Tensor]
    if way == "usual":

        def convert(picture: av.VideoFrame) -> torch.Tensor:
            return usual_in(picture, CROPS[crop], DTYPES[dtype])
    else:
        skip_unless_runs(way)

        def convert(picture: av.VideoFrame) -> torch.Tensor:
            to_tensor(Frame(picture, 0, COLOUR), out, CROPS[crop], SIGNED, path=way)
            return out

    benchmark(lambda: convert(next_picture()))
    expected = usual_in(sources[3], CROPS[crop], torch.float32)
    # In 8-bit levels. swscale cuts fractions off and repeats chroma where we mix it.
    difference = (convert(sources[3]).float() - expected).abs() * 127.5
    assert difference.mean() < 1.5
    assert difference.max() < 6.0


@pytest.mark.benchmark(timer=process_time)
@pytest.mark.parametrize("way", ["usual", *PATHS])
@pytest.mark.parametrize("dtype", DTYPES)
def bench_tensor_to_picture(benchmark: BenchmarkFixture, dtype: str, way: str) -> None:
    benchmark.group = f"512x512 {dtype} tensor to picture"
    whole = Crop(0, 0, SIZE, SIZE)
    sources = [usual_in(p, whole, DTYPES[dtype]) for p in pictures(SIZE, SIZE, count=4)]
    next_tensor = cycle(sources).__next__
    target = av.VideoFrame(SIZE, SIZE, "yuv420p")
    convert: Callable[[torch.Tensor], av.VideoFrame]
    if way == "usual":
        convert = usual_out
    else:
        skip_unless_runs(way)

        def convert(tensor: torch.Tensor) -> av.VideoFrame:
            to_frame(tensor, target, COLOUR, SIGNED, path=way)
            return target

    benchmark(lambda: convert(next_tensor()))
    difference = np.abs(luma(convert(sources[3])).astype(int) - luma(usual_out(sources[3])))
    assert difference.mean() < 1.0
    assert difference.max() <= 3
