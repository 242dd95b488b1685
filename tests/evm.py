"""A real chain for tests: anvil on loopback with the Livepeer contracts deployed.

The fixture ``evm`` gives every test the same fresh state: round 11 just initialised, no transcoder
in the pool, no sender with funds, a block mined for each transaction. What a test does is undone
after it. Blocks have no ``l1BlockNumber``: as on L1, the block's own number counts.

Without npm the tests are skipped and the summary says so; ``LPNODE_REQUIRE_EVM=1`` turns the skip
into a failure.
"""

import http.client
import json
import os
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from evm_tools import NoEvmTools, anvil_path, compiled_contracts

from lpnode.protocol.ethereum import Address
from lpnode.protocol.keccak import keccak256

CHAIN_ID = 31337
ROUND_BLOCKS = 100
FIRST_ROUND = 11
ETHER = 10**18
ETH_USD = 3000
BASE_FEE_WEI = 10**9
_START_TIMEOUT_S = 20.0
_MINING_TIMEOUT_S = 10.0
_NAMES = (
    "TicketBroker",
    "RoundsManager",
    "BondingManager",
    "ServiceRegistry",
    "Minter",
)
_skipped: list[str] = []


class CallFailed(Exception):
    """The node refused a request or a transaction was reverted; the text has the reason."""


@dataclass(frozen=True, slots=True)
class EvmAccount:
    """One of ten accounts with 10,000 ether. ``private_key`` has 32 bytes."""

    address: Address
    private_key: bytes


