"""A node that is stopped or fails before it serves."""

import asyncio
import socket
from pathlib import Path
from typing import Any

import pytest

from lpnode.config import SERVE_FLAGS, Address, NodeConfig, node_config, read_settings
from lpnode.errors import ConfigError, RpcUnavailable
from lpnode.node import Node

ANY_PORT = Address(host="127.0.0.1", port=0)


def node_of(data_dir: Path, **settings: Any) -> Node:
    given = {"service_uri": "https://127.0.0.1:8935", "listen": ANY_PORT, "operator": ANY_PORT}
    given |= {"is_checked_at_start": False}
    return Node(NodeConfig(data_dir=data_dir, **{**given, **settings}))


async def test_an_ipv6_address_keeps_its_brackets_when_the_system_gives_the_port(
    tmp_path: Path,
) -> None:
    node = node_of(tmp_path, service_uri="https://[::1]:8935")
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(node.run())
        await node.ready.wait()
        assert node.service_uri == f"https://[::1]:{node.listener.port}"
        node.stop()


async def test_a_node_stopped_before_it_runs_leaves_at_once(tmp_path: Path) -> None:
    node = node_of(tmp_path)
    node.stop()
    async with asyncio.timeout(10):
        await node.run()
    assert not node.ready.is_set()


async def test_a_node_is_stopped_while_it_waits_for_an_answer_at_its_own_address(
    tmp_path: Path,
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        node = node_of(
            tmp_path,
            service_uri=f"https://127.0.0.1:{silent.getsockname()[1]}",
            listen=Address(host="127.0.0.1", port=free_port()),
            is_checked_at_start=True,
        )
        async with asyncio.TaskGroup() as tasks:
            running = tasks.create_task(node.run())
            caller, _ = await asyncio.to_thread(silent.accept)  # the node, calling itself
            with caller:
                node.stop()
                async with asyncio.timeout(5):
                    await running
    assert not node.ready.is_set()


async def test_a_taken_operator_port_leaves_the_public_port_free(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        listen = Address(host="127.0.0.1", port=free_port())
        operator = Address(host="127.0.0.1", port=taken.getsockname()[1])
        with pytest.raises(ConfigError, match="cannot listen on"):
            await node_of(tmp_path, listen=listen, operator=operator).run()
        socket.create_server((listen.host, listen.port)).close()


def test_a_precision_that_the_processor_does_not_do_is_told_at_the_start(tmp_path: Path) -> None:
    models = "live-video-to-video:lpnode/shapes:false"
    with pytest.raises(ConfigError, match=r"-aiPrecision fp16: .* choose bf16 or fp32"):
        node_of(tmp_path, ai_models=models, may_use_gpu=False, ai_precision="fp16")
    node_of(tmp_path, ai_models=models, may_use_gpu=False, ai_precision="bf16")


async def test_a_node_is_stopped_while_its_chain_does_not_answer(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        words = (
            *("-network", "local", "-ethUrl", f"http://127.0.0.1:{silent.getsockname()[1]}"),
            *("-ethController", "0x" + "11" * 20, "-pricePerUnit", "1"),
        )
        settings = node_config(read_settings(SERVE_FLAGS, words, {}))
        node = node_of(tmp_path, network="local", chain=settings.chain, tariff=settings.tariff)
        async with asyncio.TaskGroup() as tasks:
            running = tasks.create_task(node.run())
            caller, _ = await asyncio.to_thread(silent.accept)  # the node, asking for the chain
            with caller:
                node.stop()
                async with asyncio.timeout(5):
                    await running
    assert not node.ready.is_set()


async def test_a_chain_that_cannot_be_reached_is_an_error_and_leaves_nothing_open(
    tmp_path: Path,
) -> None:
    words = (
        *("-network", "local", "-ethUrl", f"http://127.0.0.1:{free_port()}"),
        *("-ethController", "0x" + "11" * 20, "-pricePerUnit", "1"),
    )
    settings = node_config(read_settings(SERVE_FLAGS, words, {}))
    node = node_of(tmp_path, network="local", chain=settings.chain, tariff=settings.tariff)
    with pytest.raises(RpcUnavailable):
        await node.run()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
    return port
