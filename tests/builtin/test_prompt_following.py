"""The weights that ship follow prompts, as geometry sees it."""

from collections.abc import Iterator

import pytest
import torch

from lpnode.builtin.measure import edit_score, follow_score
from lpnode.builtin.sampler import STEPS, Sampler
from lpnode.builtin.weights_folder import SHIPPED


@pytest.fixture(scope="module")
def sampler() -> Iterator[Sampler]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield Sampler(SHIPPED)
    torch.set_num_threads(threads)


@pytest.mark.parametrize("num_steps", STEPS)
def test_colour_and_shape_asked_for_are_in_the_picture(sampler: Sampler, num_steps: int) -> None:
    assert follow_score(sampler, 16, num_steps).both >= 0.85


def test_image_to_image_changes_the_colour_and_keeps_the_layout(sampler: Sampler) -> None:
    score = edit_score(sampler, 12, (32, 45))
    assert score.overlap >= 0.7
    assert score.colour >= 0.7


@pytest.mark.slow
@pytest.mark.parametrize("num_steps", STEPS)
def test_nine_of_ten_pictures_show_what_was_asked_for(sampler: Sampler, num_steps: int) -> None:
    """The criterion of the project: 100 seeds, colour and shape both right."""
    assert follow_score(sampler, 100, num_steps).both >= 0.9
