"""Conversions and copies of frames on a CUDA device, against the bandwidth that bounds them.

Questions: how far are the kernels (float16, to and from 512x512) from the time that their bytes
take at the measured bandwidth of device memory; how far is the upload from that of the bus; and
what does a frame cost from page-locked planes to page-locked planes, by the host's clock and in
time the host is kept busy. The goal is 10 µs a kernel on an H200.
"""

import time

import av
import numpy as np
import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture

from lpnode.media.crop import Crop, cover_crop
from lpnode.media.device_picture import (
    DeviceInput,
    DeviceOutput,
    Geometry,
    PlaneLayout,
    page_locked_picture,
)
from lpnode.media.frame import Colour, Frame, Matrix
from lpnode.media.tensor import to_frame, to_tensor

from .conftest import NUM_SAMPLES, NUM_WARM_UPS, DeviceClock, Figures

pytestmark = pytest.mark.gpu

COLOUR = Colour(Matrix.BT709, False)
SIGNED = (-1.0, 1.0)
SIDE = 512
SOURCES = {"720p": (1280, 720), "1080p": (1920, 1080)}
DEVICE = torch.device("cuda", 0)


def noisy_frame(width: int, height: int, *, is_nv12: bool) -> Frame:
    """A picture of noise in page-locked memory, the same on every run."""
    picture = page_locked_picture(PlaneLayout(width, height, is_nv12))
    random = np.random.default_rng(5)
    for plane in picture.planes:
        bytes_ = np.frombuffer(plane, np.uint8)
        bytes_[:] = random.integers(16, 236, bytes_.size, np.uint8)
    return Frame(picture, 0, COLOUR)


def new_tensor() -> torch.Tensor:
    return torch.zeros(3, SIDE, SIDE, dtype=torch.float16, device=DEVICE)


def crop_of(frame: Frame) -> Crop:
    return cover_crop(frame.width, frame.height, SIDE, SIDE)


def expected_tensor(frame: Frame) -> torch.Tensor:
    """What the host's conversion makes of it, itself tested against NumPy."""
    out = torch.empty(3, SIDE, SIDE)
    to_tensor(frame, out, crop_of(frame), SIGNED)
    return out


def assert_is_tensor_of(frame: Frame, tensor: torch.Tensor) -> None:
    # The host's fixed point and half a step of float16, in units of -1..1.
    torch.testing.assert_close(tensor.float().cpu(), expected_tensor(frame), rtol=0, atol=2e-3)


def assert_is_picture_of(tensor: torch.Tensor, picture: av.VideoFrame) -> None:
    expected = av.VideoFrame(SIDE, SIDE, "yuv420p")
    to_frame(tensor.cpu(), expected, COLOUR, SIGNED)
    if picture.format.name == "nv12":
        picture = picture.reformat(format="yuv420p")
    for ours, theirs in zip(picture.planes, expected.planes, strict=True):
        rows = [
            np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)[:, : theirs.width]
            for plane in (ours, theirs)
        ]
        assert np.abs(rows[0].astype(int) - rows[1]).max() <= 1


def note(benchmark: BenchmarkFixture, name: str, figures: Figures) -> None:
    benchmark.extra_info[f"{name}_p50_us"] = figures.p50_us
    benchmark.extra_info[f"{name}_p99_us"] = figures.p99_us


@pytest.mark.parametrize("pixel_format", ["yuv420p", "nv12"])
@pytest.mark.parametrize("source", SOURCES)
def bench_picture_to_tensor(
    benchmark: BenchmarkFixture,
    clock: DeviceClock,
    memory_bytes_per_us: float,
    source: str,
    pixel_format: str,
) -> None:
    benchmark.group = f"{source} on the device to (3, 512, 512) float16"
    frame = noisy_frame(*SOURCES[source], is_nv12=pixel_format == "nv12")
    crop = crop_of(frame)
    conversion = DeviceInput(Geometry.of(frame), crop, SIGNED, DEVICE)
    conversion.upload(frame)
    tensor = new_tensor()

    def convert() -> None:
        conversion.enqueue(tensor)

    note(benchmark, "cold", clock.time(convert))
    note(benchmark, "warm", clock.time(convert, is_cold=False))
    num_bytes = 1.5 * crop.width * crop.height + tensor.numel() * tensor.element_size()
    benchmark.extra_info["floor_us"] = round(num_bytes / memory_bytes_per_us, 2)
    benchmark(convert)
    torch.cuda.synchronize()
    assert_is_tensor_of(frame, tensor)


