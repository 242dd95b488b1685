"""Mixtures of prompts and seeds. Vectors: streamdiffusion.md sections 15.2, 15.3 and 18."""

import pytest
import torch

from lpnode.errors import InvalidArgument
from lpnode.pipeline.stream_diffusion.blending import (
    Interpolation,
    blend_noise,
    blend_prompts,
    normalised,
    slerp,
)

LINEAR, SLERP = Interpolation.LINEAR, Interpolation.SLERP


def vector(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


FIRST, SECOND = vector(1, 0, 0, 0), vector(0, 2, 0, 0)


def test_slerp_gives_the_published_vector() -> None:
    expected = vector(0.92387953, 0.76536686, 0, 0)
    torch.testing.assert_close(slerp(FIRST, SECOND, 0.25), expected, rtol=0, atol=1e-8)


@pytest.mark.parametrize(("place", "expected"), [(0.0, FIRST), (1.0, SECOND), (-1.0, FIRST)])
def test_slerp_ends_exactly_at_its_ends(place: float, expected: torch.Tensor) -> None:
    assert torch.equal(slerp(FIRST, SECOND, place), expected)


def test_parallel_tensors_are_mixed_on_a_straight_line() -> None:
    torch.testing.assert_close(slerp(FIRST, 3 * FIRST, 0.5), 2 * FIRST)


def test_nothing_can_be_mixed_with_something_and_stays_a_number() -> None:
    assert slerp(torch.zeros(4), torch.ones(4), 0.5).isfinite().all()


def test_two_prompts_turn_and_three_are_added() -> None:
    assert torch.equal(
        blend_prompts([FIRST, SECOND], [0.75, 0.25], SLERP), slerp(FIRST, SECOND, 0.25)
    )
    mixed = blend_prompts([FIRST, SECOND, FIRST], [0.25, 0.5, 0.25], SLERP)
    torch.testing.assert_close(mixed, vector(0.5, 1.0, 0, 0))
    assert torch.equal(blend_prompts([FIRST], [1.0], SLERP), FIRST)


def test_mixed_noise_keeps_the_mean_norm_of_its_parts() -> None:
    first, second = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(3))
    mean = (first.norm() + second.norm()) / 2
    kept = blend_noise([first, second], [0.5, 0.5], LINEAR, keeps_norm=True)
    shrunk = blend_noise([first, second], [0.5, 0.5], LINEAR, keeps_norm=False)
    torch.testing.assert_close(kept.norm(), mean)
    assert shrunk.norm() < 0.8 * mean
    alone = blend_noise([first], [0.5], LINEAR, keeps_norm=True)
    torch.testing.assert_close(alone, 0.5 * first)


def test_two_seeds_can_turn_into_each_other() -> None:
    mixed = blend_noise([FIRST, SECOND], [0.75, 0.25], SLERP, keeps_norm=True)
    assert torch.equal(mixed, slerp(FIRST, SECOND, 0.25))


def test_weights_sum_to_one_afterwards() -> None:
    assert normalised([1, 3]) == [0.25, 0.75]
    with pytest.raises(InvalidArgument, match="positive sum"):
        normalised([0.0, 0.0])
