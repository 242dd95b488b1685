"""``lpnode stream`` as a process of its own against a node that relays."""

import asyncio
import json
import signal
import sys
from pathlib import Path

import av
from relay_node import RelayNode, relay, relay_node

from lpnode.command.stream import presentation_time, stopped_by_signals
from lpnode.gateway.live_stream import LiveStream, StreamPlan
from lpnode.gateway.picture_input import PictureInput


async def started(*words: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-P", "-m", "lpnode", "stream", *words),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )


async def test_it_prints_what_it_measured_and_writes_what_came_back(tmp_path: Path) -> None:
    output = tmp_path / "out.ts"
    async with relay_node(tmp_path) as node:
        process = await started(
            *(node.uri, "--model", "noop", "--duration", "3", "--size", "320x240", "--json"),
            *("--output", str(output), "--params", '{"a": 1}', "--update", '1={"a": 2}'),
        )
        out, err = await process.communicate()
    assert process.returncode == 0, err.decode()
    report = json.loads(out)
    assert report["frames"]["returned"] == report["frames"]["sent"] > 30
    assert report["latency_ms"]["p50"] <= report["latency_ms"]["p99"]
    assert report["updates"] == 1
    assert [json.loads(body) for body in node.controls] == [{"a": 2}]
    with av.open(str(output), format="mpegts") as container:
        assert sum(1 for _ in container.decode(video=0)) == report["frames"]["returned"]


async def test_an_interrupt_ends_the_stream_and_still_prints_the_table(tmp_path: Path) -> None:
    has_begun = asyncio.Event()

    async def work(node: RelayNode) -> None:
        has_begun.set()
        await relay(node)

    async with relay_node(tmp_path, work=work) as node:
        process = await started(node.uri, "--duration", "60", "--size", "320x240")
        await has_begun.wait()
        await asyncio.sleep(1.0)  # some frames are to come back first
        process.send_signal(signal.SIGINT)
        out, err = await process.communicate()
    assert process.returncode == 0, err.decode()
    assert "glass to glass" in out.decode()
    assert "frame rate" in out.decode()
    assert "Traceback" not in err.decode()


async def test_a_node_that_gives_up_is_exit_code_1_with_the_reason(tmp_path: Path) -> None:
    async def leave(node: RelayNode) -> None:
        await asyncio.sleep(0.5)
        node.channels.close_all()

    async with relay_node(tmp_path, work=leave) as node:
        process = await started(node.uri, "--duration", "60", "--size", "320x240", "--json")
        out, err = await process.communicate()
    assert process.returncode == 1, err.decode()
    assert "closed the" in json.loads(out)["failure"]


async def test_after_the_stream_signals_mean_what_they_meant_before() -> None:
    def before(*_: object) -> None: ...

    numbers = (signal.SIGINT, signal.SIGTERM)
    found = {number: signal.signal(number, before) for number in numbers}
    plan = StreamPlan(uri="https://127.0.0.1:1", model_id="noop")
    stream = LiveStream(plan, PictureInput((128, 128), 1, duration_s=1), read_key=presentation_time)
    try:
        with stopped_by_signals(stream):
            assert before not in map(signal.getsignal, numbers)
        assert [signal.getsignal(number) for number in numbers] == [before, before]
    finally:
        for number, handler in found.items():
            signal.signal(number, handler)
