"""Grids and coefficients against the published table."""

import pytest

from lpnode.errors import InvalidArgument
from lpnode.pipeline.stream_diffusion.schedule import StepCoefficients, timestep_grid

# streamdiffusion.md section 18: k, τ, a, b, cskip, cout for N = 50.
PUBLISHED = [
    (0, 999, 0.06826491, 0.99766723, 2.505008e-09, 0.9999999987),
    (12, 759, 0.22850148, 0.97354356, 4.339667e-09, 0.9999999978),
    (16, 679, 0.30981273, 0.95079760, 5.422511e-09, 0.9999999973),
    (20, 599, 0.40218468, 0.91555856, 6.967651e-09, 0.9999999965),
    (32, 359, 0.70107086, 0.71309161, 1.939774e-08, 0.9999999903),
    (45, 99, 0.94628895, 0.32332217, 2.550759e-07, 0.9999998725),
]


@pytest.mark.parametrize("row", PUBLISHED, ids=lambda row: f"k={row[0]}")
def test_coefficients_are_the_published_ones(row: tuple[float, ...]) -> None:
    k = StepCoefficients.of([int(row[0])], 50, is_one_step_turbo=False)
    got = [float(part) for part in (k.timesteps, k.a, k.b, k.c_skip, k.c_out)]
    assert got == pytest.approx(row[1:], abs=1e-8)
    assert got[3] == pytest.approx(row[4], rel=1e-6)


def test_grids_are_the_published_ones() -> None:
    assert timestep_grid(50) == [999 - 20 * index for index in range(50)]
    assert timestep_grid(4) == [999, 759, 499, 259]
    assert timestep_grid(25)[:4] == [999, 959, 919, 879]


def test_more_steps_than_the_original_grid_raise_the_grid() -> None:
    grid = timestep_grid(100)
    assert len(set(grid)) == 100
    assert (grid[0], grid[-1]) == (999, 9)


def test_a_turbo_model_of_one_step_takes_the_picture_as_predicted() -> None:
    k = StepCoefficients.of([0], 1, is_one_step_turbo=True)
    assert (float(k.c_skip), float(k.c_out)) == (0.0, 1.0)


@pytest.mark.parametrize("t_index_list", [[], [50], [-1], [20, 10]])
def test_indices_outside_the_grid_or_out_of_order_are_refused(t_index_list: list[int]) -> None:
    with pytest.raises(InvalidArgument, match="t_index_list"):
        StepCoefficients.of(t_index_list, 50, is_one_step_turbo=False)


@pytest.mark.parametrize("num_steps", [0, 1001])
def test_a_grid_needs_one_to_a_thousand_steps(num_steps: int) -> None:
    with pytest.raises(InvalidArgument, match="num_inference_steps"):
        timestep_grid(num_steps)
