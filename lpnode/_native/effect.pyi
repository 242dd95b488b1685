from typing import Any


def edge_style(frame: Any, out: Any, *, strength: float, threshold: float, softness: float, levels: int, tint: tuple[float, float, float], ink: tuple[float, float, float]) -> None:
    """
    Draws `frame` (3, H, W) float32, 0..1, into `out` of the same shape: flat areas of `levels` values a colour multiplied by `tint`, lines of `ink` where the luma gradient passes `threshold` and solid from `threshold + softness`; `strength` mixes that with the picture.
    """

def edge_style_path() -> str:
    """The instruction set edge_style uses on this machine: avx2 or portable."""
