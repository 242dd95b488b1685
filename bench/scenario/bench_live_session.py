"""What does a segment cost from input channel to output channel, and how soon is a frame out?

One segment of 60 frames, 720p H.264, through the ``passthrough`` pipeline to 512x512 H.264. Ours is
a whole live session (channels, five stages, host, codecs), fed a frame at a time: each frame is
sent when the one before has come out, so ``latency_p50_ms`` is that of an idle machine. The usual
way (``usual_segment.py``) is what an AI runner does around its model, without its processes and
hops; it begins when the segment is complete. Times are CPU of the process, all threads.
"""

import asyncio
import itertools
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path
from statistics import median

import pytest
import uvloop
from live_input import InputFrame, h264_input
from node_bench import Gateway, NodeBench, decoded
from pytest_benchmark.fixture import BenchmarkFixture

sys.path.append(str(Path(__file__).parent))
from usual_segment import usual_segment

GROUP = "60 frames, 720p in, passthrough, 512x512 out"
NUM_FRAMES = 60
FPS = 30
ROUNDS = 3


class RunningSession:
    """A session on an event loop in a thread of its own, for a benchmark that is not async."""

    def __init__(self) -> None:
        self.latencies_s: list[float] = []
        self._gateway: Future[Gateway] = Future()
        self._over: Future[None] = Future()
        self._thread = threading.Thread(target=self._work, name="session loop")
        self._thread.start()

    def exchange(self, frames: list[InputFrame]) -> bytes:
        """Sends frames, each after the output of the one before; returns what came out."""
        work = self._exchange(self._gateway.result(), frames)
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    def close(self) -> None:
        self._over.set_result(None)
        self._thread.join()

    async def _exchange(self, gateway: Gateway, frames: list[InputFrame]) -> bytes:
        gateway.received.clear()
        for frame in frames:
            sent_s = time.perf_counter()
            gateway.send(frame)
            await gateway.receive()
            self.latencies_s.append(time.perf_counter() - sent_s)
        return bytes(gateway.received)

    def _work(self) -> None:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(self._serve())

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        async with NodeBench().running() as bench:
            gateway = bench.start({"max_framerate": 60})
            self._gateway.set_result(gateway)
            await asyncio.wrap_future(self._over)
            gateway.input.close()
            await bench.ended()


@pytest.fixture
def session() -> Iterator[RunningSession]:
    session = RunningSession()
    yield session
    session.close()


def segments() -> Iterator[list[InputFrame]]:
    """Consecutive segments of one stream, without end."""
    for number in itertools.count():
        yield list(
            h264_input(
                NUM_FRAMES,
                fps=FPS,
                gop=NUM_FRAMES,
                width=1280,
                height=720,
                first_frame=number * NUM_FRAMES,
            )
        )


def summarise(benchmark: BenchmarkFixture, latencies_s: list[float]) -> None:
    ms = sorted(latency_s * 1000 for latency_s in latencies_s)
    benchmark.extra_info["latency_p50_ms"] = round(median(ms), 2)
    benchmark.extra_info["latency_max_ms"] = round(ms[-1], 2)


@pytest.mark.benchmark(group=GROUP, timer=time.process_time)
def bench_live_session(benchmark: BenchmarkFixture, session: RunningSession) -> None:
    inputs = segments()
    output = benchmark.pedantic(
        session.exchange, setup=lambda: ((next(inputs),), {}), rounds=ROUNDS, warmup_rounds=1
    )
    assert len(decoded(output)) == NUM_FRAMES
    summarise(benchmark, session.latencies_s[-ROUNDS * NUM_FRAMES :])


@pytest.mark.benchmark(group=GROUP, timer=time.process_time)
def bench_usual_segment(benchmark: BenchmarkFixture) -> None:
    inputs = segments()
    latencies_s: list[float] = []

    def run(frames: list[InputFrame]) -> bytes:
        began_s = time.perf_counter()
        output = usual_segment(b"".join(frame.data for frame in frames), 512, 512)
        # The first frame of the segment waits for the last one and for the work on all.
        latencies_s.append(time.perf_counter() - began_s + (NUM_FRAMES - 1) / FPS)
        return output

    output = benchmark.pedantic(
        run, setup=lambda: ((next(inputs),), {}), rounds=ROUNDS, warmup_rounds=1
    )
    assert len(decoded(output)) == NUM_FRAMES
    summarise(benchmark, latencies_s[-ROUNDS:])
