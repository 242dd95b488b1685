"""``lpnode serve`` as a process of its own: start, operator port, drain, and what stops it."""

import logging
import resource
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import aiohttp
import pytest
from end_to_end.whole_node import until

from lpnode.cli import main
from lpnode.command.node_process import NodeProcess
from lpnode.gateway.discover import demand_for, discovery_request, get_orchestrator


@pytest.fixture(autouse=True)
def logging_as_before() -> Iterator[None]:
    root, own = logging.getLogger(), logging.getLogger("lpnode")
    before = root.handlers[:], root.level, own.level
    yield
    root.handlers[:] = before[0]
    root.setLevel(before[1])
    own.setLevel(before[2])


async def test_it_serves_until_sigterm_and_leaves_with_0(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LP_NETWORK", "a setting for another node")
    async with NodeProcess(tmp_path / "data", tmp_path / "node.log") as node:
        found = await get_orchestrator(node.service_uri, discovery_request(demand_for(35, "noop")))
        async with (
            aiohttp.ClientSession() as http,
            http.get(f"{node.operator_uri}/metrics") as response,
        ):
            metrics = await response.text()
        # Said once models are loaded, which a node that is stopped does not wait for.
        await until(lambda: "serving https://127.0.0.1" in (tmp_path / "node.log").read_text())
    assert found.info.transcoder == node.service_uri
    assert 'livepeer_ai_container_idle{model_name="noop"' in metrics
    assert node.exit_code == 0


def test_a_taken_port_is_one_line_and_exit_code_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        where = f"127.0.0.1:{taken.getsockname()[1]}"
        words = ["-serviceAddr", where, "-httpAddr", where, "-dataDir", str(tmp_path)]
        assert main(["serve", *words]) == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith(f"lpnode: cannot listen on {where}")


def test_the_environment_is_read_and_its_secrets_are_not_logged(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    models = tmp_path / "aiModels.json"
    models.write_text("{}")
    monkeypatch.setenv("LP_ORCHSECRET", "hunter2")
    monkeypatch.setenv("LP_AUTHWEBHOOKURL", "https://host/auth?key=hunter2")
    monkeypatch.setenv("LP_AIMODELS", str(models))
    assert main(["serve", "-dataDir", str(tmp_path)]) == 2
    said = capsys.readouterr().err
    assert "aiModels.json" in said.splitlines()[-1]
    assert "orchSecret = *** (LP_ORCHSECRET)" in said
    assert "LP_ORCHSECRET is accepted but has no effect" in said
    assert "hunter2" not in said


async def test_it_raises_its_own_limit_of_descriptors(tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (512, hard))
    try:
        async with NodeProcess(tmp_path / "data", tmp_path / "node.log") as node:
            assert node._process is not None
            allowed, _ = resource.prlimit(node._process.pid, resource.RLIMIT_NOFILE)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert allowed == (65_536 if hard == resource.RLIM_INFINITY else min(hard, 65_536))


async def test_an_interrupt_is_a_drain_too(tmp_path: Path) -> None:
    async with NodeProcess(tmp_path / "data", tmp_path / "node.log") as node:
        node.send_signal(signal.SIGINT)
        assert await node.wait() == 0
