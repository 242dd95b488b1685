"""Which frames the similarity filter passes over. Source: streamdiffusion.md section 9."""

import pytest
import torch

from lpnode.pipeline.stream_diffusion.similarity import (
    SimilarityConfig,
    SimilarityFilter,
    cosine,
    skip_probability,
)


@pytest.mark.parametrize(
    ("value", "expected"), [(1.0, 1.0), (0.999, 0.95), (0.99, 0.5), (0.985, 0.25), (0.98, 0.0)]
)
def test_probabilities_are_the_published_ones(value: float, expected: float) -> None:
    assert skip_probability(value, 0.98) == pytest.approx(expected)
    assert skip_probability(value, 1.0) == 0.0


def test_of_equal_frames_eleven_are_skipped_between_two_that_are_not() -> None:
    similarity = SimilarityFilter(SimilarityConfig(0.98, 10), seed=1)
    frame = torch.full((3, 8, 8), 0.5)
    skipped = [similarity.skips(frame) for _ in range(37)]
    assert skipped == [False] + ([True] * 11 + [False]) * 3


def test_unlike_frames_are_never_skipped() -> None:
    similarity = SimilarityFilter(SimilarityConfig(), seed=1)
    frames = torch.randn(20, 3, 8, 8, generator=torch.Generator().manual_seed(5))
    assert not any(similarity.skips(frame) for frame in frames)


def test_nearly_equal_frames_are_skipped_as_often_as_their_probability_says() -> None:
    similarity = SimilarityFilter(SimilarityConfig(0.98, 10_000), seed=7)
    angle = torch.acos(torch.tensor(0.99))
    first, second = torch.zeros(2, 3, 8, 8)
    first[0, 0, 0] = 1.0
    second[0, 0, 0], second[0, 0, 1] = torch.cos(angle), torch.sin(angle)
    similarity.skips(first)
    num_skipped = 0
    for _ in range(1000):
        is_first_kept = similarity._processed is not None and similarity._processed[0, 0, 0] == 1.0
        num_skipped += similarity.skips(second if is_first_kept else first)
    assert 440 < num_skipped < 560


def test_the_same_seed_skips_the_same_frames() -> None:
    generator = torch.Generator().manual_seed(2)
    base = torch.randn(3, 8, 8, generator=generator)
    frames = [base + 0.1 * torch.randn(3, 8, 8, generator=generator) for _ in range(50)]

    def run(seed: int) -> list[bool]:
        similarity = SimilarityFilter(SimilarityConfig(0.97, 10), seed=seed)
        return [similarity.skips(frame) for frame in frames]

    assert run(1) == run(1)
    assert run(1) != run(2)


def test_what_was_forgotten_is_processed_anew() -> None:
    similarity = SimilarityFilter(SimilarityConfig(), seed=1)
    frame = torch.ones(3, 8, 8)
    assert not similarity.skips(frame)
    assert similarity.skips(frame)
    similarity.forget()
    assert not similarity.skips(frame)


def test_half_precision_frames_are_compared_in_full_precision() -> None:
    frame = torch.full((3, 256, 256), 1.0, dtype=torch.float16)
    assert cosine(frame, frame) == pytest.approx(1.0)


def test_a_black_frame_is_like_nothing() -> None:
    assert cosine(torch.zeros(3, 8, 8), torch.zeros(3, 8, 8)) == 0.0
