"""How long does drawing one 512x512 frame take, against the same arithmetic in torch operators?

Both on one core, so that the figures say what a node pays for each stream.
"""

from collections.abc import Callable, Iterator

import pytest
import torch
import torch.nn.functional as F
from pytest_benchmark.fixture import BenchmarkFixture

from lpnode.pipeline.edge_style import EdgeStyle, EdgeStyleParams
from lpnode.pipeline.pipeline import FrameJob

PARAMS = EdgeStyleParams(strength=0.8, tint=(1.0, 0.9, 0.8))
SIZE = 512

Draw = Callable[[torch.Tensor], torch.Tensor]


def native() -> Draw:
    pipeline = EdgeStyle()
    state = pipeline.prepare(PARAMS)

    def draw(frame: torch.Tensor) -> torch.Tensor:
        (result,) = pipeline.run([FrameJob(state, frame, 0)])
        assert result is not None
        return result.frame

    return draw


def torch_operators() -> Draw:
    weights = torch.tensor([0.299, 0.587, 0.114]).view(3, 1, 1)
    across = torch.tensor([[-1.0, 0, 1], [-2, 0, 2], [-1, 0, 1]])
    sobel = torch.stack([across, across.T])[:, None]
    tint, ink = (torch.tensor(colour).view(3, 1, 1) for colour in (PARAMS.tint, PARAMS.ink))
    steps = PARAMS.levels - 1

    def draw(frame: torch.Tensor) -> torch.Tensor:
        luma = (frame * weights).sum(0)
        padded = F.pad(luma[None, None], (1, 1, 1, 1), mode="replicate")
        gradient = F.conv2d(padded, sobel)[0].square().sum(0).sqrt() * 0.25
        lines = ((gradient - PARAMS.threshold) / PARAMS.softness).clamp(0, 1)
        flat = (frame * steps + 0.5).floor() / steps * tint
        return frame.lerp(flat.lerp(ink, lines), PARAMS.strength)

    return draw


@pytest.fixture(autouse=True)
def one_core() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.benchmark(group="draw one 512x512 frame, one core", warmup=True)
@pytest.mark.parametrize("make", [native, torch_operators])
def bench_edge_style(benchmark: BenchmarkFixture, make: Callable[[], Draw]) -> None:
    ramp = torch.linspace(0, 1, SIZE)
    noise = torch.rand(3, SIZE, SIZE, generator=torch.Generator().manual_seed(3))
    frame = (ramp.expand(3, SIZE, SIZE) * 0.7 + noise * 0.3).contiguous()
    drawn = benchmark(make(), frame)
    # A value on the border between two levels may fall on either side.
    differs = (drawn - torch_operators()(frame)).abs() > 1e-4
    assert differs.float().mean() < 1e-3
