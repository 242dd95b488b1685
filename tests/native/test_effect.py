"""The edge-style effect against the same drawing in NumPy."""

from typing import Any

import numpy as np
import pytest
import torch

from lpnode._native import effect
from lpnode.errors import InvalidArgument

STYLE: dict[str, Any] = {
    "strength": 0.75,
    "threshold": 0.1,
    "softness": 0.3,
    "levels": 5,
    "tint": (1.0, 0.9, 0.6),
    "ink": (0.1, 0.0, 0.3),
}


def drawn(frame: np.ndarray, style: dict[str, Any]) -> np.ndarray:
    frame = frame.clip(0, 1)
    luma = 0.299 * frame[0] + 0.587 * frame[1] + 0.114 * frame[2]
    p = np.pad(luma, 1, mode="edge")
    rows, columns = p[:-2] + 2 * p[1:-1] + p[2:], p[:, :-2] + 2 * p[:, 1:-1] + p[:, 2:]
    gradient = np.hypot(rows[:, 2:] - rows[:, :-2], columns[2:] - columns[:-2]) / 4
    lines = ((gradient - style["threshold"]) / style["softness"]).clip(0, 1)
    steps = style["levels"] - 1
    tint, ink = (np.array(style[name])[:, None, None] for name in ("tint", "ink"))
    flat = np.floor(frame * steps + 0.5) / steps * tint
    return frame + style["strength"] * (flat + lines * (ink - flat) - frame)


def frame_away_from_steps(height: int, width: int) -> torch.Tensor:
    """Random values, none near the middle between two levels, where rounding may go either way."""
    generator = torch.Generator().manual_seed(5)
    level = torch.randint(0, 5, (3, height, width), generator=generator)
    return (level + torch.rand(3, height, width, generator=generator) * 0.8 - 0.4) / 4


@pytest.mark.parametrize("size", [(512, 512), (1, 1), (1, 9), (9, 1), (37, 61), (2, 130)])
def test_drawing_is_the_one_that_the_formula_gives(size: tuple[int, int]) -> None:
    frame = frame_away_from_steps(*size)
    out = torch.full_like(frame, 9)
    effect.edge_style(frame, out, **STYLE)
    np.testing.assert_allclose(out.numpy(), drawn(frame.numpy(), STYLE), rtol=0, atol=2e-6)


def test_strength_zero_leaves_the_picture() -> None:
    frame = torch.rand(3, 31, 45)
    out = torch.empty_like(frame)
    effect.edge_style(frame, out, **STYLE | {"strength": 0.0})
    assert torch.equal(out, frame)


def test_a_step_between_black_and_white_gets_a_solid_line() -> None:
    frame = torch.zeros(3, 16, 16)
    frame[:, :, 8:] = 1
    out = torch.empty_like(frame)
    effect.edge_style(
        frame, out, **STYLE | {"strength": 1.0, "threshold": 0.5, "softness": 0.5, "ink": (1, 0, 0)}
    )
    ink = torch.tensor([1.0, 0.0, 0.0])
    assert torch.allclose(out[:, 4, 7], ink)
    assert torch.allclose(out[:, 4, 8], ink)
    assert (out[:, 4, 6] == 0).all()


def test_not_a_number_is_drawn_as_black() -> None:
    frame = torch.full((3, 4, 4), float("nan"))
    out = torch.empty_like(frame)
    effect.edge_style(frame, out, **STYLE)
    assert (out == 0).all()


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"strength": 1.5}, "strength"),
        ({"threshold": float("nan")}, "threshold"),
        ({"softness": 0.0}, "softness"),
        ({"levels": 1}, "levels"),
        ({"tint": (0.0, 2.0, 0.0)}, "green"),
        ({"ink": (0.0, 0.0, -1.0)}, "blue"),
    ],
)
def test_a_style_out_of_range_is_refused_by_name(change: dict[str, Any], named: str) -> None:
    frame = torch.zeros(3, 4, 4)
    with pytest.raises(InvalidArgument, match=named):
        effect.edge_style(frame, torch.empty_like(frame), **STYLE | change)


def test_frames_that_do_not_fit_are_refused() -> None:
    frame = torch.zeros(3, 4, 4)
    with pytest.raises(InvalidArgument, match="overlap"):
        effect.edge_style(frame, frame, **STYLE)
    with pytest.raises(InvalidArgument, match="same shape"):
        effect.edge_style(frame, torch.zeros(3, 4, 5), **STYLE)
    with pytest.raises(InvalidArgument, match="4096"):
        effect.edge_style(torch.zeros(3, 1, 5000), torch.zeros(3, 1, 5000), **STYLE)
    with pytest.raises(TypeError):
        effect.edge_style(frame.half(), torch.empty_like(frame), **STYLE)