class Evm:
    """The chain and what a test may do to it. Amounts are in wei."""

    def __init__(self, port: int, accounts: tuple[EvmAccount, ...]) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self.chain_id = CHAIN_ID
        self.accounts = accounts
        self.owner = accounts[9]
        self._is_held_back = False
        self._http = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        self.controller = self._deploy("Controller")
        self.contracts = {
            name: self._deploy(name, *self._constructor_arguments(name)) for name in _NAMES
        }
        for name, address in self.contracts.items():
            self.send(
                self.owner.address,
                self.controller,
                "setContractInfo(bytes32,address,bytes20)",
                keccak256(name.encode()),
                address,
                bytes(20),
            )
        self.ticket_broker = self.contracts["TicketBroker"]
        self.rounds_manager = self.contracts["RoundsManager"]
        self.bonding_manager = self.contracts["BondingManager"]
        self.service_registry = self.contracts["ServiceRegistry"]
        self.price_feed = self._deploy(
            "PriceFeed", ("string", "ETH / USD"), ("uint8", 8), ("int256", ETH_USD * 10**8)
        )
        self.mine(FIRST_ROUND * ROUND_BLOCKS - 1 - self.block_number)
        # It fell to almost nothing over the empty blocks.
        self._set_next_base_fee()
        self.initialize_round()
        self._set_next_base_fee()

    @property
    def block_number(self) -> int:
        """Number of the newest block."""
        return int(self.rpc("eth_blockNumber"), 16)

    @property
    def last_initialized_round(self) -> int:
        """The newest round that somebody initialised."""
        return self.call_uint(self.rounds_manager, "lastInitializedRound()")

    def rpc(self, method: str, *params: Any) -> Any:
        """Sends one JSON-RPC request. Raises: CallFailed: the node's message."""
        body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params})
        self._http.request("POST", "/", body, {"Content-Type": "application/json"})
        answer = json.loads(self._http.getresponse().read())
        if "error" in answer:
            raise CallFailed(f"{method}: {answer['error']['message']}")
        return answer["result"]

    def call(self, to: Address, signature: str, *arguments: Any) -> bytes:
        """Runs a view function, such as ``"usedTickets(bytes32)"``, at the newest block."""
        request = {"to": _hex(to), "data": _hex(_calldata(signature, arguments))}
        return bytes.fromhex(self.rpc("eth_call", request, "latest")[2:])

    def call_uint(self, to: Address, signature: str, *arguments: Any) -> int:
        """Runs a view function that returns one word."""
        return int.from_bytes(self.call(to, signature, *arguments), "big")

    def send(
        self, sender: Address, to: Address, signature: str, *arguments: Any, value_wei: int = 0
    ) -> dict[str, Any]:
        """Sends a transaction from one of ``accounts`` and returns its receipt.

        Raises: CallFailed: it was reverted.
        """
        return self._transact(sender, _calldata(signature, arguments), to, value_wei)

    def receipt(self, transaction: str) -> dict[str, Any]:
        """Waits for the receipt of a transaction: the node answers before it has mined.

        Raises: CallFailed: it was not mined in time.
        """
        deadline = time.monotonic() + _MINING_TIMEOUT_S
        while time.monotonic() < deadline:
            receipt: dict[str, Any] | None = self.rpc("eth_getTransactionReceipt", transaction)
            if receipt is not None:
                return receipt
            time.sleep(0.005)
        raise CallFailed(f"transaction {transaction} was not mined")

    def mine(self, num_blocks: int = 1) -> None:
        """Mines blocks, without transactions unless some wait."""
        self.rpc("anvil_mine", hex(num_blocks))

    def initialize_round(self) -> int:
        """Initialises the current round and returns it."""
        self.send(self.owner.address, self.rounds_manager, "initializeRound()")
        return self.last_initialized_round

    def next_round(self) -> int:
        """Mines up to the next round, initialises it and returns it."""
        self.mine(ROUND_BLOCKS - self.block_number % ROUND_BLOCKS - 1)
        return self.initialize_round()

    def activate(self, transcoder: Address, stake: int = 1) -> None:
        """Puts an orchestrator into the pool; it is active from the next round on."""
        self.send(
            self.owner.address,
            self.bonding_manager,
            "activate(address,uint256)",
            transcoder,
            stake,
        )

    def fund(self, sender: Address, *, deposit_wei: int = 0, reserve_wei: int = 0) -> None:
        """Adds to the deposit and reserve of one of ``accounts``."""
        self.send(
            sender,
            self.ticket_broker,
            "fundDepositAndReserve(uint256,uint256)",
            deposit_wei,
            reserve_wei,
            value_wei=deposit_wei + reserve_wei,
        )

    def pending_fees(self, transcoder: Address) -> int:
        """What redeemed tickets have earned the orchestrator and it has not withdrawn."""
        return self.call_uint(
            self.bonding_manager, "pendingFees(address,uint256)", transcoder, 2**256 - 1
        )

    def balance(self, address: Address) -> int:
        """Ether of an account."""
        return int(self.rpc("eth_getBalance", _hex(address), "latest"), 16)

    @contextmanager
    def held_back(self) -> Iterator[None]:
        """Transactions stay in the pool until ``mine`` is called."""
        self.rpc("evm_setAutomine", False)
        self._is_held_back = True
        try:
            yield
        finally:
            self._is_held_back = False
            self.rpc("evm_setAutomine", True)

    @contextmanager
    def undone(self) -> Iterator[None]:
        """Everything done to the chain in here is taken back at the end."""
        before = self.rpc("evm_snapshot")
        try:
            yield
        finally:
            self.rpc("anvil_dropAllTransactions")
            assert self.rpc("evm_revert", before)
            # A snapshot leaves this out.
            self._set_next_base_fee()

    def close(self) -> None:
        """Ends the connection to the node."""
        self._http.close()

    def _set_next_base_fee(self) -> None:
        self.rpc("anvil_setNextBlockBaseFeePerGas", hex(BASE_FEE_WEI))

    def _constructor_arguments(self, name: str) -> tuple[tuple[str, Any], ...]:
        if name == "ServiceRegistry":
            return ()
        controller = ("address", self.controller)
        return (controller, ("uint256", ROUND_BLOCKS)) if name == "RoundsManager" else (controller,)

    def _deploy(self, name: str, *arguments: tuple[str, Any]) -> Address:
        code = bytes.fromhex(compiled_contracts()[name]["evm"]["bytecode"]["object"])
        code += _encoded([kind for kind, _ in arguments], [value for _, value in arguments])
        receipt = self._transact(self.owner.address, code)
        return Address(bytes.fromhex(receipt["contractAddress"][2:]))

    def _transact(
        self, sender: Address, data: bytes, to: Address | None = None, value_wei: int = 0
    ) -> dict[str, Any]:
        request = {"from": _hex(sender), "data": _hex(data), "value": hex(value_wei)}
        if to is not None:
            request["to"] = _hex(to)
        transaction = self.rpc("eth_sendTransaction", request)
        if self._is_held_back:
            self.mine()
        receipt = self.receipt(transaction)
        if receipt["status"] != "0x1":
            # Run once more on the state it met, for the reason: a receipt has none.
            self.rpc("eth_call", request, hex(int(receipt["blockNumber"], 16) - 1))
            raise CallFailed(f"transaction {transaction} was reverted")
        return receipt


