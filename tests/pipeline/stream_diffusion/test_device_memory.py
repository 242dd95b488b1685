"""A CUDA device without a free byte: frames that do not fit fail, and nothing else does."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
from diffusion_studio import MakeStudio, Studio, scene
from tiny_diffusion_models import SIDE

from lpnode.errors import OutOfDeviceMemory
from lpnode.pipeline.pipeline import FrameJob, FrameResult, StreamState

pytestmark = pytest.mark.gpu

LARGE = 512
"""Each of its activations takes 4 MiB, which must be had from the driver."""


@contextmanager
def full_device() -> Iterator[None]:
    """Takes all that the driver and torch's cache have left, but for crumbs below 1 MiB.

    What is already in small blocks stays usable, as it does on a device that others have filled.
    """
    torch.cuda.synchronize()
    torch.cuda.empty_cache()
    taken: list[torch.Tensor] = []
    size = torch.cuda.mem_get_info()[0]
    while size > 1 << 20:
        try:
            taken.append(torch.empty(size, dtype=torch.uint8, device="cuda"))
        except torch.OutOfMemoryError:
            size //= 2
    try:
        yield
    finally:
        taken.clear()
        torch.cuda.empty_cache()


def run_one(studio: Studio, stream: StreamState, number: int) -> object:
    """Sends one frame of a stream through in a call of its own; nothing is copied out of it."""
    params = stream.params
    frame = studio.pipeline.input_buffer(params.width, params.height)[0]
    if params.width == SIDE:
        frame.copy_(scene(number))
    (result,) = studio.pipeline.run([FrameJob(stream, frame, number)])
    return result


def test_a_frame_that_does_not_fit_fails_alone_and_the_next_comes_when_memory_is_back(
    make_studio: MakeStudio,
) -> None:
    studio = make_studio(device="cuda", uses_graphs=True)
    small = studio.pipeline.prepare(studio.params(t_index_list=[32]))
    large = studio.pipeline.prepare(studio.params(width=LARGE, height=LARGE, t_index_list=[32]))
    studio.pipeline.input_buffer(LARGE, LARGE)  # that no frame fits in is another matter
    assert isinstance(run_one(studio, small, 0), FrameResult)  # its graph is captured
    with full_device():
        for number in (1, 2):
            failed = run_one(studio, large, number)
            assert isinstance(failed, OutOfDeviceMemory)
            assert "out of memory" in str(failed)
            result = run_one(studio, small, number)
            assert isinstance(result, FrameResult)
            assert result.pts_ticks == number
    for stream in (large, small):
        result = run_one(studio, stream, 3)
        assert isinstance(result, FrameResult)
        assert result.pts_ticks == 3
        assert result.frame.isfinite().all()
