"""The local chain for tests: anvil where there is npm, else py-evm.

The fixture ``evm`` gives every test the same fresh state; what a test does is undone after it. A
module whose ``evm`` is ``py_evm_chain`` runs on py-evm although there is anvil.

``LPNODE_TEST_EVM=anvil`` or ``py-evm`` chooses one. Where there is none the tests are skipped and
the summary says so; ``LPNODE_REQUIRE_EVM=1`` turns the skip into a failure.
"""

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from evm_tools import NoEvmTools, anvil_path

from lpnode.command.local_chain.chain import (
    BASE_FEE_WEI,
    ETH_USD,
    ETHER,
    FIRST_ROUND,
    ROUND_BLOCKS,
    running_chain,
)
from lpnode.command.local_chain.chain import LocalChain as Evm
from lpnode.command.local_chain.evm_process import (
    CHAIN_ID,
    EvmAccount,
    EvmKind,
    EvmProgram,
    anvil,
    py_evm,
)
from lpnode.errors import NoEvm

__all__ = [
    "BASE_FEE_WEI",
    "CHAIN_ID",
    "ETHER",
    "ETH_USD",
    "FIRST_ROUND",
    "ROUND_BLOCKS",
    "Evm",
    "EvmAccount",
]

_skipped: list[str] = []
_notes: list[str] = []


def evm_of_this_run() -> EvmProgram:
    """What this run uses. Raises: NoEvm, NoEvmTools."""
    wanted = os.environ.get("LPNODE_TEST_EVM")
    if wanted:
        note = f"The chain was {wanted}, as LPNODE_TEST_EVM says."
        program = _anvil() if EvmKind(wanted) is EvmKind.ANVIL else py_evm()
    else:
        try:
            return _anvil()
        except NoEvmTools as no_anvil:
            note = f"The chain was py-evm, not anvil: {no_anvil}."
            program = _py_evm_instead(no_anvil)
    if note not in _notes:
        _notes.append(note)
    return program


def _anvil() -> EvmProgram:
    """The version from npm before another one."""
    try:
        return anvil(anvil_path())
    except NoEvmTools:
        found = shutil.which("anvil")
        if found is None:
            raise
        return anvil(Path(found))


def _py_evm_instead(no_anvil: NoEvmTools) -> EvmProgram:
    try:
        return py_evm()
    except NoEvm as no_py_evm:
        raise NoEvm(f"{no_anvil}, and {no_py_evm}") from no_py_evm


@contextmanager
def skipped_without_evm() -> Iterator[None]:
    """Skips the test, or fails if a chain is required, when there is none."""
    try:
        yield
    except (NoEvm, NoEvmTools) as exc:
        if os.environ.get("LPNODE_REQUIRE_EVM") == "1":
            pytest.fail(f"no chain to test on: {exc}")
        if str(exc) not in _skipped:
            _skipped.append(str(exc))
        pytest.skip(f"no chain to test on: {exc}")


@contextmanager
def _running_or_skipped(find: Callable[[], EvmProgram]) -> Iterator[Evm]:
    with ExitStack() as stack:
        with skipped_without_evm():
            chain = stack.enter_context(running_chain(find()))
        yield chain


@pytest.fixture(scope="session")
def evm_process() -> Iterator[Evm]:
    """The one node of this run; tests use ``evm``."""
    with _running_or_skipped(evm_of_this_run) as evm:
        yield evm


@pytest.fixture
def own_evm() -> Iterator[Evm]:
    """A node for this test alone: what ``anvil_reorg`` did, a snapshot cannot undo."""
    with _running_or_skipped(evm_of_this_run) as evm:
        yield evm


@pytest.fixture
def evm(evm_process: Evm) -> Iterator[Evm]:
    """The chain in its fresh state."""
    with evm_process.undone():
        yield evm_process


@pytest.fixture(scope="session")
def py_evm_process() -> Iterator[Evm]:
    """A node on py-evm; tests use ``py_evm_chain``."""
    with _running_or_skipped(py_evm) as evm:
        yield evm


@pytest.fixture
def py_evm_chain(py_evm_process: Evm) -> Iterator[Evm]:
    """The chain on py-evm in its fresh state."""
    with py_evm_process.undone():
        yield py_evm_process


def report_missing_evm(write_line: Callable[..., Any]) -> None:
    """Says at the end of a run on which chain it was, if not on anvil, and what was not tried."""
    for note in _notes:
        write_line(note, yellow=True, bold=True)
    for reason in _skipped:
        write_line(
            f"TESTS SKIPPED FOR WANT OF A CHAIN: {reason}. Install Node.js with npm.",
            red=True,
            bold=True,
        )
