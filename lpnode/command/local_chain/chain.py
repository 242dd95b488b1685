"""The local chain: contracts deployed, a round begun, and what can be done to it.

It starts in round 11, just initialised, with no transcoder in the pool, no sender with funds, and a
block mined for each transaction. Blocks have no ``l1BlockNumber``: as on L1, the block's own number
counts.
"""

import http.client
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from lpnode.chain.hex_values import quantity, to_data, to_quantity
from lpnode.chain.revert import revert_reason
from lpnode.command.local_chain.contracts import creation_code
from lpnode.command.local_chain.evm_process import (
    CHAIN_ID,
    GENESIS_NUMBER,
    EvmProcess,
    EvmProgram,
    find_evm,
    running,
)
from lpnode.errors import CallReverted, RpcRefused, TransactionReverted, TransactionTimedOut
from lpnode.protocol.ethereum import Address
from lpnode.protocol.keccak import keccak256

ROUND_BLOCKS = 100
FIRST_ROUND = 11
ETHER = 10**18
ETH_USD = 3000
BASE_FEE_WEI = 10**9
_ANSWER_S = 30
_MINING_S = 10.0
_POLL_S = 0.001
NAMES = ("TicketBroker", "RoundsManager", "BondingManager", "ServiceRegistry", "Minter")
"""What the Controller knows."""


class LocalChain:
    """The chain behind a node on loopback. Amounts are in wei.

    Methods wait for the node, milliseconds each, and may be called from any thread. All of them may
    raise ``RpcRefused`` with the node's message.
    """

    def __init__(self, process: EvmProcess) -> None:
        """Deploys the contracts and begins the first round."""
        self.url = f"http://127.0.0.1:{process.port}"
        self.chain_id = CHAIN_ID
        self.kind = process.kind
        self.accounts = process.accounts
        self.owner = process.accounts[9]
        self.first_block_number = GENESIS_NUMBER
        self._is_held_back = False
        self._lock = threading.Lock()
        self._http = http.client.HTTPConnection("127.0.0.1", process.port, timeout=_ANSWER_S)
        self.controller = self._deploy("Controller")
        self.contracts = {
            name: self._deploy(name, *self._constructor_arguments(name)) for name in NAMES
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
        return quantity(self.rpc("eth_blockNumber"), "the block number")

    @property
    def last_initialized_round(self) -> int:
        """The newest round that somebody initialised."""
        return self.call_uint(self.rounds_manager, "lastInitializedRound()")

    def rpc(self, method: str, *params: Any) -> Any:
        """Sends one JSON-RPC request. Raises: RpcRefused, CallReverted."""
        body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params})
        with self._lock:
            self._http.request("POST", "/", body, {"Content-Type": "application/json"})
            answer = json.loads(self._http.getresponse().read())
        if "error" not in answer:
            return answer["result"]
        code, message = answer["error"]["code"], answer["error"]["message"]
        details = answer["error"].get("data")
        reason = revert_reason(details, message)
        if reason is not None:
            text = f"{method}: {reason or message}"
            raise CallReverted(text, code=code, reason=reason, data=details)
        raise RpcRefused(f"{method}: {message}", code=code, data=details)

    def call(self, to: Address, signature: str, *arguments: Any) -> bytes:
        """Runs a view function, such as ``"usedTickets(bytes32)"``, at the newest block."""
        request = {"to": to_data(to), "data": to_data(_calldata(signature, arguments))}
        return bytes.fromhex(self.rpc("eth_call", request, "latest")[2:])

    def call_uint(self, to: Address, signature: str, *arguments: Any) -> int:
        """Runs a view function that returns one word."""
        return int.from_bytes(self.call(to, signature, *arguments), "big")

    def send(
        self, sender: Address, to: Address, signature: str, *arguments: Any, value_wei: int = 0
    ) -> dict[str, Any]:
        """Sends a transaction from one of ``accounts`` and returns its receipt.

        Raises: CallReverted: the contract declined, and nothing was sent. TransactionReverted: it
        declined when the transaction was mined.
        """
        return self._transact(sender, _calldata(signature, arguments), to, value_wei)

    def receipt(self, transaction: str) -> dict[str, Any]:
        """Waits for the receipt of a transaction: a node may answer before it has mined.

        Raises: TransactionTimedOut: it was not mined in ten seconds.
        """
        deadline = time.monotonic() + _MINING_S
        while time.monotonic() < deadline:
            receipt: dict[str, Any] | None = self.rpc("eth_getTransactionReceipt", transaction)
            if receipt is not None:
                return receipt
            time.sleep(_POLL_S)
        raise TransactionTimedOut(f"transaction {transaction} was not mined in {_MINING_S:g} s")

    def mine(self, num_blocks: int = 1) -> None:
        """Mines blocks, without transactions unless some wait."""
        self.rpc("anvil_mine", to_quantity(num_blocks))

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
        return quantity(self.rpc("eth_getBalance", to_data(address), "latest"), "a balance")

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
            self.rpc("evm_revert", before)
            # A snapshot leaves this out.
            self._set_next_base_fee()

    def close(self) -> None:
        """Ends the connection to the node."""
        self._http.close()

    def _set_next_base_fee(self) -> None:
        self.rpc("anvil_setNextBlockBaseFeePerGas", to_quantity(BASE_FEE_WEI))

    def _constructor_arguments(self, name: str) -> tuple[tuple[str, Any], ...]:
        if name == "ServiceRegistry":
            return ()
        controller = ("address", self.controller)
        return (controller, ("uint256", ROUND_BLOCKS)) if name == "RoundsManager" else (controller,)

    def _deploy(self, name: str, *arguments: tuple[str, Any]) -> Address:
        # Half a second to import, also for tests that have no chain.
        from eth_abi.abi import encode

        code = creation_code()[name]
        code += encode([kind for kind, _ in arguments], [value for _, value in arguments])
        receipt = self._transact(self.owner.address, code)
        return Address(bytes.fromhex(receipt["contractAddress"][2:]))

    def _transact(
        self, sender: Address, data: bytes, to: Address | None = None, value_wei: int = 0
    ) -> dict[str, Any]:
        request = {"from": to_data(sender), "data": to_data(data), "value": to_quantity(value_wei)}
        if to is not None:
            request["to"] = to_data(to)
        gas = quantity(self.rpc("eth_estimateGas", request, "pending"), "a gas estimate")
        # A second may pass until it is mined, and a contract that keeps the time needs more then.
        request["gas"] = to_quantity(gas + gas // 5)
        transaction = self.rpc("eth_sendTransaction", request)
        if self._is_held_back:
            self.mine()
        receipt = self.receipt(transaction)
        if receipt["status"] != "0x1":
            raise TransactionReverted(f"transaction {transaction} was reverted")
        return receipt


@contextmanager
def running_chain(program: EvmProgram | None = None) -> Iterator[LocalChain]:
    """Runs a chain of its own until the end of the block.

    ``program``: None takes what ``find_evm`` finds. Raises: NoEvm: there is none, or it did not
    start.
    """
    with running(program or find_evm()) as process:
        chain = LocalChain(process)
        try:
            yield chain
        finally:
            chain.close()


def _calldata(signature: str, arguments: tuple[Any, ...]) -> bytes:
    # It imports eth_abi.
    from lpnode.chain.abi import Function

    return Function(signature).encode(*arguments)
