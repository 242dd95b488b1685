"""The CUDA conversions against float32 NumPy, and what a build without them says."""

import av
import numpy as np
import pytest
import torch
from media.colour_reference import noise, rgb_to_yuv, yuv_to_rgb

from lpnode._native import media
from lpnode.errors import InvalidArgument, NotBuilt
from lpnode.media.frame import Colour, Frame, Matrix
from lpnode.media.tensor import cover_crop, to_frame, to_tensor

LIMITED_709 = Colour(Matrix.BT709, False)

# float32 arithmetic with float32 positions, then half a step of the element below 1.0.
TOLERANCE_LEVELS = {
    torch.float32: 0.05,
    torch.float16: 0.05 + 255 * 2**-12,
    torch.bfloat16: 0.05 + 255 * 2**-9,
}


def frame_of(width: int, height: int, pixel_format: str, colour: Colour) -> Frame:
    picture = noise(width, height)
    planes = [picture.y, picture.u, picture.v]
    if pixel_format == "nv12":
        chroma = np.stack([picture.u, picture.v], axis=2)
        planes = [picture.y, chroma.reshape(chroma.shape[0], -1)]
    target = av.VideoFrame(width, height, pixel_format)
    for plane, values in zip(target.planes, planes, strict=True):
        rows = np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)
        rows[: values.shape[0], : values.shape[1]] = values
    return Frame(target, 0, colour)


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", TOLERANCE_LEVELS)
@pytest.mark.parametrize("pixel_format", ["yuv420p", "nv12"])
@pytest.mark.parametrize(
    ("source", "target"), [((1280, 720), (512, 512)), ((321, 243), (129, 67)), ((5, 3), (33, 17))]
)
@pytest.mark.parametrize("colour", [LIMITED_709, Colour(Matrix.BT601, True)])
def test_device_tensor_is_the_resized_picture(
    source: tuple[int, int],
    target: tuple[int, int],
    pixel_format: str,
    dtype: torch.dtype,
    colour: Colour,
) -> None:
    crop = cover_crop(*source, *target)
    out = torch.empty(3, target[1], target[0], dtype=dtype, device="cuda")
    to_tensor(frame_of(*source, pixel_format, colour), out, crop, (0.0, 1.0))
    expected = yuv_to_rgb(noise(*source), crop, target, colour)
    levels = out.float().cpu().numpy() * 255
    np.testing.assert_allclose(levels, expected, rtol=0, atol=TOLERANCE_LEVELS[dtype])


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", TOLERANCE_LEVELS)
@pytest.mark.parametrize("size", [(512, 512), (33, 17), (1, 1)])
@pytest.mark.parametrize("colour", [LIMITED_709, Colour(Matrix.BT601, True)])
def test_picture_is_the_device_tensor(
    size: tuple[int, int], dtype: torch.dtype, colour: Colour
) -> None:
    width, height = size
    generator = torch.Generator().manual_seed(3)
    tensor = (torch.rand(3, height, width, generator=generator) * 2.4 - 1.2).to("cuda", dtype)
    picture = av.VideoFrame(width, height, "yuv420p")
    to_frame(tensor, picture, colour, (-1.0, 1.0))
    levels = (tensor.float().cpu().clamp(-1, 1).numpy() + 1) * np.float32(127.5)
    for plane, expected in zip(picture.planes, rgb_to_yuv(levels, colour), strict=True):
        rows = np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)
        written = rows[: expected.shape[0], : expected.shape[1]]
        np.testing.assert_allclose(written, expected, rtol=0, atol=0.501)


@pytest.mark.skipif(media.has_device_convert(), reason="this build has the CUDA kernels")
def test_a_build_without_cuda_says_how_to_get_it() -> None:
    with pytest.raises(NotBuilt, match="configure with LPNODE_CUDA=ON"):
        media.require_device_convert()
    plane = torch.zeros(2, 2, dtype=torch.uint8)
    with pytest.raises(NotBuilt, match="configure with LPNODE_CUDA=ON"):
        media.DevicePicture(2, 2, plane, plane[:1], None)


@pytest.mark.skipif(not media.has_device_convert(), reason="this build has no CUDA kernels")
def test_planes_in_host_memory_are_no_device_picture() -> None:
    plane = torch.zeros(2, 2, dtype=torch.uint8)
    with pytest.raises(InvalidArgument, match="plane y must be on a CUDA device"):
        media.DevicePicture(2, 2, plane, plane[:1], None)
