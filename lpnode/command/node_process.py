"""A node in a process of its own, on loopback, for as long as a block runs."""

import asyncio
import os
import socket
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO, Self

import aiohttp

from lpnode.command.child_process import ended_with_parent
from lpnode.errors import PeerGone

_START_S = 90.0
_STOP_S = 20.0
_POLL_S = 0.1
_LOG_LINES = 12


class NodeProcess:
    """Runs ``lpnode serve`` on free ports of 127.0.0.1 and ends it with SIGTERM.

    A process of its own, so that the node's latency is not the client's work on the same loop.
    """

    def __init__(self, data_dir: Path, log_path: Path, words: Sequence[str] = ()) -> None:
        """``data_dir`` takes certificate and keys, ``log_path`` what the node says.

        ``words`` are further settings; they override those that are given here.
        """
        self._data_dir = data_dir
        self._log_path = log_path
        self._words = words
        self._process: asyncio.subprocess.Process | None = None
        self._log: BinaryIO | None = None
        self.service_uri = ""
        self.operator_uri = ""
        self.ready_s = 0.0
        """How long the node took until its models were loaded."""

    async def __aenter__(self) -> Self:
        """Raises: PeerGone: the node did not become ready; with its last words."""
        service, operator = _free_ports(2)
        self.service_uri = f"https://127.0.0.1:{service}"
        self.operator_uri = f"http://127.0.0.1:{operator}"
        self._log = self._log_path.open("wb")
        started_at = time.monotonic()
        self._process = await asyncio.create_subprocess_exec(
            # -P: the working directory may be a source tree without the compiled modules.
            *ended_with_parent((sys.executable, "-P", "-m", "lpnode", "serve")),
            *("-serviceAddr", f"127.0.0.1:{service}"),
            *("-httpAddr", f"127.0.0.1:{service}"),
            *("-cliAddr", f"127.0.0.1:{operator}"),
            *("-dataDir", str(self._data_dir)),
            *("-drainTimeout", "1s"),
            *self._words,
            # Settings meant for the operator's own node are not for this one.
            env={name: text for name, text in os.environ.items() if not name.startswith("LP_")},
            stdout=self._log,
            stderr=self._log,
            # Ctrl-C in the terminal is for the client; it ends the node in its turn.
            start_new_session=True,
        )
        try:
            await self._wait_until_ready()
        except BaseException:  # Ctrl-C must not leave the node running either
            await self._end()
            raise
        self.ready_s = time.monotonic() - started_at
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._end()

    @property
    def pid(self) -> int:
        """The process, while the block runs."""
        assert self._process is not None
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        """0 after a clean drain; None while it runs."""
        return self._process.returncode if self._process else None

    def send_signal(self, number: int) -> None:
        """Sends the node a signal."""
        assert self._process is not None
        self._process.send_signal(number)

    async def wait(self) -> int:
        """Waits until the node has ended. Returns: its exit code."""
        assert self._process is not None
        return await self._process.wait()

    async def _wait_until_ready(self) -> None:
        assert self._process is not None
        deadline = time.monotonic() + _START_S
        async with aiohttp.ClientSession() as http:
            while time.monotonic() < deadline:
                if self._process.returncode is not None:
                    raise PeerGone(f"the node did not start:\n{self._last_words()}")
                try:
                    async with http.get(f"{self.operator_uri}/readyz") as response:
                        if response.status == 200:
                            return
                except aiohttp.ClientError:
                    pass  # not listening yet
                await asyncio.sleep(_POLL_S)
        raise PeerGone(f"the node was not ready after {_START_S:g} s:\n{self._last_words()}")

    async def _end(self) -> None:
        process = self._process
        assert process is not None
        if process.returncode is None:
            process.terminate()
            try:
                async with asyncio.timeout(_STOP_S):
                    await process.wait()
            except TimeoutError:
                process.kill()
                await process.wait()
        if self._log is not None:
            self._log.close()

    def _last_words(self) -> str:
        lines = self._log_path.read_text(errors="replace").splitlines()
        return "\n".join(lines[-_LOG_LINES:]) or f"nothing in {self._log_path}"


def _free_ports(count: int) -> list[int]:
    """Asks the system for ports; they stay free unless something else takes them meanwhile."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()
