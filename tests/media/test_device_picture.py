"""Pictures in memory of our own: layouts, page-locked and device planes, and what fits where."""

import gc

import av
import numpy as np
import pytest
import torch
from media.colour_reference import noise

from lpnode.errors import InvalidArgument
from lpnode.media.crop import Crop
from lpnode.media.device_picture import (
    DeviceInput,
    DeviceOutput,
    Geometry,
    PlaneLayout,
    copy_planes,
    device_picture,
    page_locked_copy,
    page_locked_picture,
    picture_in,
)
from lpnode.media.encoder import EncoderConfig, VideoEncoder
from lpnode.media.frame import Colour, Frame, Matrix
from lpnode.media.tensor import to_frame, to_tensor

COLOUR = Colour(Matrix.BT601, False)


def host_picture(width: int, height: int, pixel_format: str = "yuv420p") -> av.VideoFrame:
    made = noise(width, height)
    planes = [made.y, made.u, made.v]
    if pixel_format == "nv12":
        chroma = np.stack([made.u, made.v], axis=2)
        planes = [made.y, chroma.reshape(chroma.shape[0], -1)]
    picture = av.VideoFrame(width, height, pixel_format)
    for plane, values in zip(picture.planes, planes, strict=True):
        rows = np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)
        rows[: values.shape[0], : values.shape[1]] = values
    return picture


