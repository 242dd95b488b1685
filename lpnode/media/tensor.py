"""Decoded pictures to tensors and back, on the host."""

from dataclasses import dataclass

import av
import numpy as np
import torch

from lpnode.media.frame import Colour, Frame, Matrix


@dataclass(frozen=True, slots=True)
class Crop:
    """A rectangle of the source, in its pixels."""

    x: float
    y: float
    width: float
    height: float


def cover_crop(src_w: int, src_h: int, dst_w: int, dst_h: int) -> Crop:
    """The part of the source that fills the target without changing the aspect ratio.

    Source: live.md section 4.2.
    """
    scale = max(dst_w / src_w, dst_h / src_h)
    scaled_w = max(dst_w, int(src_w * scale) // 2 * 2)
    scaled_h = max(dst_h, int(src_h * scale) // 2 * 2)
    width, height = dst_w * src_w / scaled_w, dst_h * src_h / scaled_h
    return Crop((src_w - width) / 2, (src_h - height) / 2, width, height)


def to_tensor(
    frame: Frame, out: torch.Tensor, crop: Crop, value_range: tuple[float, float]
) -> None:
    """Writes the cropped picture into ``out``, (3, H, W) RGB, resized bilinearly."""
    rgb = frame.picture.to_ndarray(format="rgb24", src_colorspace=frame.colour.matrix)
    x, y = round(crop.x), round(crop.y)
    part = rgb[y : y + round(crop.height), x : x + round(crop.width)]
    planes = torch.from_numpy(np.ascontiguousarray(part)).permute(2, 0, 1).float().div_(255)
    size = (out.shape[1], out.shape[2])
    resized = torch.nn.functional.interpolate(planes[None], size, mode="bilinear")[0]
    low, high = value_range
    out.copy_(resized.mul_(high - low).add_(low))


def to_frame(
    tensor: torch.Tensor,
    picture: av.VideoFrame,
    colour: Colour,
    value_range: tuple[float, float],
) -> None:
    """Writes ``tensor``, (3, H, W) RGB, into the planes of ``picture`` (yuv420p, same size)."""
    low, high = value_range
    red, green, blue = tensor.float().sub(low).div(high - low).clamp_(0, 1)
    kr, kb = (0.2126, 0.0722) if colour.matrix is Matrix.BT709 else (0.299, 0.114)
    luma = kr * red + (1 - kr - kb) * green + kb * blue
    scale, offset, swing = (255.0, 0.0, 255.0) if colour.is_full_range else (219.0, 16.0, 224.0)
    planes = [luma * scale + offset]
    for channel, k in ((blue, kb), (red, kr)):
        chroma = (channel - luma) / (2 * (1 - k)) * swing + 128
        pooled = torch.nn.functional.avg_pool2d(chroma[None], 2, ceil_mode=True)
        planes.append(pooled[0])
    for plane, values in zip(picture.planes, planes, strict=True):
        pixels = values.round_().clamp_(0, 255).to(torch.uint8).numpy()
        rows = np.frombuffer(memoryview(plane), np.uint8).reshape(plane.height, plane.line_size)
        rows[:, : plane.width] = pixels
