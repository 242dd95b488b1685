"""An Ethereum node on loopback, in a process of its own, for as long as a block runs."""

import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from lpnode.command.child_process import ended_with_parent
from lpnode.errors import NoEvm
from lpnode.protocol.ethereum import Address, parse_address

CHAIN_ID = 31337
GENESIS_NUMBER = 1000
_START_S = 30.0
_STOP_S = 5.0
_POLL_S = 0.02
_HINT = "install Foundry's anvil, or py-evm with: pip install 'lpnode[evm]'"


class EvmKind(StrEnum):
    """Which program the node is."""

    ANVIL = "anvil"
    PY_EVM = "py-evm"


@dataclass(frozen=True, slots=True)
class EvmProgram:
    """What to start; both kinds take anvil's options."""

    kind: EvmKind
    command: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class EvmAccount:
    """One of ten accounts with 10,000 ether, whose key the node has. ``private_key``: 32 bytes."""

    address: Address
    private_key: bytes


@dataclass(frozen=True, slots=True)
class EvmProcess:
    """A node that listens."""

    kind: EvmKind
    port: int
    accounts: tuple[EvmAccount, ...]


def find_evm() -> EvmProgram:
    """Returns anvil, or else py-evm; installs nothing.

    anvil is looked for on PATH, and in the ``node_modules`` of the folder that
    ``LPNODE_EVM_TOOLS`` names.
    Raises: NoEvm: there is neither.
    """
    found = shutil.which("anvil")
    if found is not None:
        return anvil(Path(found))
    given = os.environ.get("LPNODE_EVM_TOOLS")
    path = anvil_in(Path(given) / "node_modules") if given else None
    return anvil(path) if path is not None and path.is_file() else py_evm()


def anvil(path: Path) -> EvmProgram:
    """Returns Foundry's node, whose program is at ``path``."""
    return EvmProgram(EvmKind.ANVIL, (str(path), "--order", "fifo"))


def anvil_in(node_modules: Path) -> Path:
    """Returns where npm's ``@foundry-rs/anvil`` has the program for this machine."""
    machine = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
    package = f"anvil-{platform.system().lower()}-{machine}"
    return node_modules / "@foundry-rs" / package / "bin" / "anvil"


def py_evm() -> EvmProgram:
    """Returns the node that ships with the package. Raises: NoEvm: py-evm is not installed."""
    try:
        version("py-evm")
    except PackageNotFoundError as exc:
        raise NoEvm(f"there is no EVM for a local chain: {_HINT}") from exc
    module = "lpnode.command.local_chain.py_evm_server"
    # -P: the working directory may be a source tree without the compiled modules.
    return EvmProgram(EvmKind.PY_EVM, (sys.executable, "-P", "-m", module))


@contextmanager
def running(program: EvmProgram) -> Iterator[EvmProcess]:
    """Runs a node until the end of the block.

    Start it in a thread that lives as long as the block: its end may end the node too.
    Raises: NoEvm: it did not start; with its last words.
    """
    with tempfile.TemporaryDirectory(prefix="lpnode-evm-") as name:
        folder = Path(name)
        log_path, accounts_path = folder / "log", folder / "accounts.json"
        command = [*program.command, "--host", "127.0.0.1", "--port", "0"]
        command += ["--chain-id", str(CHAIN_ID), "--number", str(GENESIS_NUMBER)]
        command += ["--config-out", str(accounts_path)]
        with log_path.open("wb") as log:
            # Ctrl-C in the terminal is for this process; it ends the node in its turn.
            process = subprocess.Popen(
                ended_with_parent(command), stdout=log, stderr=log, start_new_session=True
            )
        try:
            port = _port(process, lambda: log_path.read_text(errors="replace"))
            yield EvmProcess(program.kind, port, _accounts(accounts_path))
        finally:
            _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(timeout=_STOP_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _port(process: subprocess.Popen[bytes], read_log: Callable[[], str]) -> int:
    deadline = time.monotonic() + _START_S
    while time.monotonic() < deadline:
        has_ended = process.poll() is not None
        found = re.search(r"Listening on 127\.0\.0\.1:(\d+)", read_log())
        if found:
            return int(found[1])
        if has_ended:
            raise NoEvm(f"the local chain's node ended with {process.returncode}:\n{read_log()}")
        time.sleep(_POLL_S)
    raise NoEvm(f"the local chain's node did not start in {_START_S:g} s:\n{read_log()}")


def _accounts(path: Path) -> tuple[EvmAccount, ...]:
    found = json.loads(path.read_text())
    return tuple(
        EvmAccount(parse_address(address), bytes.fromhex(key[2:]))
        for address, key in zip(found["available_accounts"], found["private_keys"], strict=True)
    )
