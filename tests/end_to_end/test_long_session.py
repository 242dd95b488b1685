"""A minute of live video through a real node process, with every frame accounted for."""

import os
from pathlib import Path

import psutil
import pytest
from end_to_end.processes import node_process
from end_to_end.whole_node import eventually, free_slots, scrape

from lpnode.command.stream import mark_reader
from lpnode.gateway.live_client import LiveClientConfig
from lpnode.gateway.live_stream import LiveStream, StreamPlan
from lpnode.gateway.picture_input import PictureInput

SIZE = (512, 512)
FPS = 30


@pytest.mark.slow
@pytest.mark.timeout(180)
@pytest.mark.parametrize("duration_s", [60])
async def test_each_frame_comes_back_in_order_or_was_overtaken_by_a_newer_one(
    tmp_path: Path, duration_s: float
) -> None:
    """L53 in short: and the gateway never has more than two input segments in flight."""
    async with node_process(tmp_path) as node:
        stream = LiveStream(
            StreamPlan(uri=node.service_uri, model_id="passthrough", params={"max_framerate": 60}),
            PictureInput(SIZE, FPS, duration_s=duration_s),
            read_key=mark_reader(SIZE),
            config=LiveClientConfig(max_in_flight=2),
        )
        await stream.run()
        samples = await scrape(node.operator_uri)
        process = psutil.Process(node.pid)
        cpu, memory = process.cpu_times(), process.memory_info().rss
        await eventually(lambda: _is_free(node.operator_uri))
    meter = stream.meter
    frames = {
        fate: int(samples[f"lpnode_frames_total {fate}"])
        for fate in ("decoded", "capped", "skipped", "superseded", "sent")
    }
    latency = meter.summary()
    print(
        f"\n{meter.sent} frames sent in {duration_s} s ({meter.sent_fps():.2f} fps), "
        f"{len(meter.returns)} came back ({meter.returned_fps():.2f} fps); {frames}\n"
        f"latency ms: p50 {latency.p50_s * 1e3:.1f}, p95 {latency.p95_s * 1e3:.1f}, "
        f"p99 {latency.p99_s * 1e3:.1f}, max {latency.max_s * 1e3:.1f}\n"
        f"node: {cpu.user + cpu.system:.1f} s of CPU, {memory >> 20} MiB; "
        f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}"
    )
    assert stream.failure is None
    assert stream.client is not None
    assert stream.client.num_segments_failed == 0
    assert meter.sent > FPS * duration_s / 10
    # Order: newest wins, so numbers only grow, and no frame comes twice or from nowhere.
    numbers = [frame.key for frame in meter.returns]
    assert numbers == sorted(set(numbers))
    assert meter.repeated == meter.unknown == stream.output.num_unmarked == 0
    # Accounts: what was sent was decoded or skipped; what was decoded came back or was overtaken.
    assert meter.sent == frames["decoded"] + frames["skipped"]
    assert frames["capped"] == 0
    assert frames["decoded"] - frames["superseded"] == frames["sent"] == len(numbers)
    assert stream.output.size == SIZE
    assert stream.events.errors == []
    assert stream.events.by_type["status"] >= duration_s // 10


async def _is_free(operator: str) -> bool:
    return await free_slots(operator, "passthrough") == 4
