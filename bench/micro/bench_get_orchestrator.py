"""What does one GetOrchestrator cost the server, and how long does a gateway wait for it?

Baseline: a grpc.aio server with the same methods. Each server runs in its own process, whose CPU
time is what counts; the client is grpc.aio here. One connection, 16 calls at a time.
"""

import asyncio
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import quantiles

import grpc
import psutil
import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from lpnode.edge.certificate import ensure_certificate
from lpnode.protocol import lp_rpc_pb2 as pb

SERVER = Path(__file__).with_name("orchestrator_server.py")
REQUEST = pb.OrchestratorRequest(address=bytes(20)).SerializeToString()
NUM_CALLS = 2000
NUM_AT_ONCE = 16
NUM_DIALS = 100


@dataclass
class Server:
    target: str
    process: psutil.Process
    root: bytes
    is_tls: bool

    def channel(self, options: Sequence[tuple[str, int]] = ()) -> grpc.aio.Channel:
        if not self.is_tls:
            return grpc.aio.insecure_channel(self.target, options)
        credentials = grpc.ssl_channel_credentials(self.root)
        return grpc.aio.secure_channel(self.target, credentials, options)

    def cpu_s(self) -> float:
        times = self.process.cpu_times()
        return times.user + times.system


@pytest.fixture(params=["plaintext", "tls"])
def transport(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(params=["edge", "grpc.aio", "grpc.aio+uvloop"])
def server(request: pytest.FixtureRequest, transport: str, tmp_path: Path) -> Iterator[Server]:
    root = ensure_certificate(tmp_path, "127.0.0.1").certificate.read_bytes()
    command = [sys.executable, str(SERVER), request.param, str(tmp_path)]
    if transport == "plaintext":
        command.append("--plaintext")
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        port = int(process.stdout.readline())
        yield Server(f"127.0.0.1:{port}", psutil.Process(process.pid), root, transport == "tls")
        assert process.stdin is not None
        process.stdin.close()
        process.wait(timeout=10)


@pytest.mark.benchmark(group=f"GetOrchestrator, {NUM_CALLS} calls, {NUM_AT_ONCE} at once")
def bench_get_orchestrator(benchmark: BenchmarkFixture, server: Server) -> None:
    latencies: list[float] = []
    cpu_s: list[float] = []

    async def caller(channel: grpc.aio.Channel) -> None:
        call = channel.unary_unary("/net.Orchestrator/GetOrchestrator")
        for _ in range(NUM_CALLS // NUM_AT_ONCE):
            start = time.perf_counter()
            reply = await call(REQUEST)
            latencies.append(time.perf_counter() - start)
        assert pb.OrchestratorInfo.FromString(reply).transcoder == "https://127.0.0.1:8935"

    with asyncio.Runner() as runner:
        channel = runner.run(_make(server))
        runner.run(caller(channel))  # warm-up
        latencies.clear()

        async def load() -> None:
            async with asyncio.TaskGroup() as tasks:
                for _ in range(NUM_AT_ONCE):
                    tasks.create_task(caller(channel))

        def timed() -> None:
            before = server.cpu_s()
            runner.run(load())
            cpu_s.append(server.cpu_s() - before)

        benchmark.pedantic(timed, rounds=5)
        runner.run(channel.close())
    cuts = quantiles(latencies, n=100)
    benchmark.extra_info["server_cpu_us_per_call"] = [
        round(one / NUM_CALLS * 1e6) for one in sorted(cpu_s)
    ]
    benchmark.extra_info["p50_ms"] = round(cuts[49] * 1e3, 2)
    benchmark.extra_info["p99_ms"] = round(cuts[98] * 1e3, 2)
    assert len(latencies) >= NUM_CALLS


@pytest.mark.benchmark(group=f"GetOrchestrator with its dial, {NUM_DIALS} calls")
def bench_get_orchestrator_with_dial(benchmark: BenchmarkFixture, server: Server) -> None:
    """As gateways do it: a new connection for every call."""
    latencies: list[float] = []
    cpu_s: list[float] = []

    async def dial() -> None:
        start = time.perf_counter()
        # A pool of its own, or the library would share connections between channels.
        options = [("grpc.use_local_subchannel_pool", 1)]
        async with server.channel(options) as channel:
            call = channel.unary_unary("/net.Orchestrator/GetOrchestrator")
            reply = await call(REQUEST)
            latencies.append(time.perf_counter() - start)
        assert pb.OrchestratorInfo.FromString(reply).transcoder == "https://127.0.0.1:8935"

    async def load() -> None:
        for _ in range(NUM_DIALS):
            await dial()

    with asyncio.Runner() as runner:
        runner.run(dial())

        def timed() -> None:
            before = server.cpu_s()
            runner.run(load())
            cpu_s.append(server.cpu_s() - before)

        benchmark.pedantic(timed, rounds=5)
    benchmark.extra_info["server_cpu_us_per_call"] = [
        round(one / NUM_DIALS * 1e6) for one in sorted(cpu_s)
    ]
    benchmark.extra_info["p50_ms"] = round(quantiles(latencies, n=100)[49] * 1e3, 2)
    benchmark.extra_info["p99_ms"] = round(quantiles(latencies, n=100)[98] * 1e3, 2)


async def _make(server: Server) -> grpc.aio.Channel:
    return server.channel()
