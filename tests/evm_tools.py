"""The Ethereum node and the compiled contracts that tests run, got from npm once and kept.

``LPNODE_EVM_TOOLS`` names a folder whose ``node_modules`` has them already. Otherwise, where there
is an npm, they are installed into the user's cache; the versions are those of
``tests/contracts/package.json``.
"""

import contextlib
import functools
import hashlib
import json
import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from lpnode.command.local_chain.evm_process import anvil_in

CONTRACTS = Path(__file__).parent / "contracts"
_MANIFEST = CONTRACTS / "package.json"
_INSTALL_TIMEOUT_S = 300.0
_COMPILE_TIMEOUT_S = 100.0


class NoEvmTools(Exception):
    """The node or the compiler cannot be had here; says why."""


@functools.cache
def anvil_path() -> Path:
    """Returns the node's program. Raises: NoEvmTools."""
    path = anvil_in(_modules())
    if not path.is_file():
        raise NoEvmTools(f"npm has no anvil for this machine: there is no {path}")
    return path


def solc_version() -> str:
    """The compiler that the contracts are written for."""
    version: str = json.loads(_MANIFEST.read_text())["dependencies"]["solc"]
    return version


def solc_task() -> str:
    """What the compiler is asked, in its standard JSON."""
    sources = {path.name: path.read_text() for path in sorted(CONTRACTS.glob("*.sol"))}
    return json.dumps(
        {
            "language": "Solidity",
            "sources": {name: {"content": text} for name, text in sources.items()},
            "settings": {
                "optimizer": {"enabled": True, "runs": 200},
                # What every anvil and py-evm can run.
                "evmVersion": "shanghai",
                # Without a hash of the sources, which would change with each comment.
                "metadata": {"appendCBOR": False},
                "outputSelection": {"*": {"*": ["abi", "evm.bytecode.object"]}},
            },
        }
    )


@functools.cache
def compiled_contracts() -> dict[str, dict[str, Any]]:
    """Returns, by contract name, what solc says of each. Raises: NoEvmTools."""
    task = solc_task()
    modules = _modules()
    kept = _cache() / f"contracts-{_digest(task + _MANIFEST.read_text())}.json"
    if not kept.exists():
        answer = _compile(modules / "solc" / "solc.js", task)
        complaints = [error["formattedMessage"] for error in answer.get("errors", ())]
        assert not complaints, "\n".join(complaints)
        contracts = {
            name: contract
            for file in answer["contracts"].values()
            for name, contract in file.items()
            if contract["evm"]["bytecode"]["object"]
        }
        _write_whole(kept, json.dumps(contracts))
    loaded: dict[str, dict[str, Any]] = json.loads(kept.read_text())
    return loaded


def _compile(program: Path, task: str) -> dict[str, Any]:
    # Into a file: the compiler leaves before a pipe has taken all of its answer.
    with tempfile.TemporaryFile("w+") as output:
        done = subprocess.run(
            ["node", program, "--standard-json"],
            input=task,
            stdout=output,
            stderr=subprocess.PIPE,
            text=True,
            timeout=_COMPILE_TIMEOUT_S,
            check=False,
        )
        output.seek(0)
        text = output.read()
    # It may also print a remark of its own before the answer.
    if done.returncode or "{" not in text:
        raise NoEvmTools(f"solc failed: {text}{done.stderr}")
    answer: dict[str, Any] = json.loads(text[text.index("{") :])
    return answer


@functools.cache
def _modules() -> Path:
    given = os.environ.get("LPNODE_EVM_TOOLS")
    if given:
        folder = Path(given) / "node_modules"
        if not folder.is_dir():
            raise NoEvmTools(f"LPNODE_EVM_TOOLS={given} has no node_modules")
    else:
        folder = _installed()
    if shutil.which("node") is None:
        raise NoEvmTools("node is not on PATH")
    return folder


def _installed() -> Path:
    cache = _cache() / f"npm-{_digest(_MANIFEST.read_text())}"
    folder = cache / "node_modules"
    if folder.is_dir():
        return folder
    npm = shutil.which("npm")
    if npm is None:
        raise NoEvmTools("npm is not on PATH")
    work = Path(tempfile.mkdtemp(dir=cache.parent))
    try:
        shutil.copy(_MANIFEST, work)
        done = subprocess.run(
            [npm, "install", "--silent", "--no-audit", "--no-fund", "--no-package-lock"],
            cwd=work,
            capture_output=True,
            text=True,
            timeout=_INSTALL_TIMEOUT_S,
            check=False,
        )
        if done.returncode:
            raise NoEvmTools(f"npm install failed: {done.stdout}{done.stderr}")
        # Another run may have been faster; then its folder stays.
        with contextlib.suppress(OSError):
            work.rename(cache)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return folder


def _cache() -> Path:
    root = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    folder = Path(root) / "lpnode-tests"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _write_whole(path: Path, text: str) -> None:
    """So that a run beside this one sees all of it or nothing."""
    partial = path.with_suffix(f".{os.getpid()}")
    partial.write_text(text)
    partial.rename(path)