@pytest.mark.parametrize("pixel_format", ["yuv420p", "nv12"])
def bench_tensor_to_picture(
    benchmark: BenchmarkFixture,
    clock: DeviceClock,
    memory_bytes_per_us: float,
    pixel_format: str,
) -> None:
    benchmark.group = "(3, 512, 512) float16 to a picture on the device"
    generator = torch.Generator().manual_seed(6)
    tensor = (torch.rand(3, SIDE, SIDE, generator=generator) * 2 - 1).to(DEVICE, torch.float16)
    is_nv12 = pixel_format == "nv12"
    conversion = DeviceOutput(SIDE, SIDE, COLOUR, SIGNED, DEVICE, is_nv12=is_nv12)

    def convert() -> None:
        conversion.enqueue(tensor)

    note(benchmark, "cold", clock.time(convert))
    note(benchmark, "warm", clock.time(convert, is_cold=False))
    num_bytes = 1.5 * SIDE * SIDE + tensor.numel() * tensor.element_size()
    benchmark.extra_info["floor_us"] = round(num_bytes / memory_bytes_per_us, 2)
    benchmark(convert)
    picture = page_locked_picture(PlaneLayout(SIDE, SIDE, is_nv12))
    conversion.download(picture)
    torch.cuda.synchronize()
    assert_is_picture_of(tensor, picture)


@pytest.mark.parametrize("memory", ["page-locked", "pageable"])
@pytest.mark.parametrize("source", SOURCES)
def bench_upload(
    benchmark: BenchmarkFixture,
    clock: DeviceClock,
    bus_bytes_per_us: float,
    source: str,
    memory: str,
) -> None:
    benchmark.group = f"{source} I420 to the device"
    width, height = SOURCES[source]
    frame = noisy_frame(width, height, is_nv12=False)
    if memory == "pageable":
        own = av.VideoFrame(width, height, "yuv420p")
        for plane, values in zip(own.planes, frame.picture.planes, strict=True):
            rows = np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)
            given = np.frombuffer(values, np.uint8).reshape(-1, values.line_size)
            rows[:, : plane.width] = given[:, : plane.width]
        frame = Frame(own, 0, COLOUR)
    conversion = DeviceInput(Geometry.of(frame), crop_of(frame), SIGNED, DEVICE)

    def upload() -> None:
        conversion.upload(frame)

    note(benchmark, "event", clock.time(upload, is_cold=False))
    benchmark.extra_info["floor_us"] = round(1.5 * width * height / bus_bytes_per_us, 2)
    benchmark(upload)
    tensor = new_tensor()
    conversion.enqueue(tensor)
    torch.cuda.synchronize()
    assert_is_tensor_of(frame, tensor)


@pytest.mark.parametrize("way", ["launches", "graph"])
@pytest.mark.parametrize("source", SOURCES)
def bench_round_trip(benchmark: BenchmarkFixture, source: str, way: str) -> None:
    """A frame in and out with nothing between: what every frame pays besides its model."""
    benchmark.group = f"{source} page-locked to 512x512 page-locked, and the host waits"
    frame = noisy_frame(*SOURCES[source], is_nv12=False)
    picture = page_locked_picture(PlaneLayout(SIDE, SIDE))
    tensor = new_tensor()
    busy_us: list[float] = []
    wall_us: list[float] = []
    stream = torch.cuda.Stream(DEVICE)
    with torch.cuda.stream(stream):
        inward = DeviceInput(Geometry.of(frame), crop_of(frame), SIGNED, DEVICE)
        outward = DeviceOutput(SIDE, SIDE, COLOUR, SIGNED, DEVICE)
        done = torch.cuda.Event()

        def convert() -> None:
            inward.enqueue(tensor)
            outward.enqueue(tensor)

        if way == "graph":
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph, stream=stream):
                convert()
            convert = graph.replay

        def trip() -> None:
            begun_s = time.perf_counter()
            inward.upload(frame)
            convert()
            outward.download(picture)
            done.record(stream)
            enqueued_s = time.perf_counter()
            done.synchronize()
            busy_us.append(1e6 * (enqueued_s - begun_s))
            wall_us.append(1e6 * (time.perf_counter() - begun_s))

        for _ in range(NUM_WARM_UPS + NUM_SAMPLES):
            trip()
        note(benchmark, "host_busy", Figures.of(busy_us[NUM_WARM_UPS:]))
        note(benchmark, "wall", Figures.of(wall_us[NUM_WARM_UPS:]))
        benchmark(trip)
        assert_is_tensor_of(frame, tensor)
        assert_is_picture_of(tensor, picture)
