"""A whole node on loopback in this process, and what its operator's port says of any node."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
from prometheus_client.parser import text_string_to_metric_families

from lpnode.config.node_config import Address, NodeConfig
from lpnode.node import Node

SLOTS = 4


def models_file(folder: Path, slots: int = SLOTS) -> str:
    """A list of the two models that copy frames, warm. Returns: its name."""
    path = folder / "models.json"
    entries = [
        {
            "pipeline": "live-video-to-video",
            "model_id": model_id,
            "warm": True,
            "capacity": slots,
        }
        for model_id in ("noop", "passthrough")
    ]
    path.write_text(json.dumps(entries))
    return str(path)


@asynccontextmanager
async def whole_node(
    folder: Path, *, is_tls: bool = True, slots: int = SLOTS, **changes: Any
) -> AsyncIterator[Node]:
    """A node that serves on free ports, and has let go of everything when the block is left."""
    config = NodeConfig(
        service_uri=f"{'https' if is_tls else 'http'}://127.0.0.1:8935",
        listen=Address(host="127.0.0.1", port=0),
        operator=Address(host="127.0.0.1", port=0),
        is_tls=is_tls,
        data_dir=folder,
        ai_models=models_file(folder, slots),
        is_checked_at_start=False,
        **({"drain_deadline_s": 0.0} | changes),
    )
    node = Node(config)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(node.run(), name="node")
        await node.ready.wait()
        try:
            yield node
        finally:
            node.stop()
    assert len(node.sessions) == 0
    assert len(node.channels) == 0
    assert node.listener.num_connections == 0


def operator_uri(node: Node) -> str:
    return f"http://127.0.0.1:{node.operator.port}"


async def until(is_so: Callable[[], object], *, within_s: float = 20) -> None:
    """Returns once ``is_so`` is true of something that announces no change."""
    async with asyncio.timeout(within_s):
        while not is_so():  # noqa: ASYNC110 there is no event to wait for
            await asyncio.sleep(0.01)


async def eventually(is_so: Callable[[], Awaitable[object]], *, within_s: float = 20) -> None:
    """``until`` for what has to be asked for."""
    async with asyncio.timeout(within_s):
        while not await is_so():  # noqa: ASYNC110 there is no event to wait for
            await asyncio.sleep(0.1)


async def free_slots(operator: str, model_id: str = "noop") -> float:
    """As ``/metrics`` tells it."""
    samples = await scrape(operator)
    return samples[f"livepeer_ai_container_idle {model_id}"]


async def live_sessions(operator: str) -> list[dict[str, Any]]:
    """As ``/status`` tells it."""
    async with aiohttp.ClientSession() as http, http.get(f"{operator}/status") as response:
        return (await response.json())["LiveSessions"]


async def scrape(operator: str) -> dict[str, float]:
    """``/metrics``: a sample's name and the labels that tell samples of a name apart."""
    async with aiohttp.ClientSession() as http, http.get(f"{operator}/metrics") as response:
        text = await response.text()
    samples = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            told_apart = [sample.labels.get(name, "") for name in ("fate", "stage", "model_name")]
            samples[" ".join([sample.name, *filter(None, told_apart)])] = sample.value
    return samples
