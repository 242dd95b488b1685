"""What every benchmark on a device gets: a skip without one, times by events, the device's name.

Times by events include what the device takes to begin a kernel, a few microseconds, because a frame
pays that too. Figures stand in ``extra_info``; the names of times end in their unit.
"""

import platform
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from statistics import median, quantiles

import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture

NUM_WARM_UPS = 20
NUM_SAMPLES = 200


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if torch.cuda.is_available():
        return
    for item in items:
        if item.get_closest_marker("gpu"):
            item.add_marker(pytest.mark.skip(reason="no CUDA device"))


@dataclass(frozen=True)
class Figures:
    """Times of one kind of work, in microseconds."""

    p50_us: float
    p99_us: float

    @classmethod
    def of(cls, samples_us: list[float]) -> "Figures":
        cuts = quantiles(samples_us, n=100)
        return cls(round(median(samples_us), 2), round(cuts[98], 2))


class DeviceClock:
    """Times work on the current stream by events, with a cold or a warm second-level cache."""

    def __init__(self) -> None:
        properties = torch.cuda.get_device_properties(0)
        # Written before each sample, it leaves nothing of the inputs in the cache.
        self._flush = torch.empty(4 * properties.L2_cache_size, dtype=torch.uint8, device="cuda")
        self.name = properties.name

    def time(self, work: Callable[[], object], *, is_cold: bool = True) -> Figures:
        """Enqueues ``work`` many times; waits for the device once, at the end."""
        pairs = []
        for number in range(NUM_WARM_UPS + NUM_SAMPLES):
            if is_cold:
                self._flush.fill_(number % 256)
            pair = [torch.cuda.Event(enable_timing=True) for _ in range(2)]
            pair[0].record()
            work()
            pair[1].record()
            pairs.append(pair)
        torch.cuda.synchronize()
        return Figures.of([1e3 * a.elapsed_time(b) for a, b in pairs[NUM_WARM_UPS:]])

    def bytes_per_us(self, copy: Callable[[], object], num_bytes: int) -> float:
        """What a large copy moves, counting each byte that is read or written."""
        return num_bytes / self.time(copy, is_cold=False).p50_us


@pytest.fixture(scope="session")
def clock() -> DeviceClock:
    return DeviceClock()


@pytest.fixture(scope="session")
def memory_bytes_per_us(clock: DeviceClock) -> float:
    """Bandwidth of device memory, measured with copies of 256 MiB, read and written."""
    source = torch.zeros(1 << 28, dtype=torch.uint8, device="cuda")
    target = torch.empty_like(source)
    return clock.bytes_per_us(lambda: target.copy_(source), 2 << 28)


@pytest.fixture(scope="session")
def bus_bytes_per_us(clock: DeviceClock) -> float:
    """Bandwidth from page-locked host memory, measured with copies of 64 MiB."""
    source = torch.zeros(1 << 26, dtype=torch.uint8, pin_memory=True)
    target = torch.empty(1 << 26, dtype=torch.uint8, device="cuda")
    return clock.bytes_per_us(lambda: target.copy_(source, non_blocking=True), 1 << 26)


@pytest.fixture(autouse=True)
def machine(request: pytest.FixtureRequest) -> None:
    """Says in the JSON where and when a figure is from."""
    if "benchmark" not in request.fixturenames or not torch.cuda.is_available():
        return
    benchmark: BenchmarkFixture = request.getfixturevalue("benchmark")
    benchmark.extra_info.update(
        device=torch.cuda.get_device_properties(0).name,
        cuda=torch.version.cuda,
        torch=torch.__version__,
        python=platform.python_version(),
        date=datetime.now(UTC).date().isoformat(),
    )
