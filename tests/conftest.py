"""What every test gets: uvloop, and a failure when it leaves a task behind."""

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest
import uvloop
from evm import (
    evm,
    evm_process,
    own_evm,
    py_evm_chain,
    py_evm_process,
    report_missing_evm,
)

__all__ = ["evm", "evm_process", "own_evm", "py_evm_chain", "py_evm_process"]


def pytest_asyncio_loop_factories() -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    return {"uvloop": uvloop.new_event_loop}


@pytest.fixture
async def no_leaked_tasks() -> AsyncIterator[None]:
    before = asyncio.all_tasks()
    yield
    # A few turns of the loop let tasks that were cancelled during tear-down end.
    for _ in range(5):
        await asyncio.sleep(0)
    leaked = asyncio.all_tasks() - before - {asyncio.current_task()}
    assert not leaked, f"tasks left behind: {[task.get_name() for task in leaked]}"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    import torch

    has_cuda = torch.cuda.is_available()
    for item in items:
        if item.get_closest_marker("asyncio"):
            item.fixturenames.insert(0, "no_leaked_tasks")
        if not has_cuda and item.get_closest_marker("gpu"):
            item.add_marker(pytest.mark.skip(reason="no CUDA device"))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    report_missing_evm(terminalreporter.write_line)
