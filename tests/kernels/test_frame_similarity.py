"""The similarity kernel against float64 NumPy; its arithmetic runs in tests/native too."""

import numpy as np
import pytest
import torch

from lpnode._native import media
from lpnode.errors import InvalidArgument, NotBuilt
from lpnode.media.frame_similarity import FrameSimilarity


@pytest.mark.skipif(media.has_device_convert(), reason="this build has the CUDA kernels")
def test_a_build_without_cuda_says_how_to_get_it() -> None:
    with pytest.raises(NotBuilt, match="configure with LPNODE_CUDA=ON"):
        FrameSimilarity(torch.device("cuda", 0))


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("size", [(512, 512), (333, 77), (1, 1)])
def test_sums_are_those_of_the_frames(size: tuple[int, int], dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(8)
    first = (torch.rand(3, *size, generator=generator) * 2 - 1).to("cuda", dtype)
    second = (first.float() * 0.9 + 0.05).to(dtype)
    similarity = FrameSimilarity(first.device)
    sums = similarity.enqueue(first, second).clone()
    a, b = (frame.double().cpu().numpy().ravel() for frame in (first, second))
    np.testing.assert_allclose(sums.cpu().numpy(), [a @ b, a @ a, b @ b], rtol=1e-5)
    assert torch.equal(similarity.enqueue(first, second), sums)


@pytest.mark.gpu
def test_frames_of_different_sizes_cannot_be_compared() -> None:
    first, second = (torch.zeros(3, 8, width, device="cuda") for width in (8, 16))
    with pytest.raises(InvalidArgument, match=r"tensor must be \(3, 8, 8\)"):
        FrameSimilarity(first.device).enqueue(first, second)