@contextmanager
def running_evm() -> Iterator[Evm]:
    """Runs a node of its own until the end of the block. Raises: NoEvmTools."""
    with tempfile.TemporaryDirectory() as folder, open(Path(folder) / "log", "w+") as log:
        accounts = Path(folder) / "accounts.json"
        command: list[str | Path] = [
            anvil_path(),
            "--host",
            "127.0.0.1",
            "--port",
            "0",
            "--order",
            "fifo",
        ]
        command += ["--chain-id", str(CHAIN_ID), "--number", "1000", "--config-out", accounts]
        compiled_contracts()
        if shutil.which("setpriv") is not None:
            # It ends with the tests even if they are killed.
            command = ["setpriv", "--pdeathsig", "TERM", *command]
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
        try:
            port = _port(process, lambda: (Path(folder) / "log").read_text())
            evm = Evm(port, _accounts(accounts))
            try:
                yield evm
            finally:
                evm.close()
        finally:
            process.terminate()
            try:
                process.wait(timeout=5)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


@contextmanager
def _running_or_skipped() -> Iterator[Evm]:
    try:
        with running_evm() as evm:
            yield evm
    except NoEvmTools as exc:
        if os.environ.get("LPNODE_REQUIRE_EVM") == "1":
            pytest.fail(f"no chain to test on: {exc}")
        _skipped.append(str(exc))
        pytest.skip(f"no chain to test on: {exc}")


@pytest.fixture(scope="session")
def evm_process() -> Iterator[Evm]:
    """The one node of this run; tests use ``evm``."""
    with _running_or_skipped() as evm:
        yield evm


@pytest.fixture
def own_evm() -> Iterator[Evm]:
    """A node for this test alone: what ``anvil_reorg`` did, a snapshot cannot undo."""
    with _running_or_skipped() as evm:
        yield evm


@pytest.fixture
def evm(evm_process: Evm) -> Iterator[Evm]:
    """The chain in its fresh state."""
    with evm_process.undone():
        yield evm_process


def report_missing_evm(write_line: Callable[..., Any]) -> None:
    """Says at the end of a run that nothing was tried on a chain, if so."""
    if _skipped:
        write_line(
            f"NOTHING WAS TESTED ON A CHAIN: {_skipped[0]}. Install Node.js with npm.",
            red=True,
            bold=True,
        )


def _port(process: subprocess.Popen[bytes], read_log: Callable[[], str]) -> int:
    deadline = time.monotonic() + _START_TIMEOUT_S
    while time.monotonic() < deadline and process.poll() is None:
        found = re.search(r"Listening on 127\.0\.0\.1:(\d+)", read_log())
        if found:
            return int(found[1])
        time.sleep(0.02)
    raise NoEvmTools(f"anvil did not start: {read_log()}")


def _accounts(path: Path) -> tuple[EvmAccount, ...]:
    found = json.loads(path.read_text())
    return tuple(
        EvmAccount(Address(bytes.fromhex(address[2:])), bytes.fromhex(key[2:]))
        for address, key in zip(found["available_accounts"], found["private_keys"], strict=True)
    )


def _calldata(signature: str, arguments: tuple[Any, ...]) -> bytes:
    kinds = signature[signature.index("(") + 1 : -1]
    return keccak256(signature.encode())[:4] + _encoded(
        kinds.split(",") if kinds else [], arguments
    )


def _encoded(kinds: list[str], values: Any) -> bytes:
    # Not needed by tests that have no chain, and slow to import.
    from eth_abi import encode

    return encode(kinds, list(values))


def _hex(raw: bytes) -> str:
    return "0x" + raw.hex()