def pixels(picture: av.VideoFrame) -> list[bytes]:
    """The planes without padding."""
    width = (picture.width + 1) // 2 * (2 if len(picture.planes) == 2 else 1)
    sizes = [(picture.height, picture.width)]
    sizes += [((picture.height + 1) // 2, width)] * (len(picture.planes) - 1)
    return [
        np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)[: size[0], : size[1]].tobytes()
        for plane, size in zip(picture.planes, sizes, strict=True)
    ]


@pytest.mark.parametrize("is_nv12", [False, True])
@pytest.mark.parametrize("size", [(1280, 720), (512, 512), (34, 18), (33, 17), (1, 1)])
def test_planes_fill_a_block_without_overlapping(size: tuple[int, int], is_nv12: bool) -> None:
    layout = PlaneLayout(*size, is_nv12)
    block = torch.zeros(layout.num_bytes, dtype=torch.uint8)
    planes = layout.planes(block)
    for plane in planes:
        plane += 1
    half = ((size[1] + 1) // 2, (size[0] + 1) // 2)
    chroma = [(half[0], 2 * half[1])] if is_nv12 else [half, half]
    assert [tuple(plane.shape) for plane in planes] == [(size[1], size[0]), *chroma]
    assert block.max() == 1
    assert int(block.sum()) == sum(plane.numel() for plane in planes)


def test_a_plane_begins_where_the_one_before_ends() -> None:
    block = torch.zeros(PlaneLayout(64, 4).num_bytes, dtype=torch.uint8)
    y, u, v = PlaneLayout(64, 4).planes(block)
    # Chroma rows are padded to a pitch of 64 bytes.
    offsets = [plane.data_ptr() - block.data_ptr() for plane in (y, u, v)]
    assert offsets == [0, 64 * 4, 64 * 4 + 64 * 2]


@pytest.mark.parametrize("pixel_format", ["yuv420p", "nv12"])
@pytest.mark.parametrize("size", [(128, 64), (98, 34)])
def test_a_picture_in_a_block_is_that_memory(size: tuple[int, int], pixel_format: str) -> None:
    layout = PlaneLayout(*size, pixel_format == "nv12")
    block = torch.zeros(layout.num_bytes, dtype=torch.uint8)
    picture = picture_in(block, layout)
    assert (picture.width, picture.height, picture.format.name) == (*size, pixel_format)
    original = host_picture(*size, pixel_format)
    copy_planes(original, layout.planes(block))
    del block
    gc.collect()
    assert pixels(picture) == pixels(original)


def test_a_picture_of_odd_size_has_memory_of_ffmpeg_only() -> None:
    layout = PlaneLayout(33, 18)
    with pytest.raises(InvalidArgument, match="sizes must be even, got 33x18"):
        picture_in(torch.zeros(layout.num_bytes, dtype=torch.uint8), layout)


def test_the_encoder_makes_the_same_of_a_picture_in_a_block() -> None:
    layout = PlaneLayout(98, 66)
    block = torch.zeros(layout.num_bytes, dtype=torch.uint8)
    original = host_picture(98, 66)
    copy_planes(original, layout.planes(block))
    packets = [
        bytes(
            VideoEncoder(EncoderConfig(width=98, height=66)).encode(picture, 0, COLOUR)[0].payload
        )
        for picture in (original, picture_in(block, layout))
    ]
    assert packets[0] == packets[1]


def test_conversions_read_and_write_pictures_in_blocks() -> None:
    layout = PlaneLayout(98, 66)
    picture = picture_in(torch.zeros(layout.num_bytes, dtype=torch.uint8), layout)
    usual = av.VideoFrame(98, 66, "yuv420p")
    tensor = torch.rand(3, 66, 98, generator=torch.Generator().manual_seed(1))
    back = [torch.empty_like(tensor), torch.empty_like(tensor)]
    for target, out in zip((picture, usual), back, strict=True):
        to_frame(tensor, target, COLOUR, (0.0, 1.0))
        to_tensor(Frame(target, 0, COLOUR), out, Crop(0, 0, 98, 66), (0.0, 1.0))
    assert pixels(picture) == pixels(usual)
    assert torch.equal(*back)


def test_a_geometry_is_that_of_420_pictures_alone() -> None:
    frame = Frame(host_picture(16, 8, "nv12"), 0, COLOUR)
    assert Geometry.of(frame) == Geometry(PlaneLayout(16, 8, True), COLOUR)
    with pytest.raises(InvalidArgument, match="got yuv444p"):
        Geometry.of(Frame(av.VideoFrame(16, 8, "yuv444p"), 0, COLOUR))


DEVICE = torch.device("cuda", 0)


@pytest.mark.gpu
@pytest.mark.parametrize("pixel_format", ["yuv420p", "nv12"])
def test_a_page_locked_copy_has_the_pixels(pixel_format: str) -> None:
    original = host_picture(98, 66, pixel_format)
    copy = page_locked_copy(original)
    assert pixels(copy) == pixels(original)
    assert torch.frombuffer(copy.planes[1], dtype=torch.uint8).is_pinned()


@pytest.mark.gpu
@pytest.mark.parametrize("pixel_format", ["yuv420p", "nv12"])
@pytest.mark.parametrize("size", [(1280, 720), (98, 66), (33, 17)])
def test_every_kind_of_memory_gives_the_same_tensor(
    size: tuple[int, int], pixel_format: str
) -> None:
    pictures = [host_picture(*size, pixel_format)]
    if size[0] % 2 == 0:
        pictures.append(page_locked_copy(pictures[0]))
        if pixel_format == "nv12":
            layout = PlaneLayout(*size, True)
            block = torch.zeros(layout.num_bytes, dtype=torch.uint8)
            copy_planes(pictures[0], layout.planes(block))
            pictures.append(picture_in(block.to(DEVICE), layout))
    outs = []
    for picture in pictures:
        outs.append(torch.empty(3, 64, 64, device=DEVICE, dtype=torch.float16))
        to_tensor(Frame(picture, 0, COLOUR), outs[-1], Crop(0, 0, *size), (-1.0, 1.0))
    for out in outs[1:]:
        assert torch.equal(out, outs[0])


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("size", [(512, 512), (98, 66)])
def test_nv12_for_nvenc_is_i420_for_x264(size: tuple[int, int], dtype: torch.dtype) -> None:
    width, height = size
    tensor = torch.rand(3, height, width, device=DEVICE).to(dtype)
    layout = PlaneLayout(width, height, True)
    targets = [
        av.VideoFrame(width, height, "yuv420p"),
        page_locked_picture(PlaneLayout(width, height)),
        device_picture(layout, DEVICE),
    ]
    for target in targets:
        to_frame(tensor, target, COLOUR, (0.0, 1.0))
    read_back = targets[2].reformat(format="yuv420p")
    assert pixels(targets[0]) == pixels(targets[1]) == pixels(read_back)


@pytest.mark.gpu
def test_both_conversions_replay_in_one_graph_without_allocating() -> None:
    first, second = (Frame(page_locked_copy(host_picture(1280, 720)), 0, COLOUR) for _ in range(2))
    plane = np.frombuffer(second.picture.planes[0], np.uint8)
    plane[:] = plane[::-1].copy()
    crop = Crop(280, 0, 720, 720)
    tensor = torch.empty(3, 512, 512, device=DEVICE, dtype=torch.float16)
    picture = page_locked_picture(PlaneLayout(512, 512))
    stream = torch.cuda.Stream(DEVICE)
    with torch.cuda.stream(stream):
        inward = DeviceInput(Geometry.of(first), crop, (-1.0, 1.0), DEVICE)
        outward = DeviceOutput(512, 512, COLOUR, (-1.0, 1.0), DEVICE)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, stream=stream):
            inward.enqueue(tensor)
            outward.enqueue(tensor)
        stream.synchronize()
        done = torch.cuda.Event()
        for frame in (first, second):
            inward.upload(frame)
            graph.replay()
            outward.download(picture)
            done.record(stream)
            done.synchronize()
            expected = torch.empty(3, 512, 512)
            to_tensor(Frame(frame.picture, 0, COLOUR), expected, crop, (-1.0, 1.0))
            # The host's fixed point, half a step of float16 below 1.0, in units of -1..1.
            torch.testing.assert_close(tensor.float().cpu(), expected, rtol=0, atol=2e-3)
            usual = av.VideoFrame(512, 512, "yuv420p")
            to_frame(tensor, usual, COLOUR, (-1.0, 1.0))
            assert pixels(picture) == pixels(usual)
        num_allocations = torch.cuda.memory_stats(DEVICE)["allocation.all.allocated"]
        for frame in (first, second):
            inward.upload(frame)
            graph.replay()
            outward.download(picture)
        stream.synchronize()
        assert torch.cuda.memory_stats(DEVICE)["allocation.all.allocated"] == num_allocations
