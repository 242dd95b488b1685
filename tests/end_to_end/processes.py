"""A real ``lpnode serve`` and a real ``lpnode stream``, each as a process of its own."""

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from end_to_end.whole_node import models_file

from lpnode.command.node_process import NodeProcess


@asynccontextmanager
async def node_process(folder: Path, *words: str) -> AsyncIterator[NodeProcess]:
    """``lpnode serve`` with its data in ``folder``; what it says goes to a file there."""
    models = ("-aiModels", models_file(folder))
    async with NodeProcess(folder / "data", folder / "log.txt", (*models, *words)) as node:
        yield node


@asynccontextmanager
async def stream_process(uri: str, folder: Path) -> AsyncIterator[asyncio.subprocess.Process]:
    """``lpnode stream`` of a small test picture for longer than any test lasts."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-P", "-m", "lpnode", "stream", uri, "--input", "testsrc", "--size", "320x240"),
        *("--model", "noop", "--duration", "600", "--output", str(folder / "output.ts")),
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
