"""Which part of a picture becomes a tensor."""

from dataclasses import dataclass

from lpnode.errors import InvalidArgument


@dataclass(frozen=True, slots=True)
class Crop:
    """A rectangle of a picture, in its pixels; edges may fall between pixels."""

    x: float
    y: float
    width: float
    height: float


def cover_crop(src_w: int, src_h: int, dst_w: int, dst_h: int) -> Crop:
    """The part of a picture that fills the target when scaled to cover it, centred.

    The picture is thought scaled, keeping its aspect, until it covers the target; the dimension
    that is then too long is rounded down to even (but never below the target), and the middle is
    cut out. All in pixels.
    """
    if min(src_w, src_h, dst_w, dst_h) < 1:
        raise InvalidArgument(f"sizes must be positive, got {src_w}x{src_h} to {dst_w}x{dst_h}")
    scaled_w, scaled_h = dst_w, dst_h
    if src_w * dst_h > dst_w * src_h:
        scaled_w = max(src_w * dst_h // src_h // 2 * 2, dst_w)
    elif src_w * dst_h < dst_w * src_h:
        scaled_h = max(src_h * dst_w // src_w // 2 * 2, dst_h)
    left, top = (scaled_w - dst_w) // 2, (scaled_h - dst_h) // 2
    pixel_w, pixel_h = src_w / scaled_w, src_h / scaled_h
    return Crop(left * pixel_w, top * pixel_h, dst_w * pixel_w, dst_h * pixel_h)
