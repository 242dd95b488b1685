"""The requests of ``eth_*`` that the node makes, with their answers checked and typed.

Source: Ethereum JSON-RPC specification; payments.md 5.5 for ``l1BlockNumber``.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from lpnode.chain.hex_values import data, quantity, to_data, to_quantity
from lpnode.chain.rpc import JsonRpc
from lpnode.errors import ChainError, RpcRefused
from lpnode.protocol.ethereum import ADDRESS_BYTES, Address

HASH_BYTES = 32
_METHOD_NOT_FOUND = -32601

Block = int | bytes | str
"""A number, a hash of 32 bytes, or a tag such as ``latest``."""


@dataclass(frozen=True, slots=True)
class Header:
    """What the node reads of a block. Hashes have 32 bytes."""

    number: int
    hash: bytes
    parent_hash: bytes
    l1_number: int
    """On an L2 the L1 block that ``block.number`` gives inside contracts; on L1 its own number."""
    base_fee_wei: int | None
    """None before EIP-1559."""


@dataclass(frozen=True, slots=True)
class Log:
    """An event as a contract emitted it. Hashes and topics have 32 bytes."""

    address: Address
    topics: tuple[bytes, ...]
    data: bytes
    block_number: int
    block_hash: bytes
    transaction_hash: bytes
    index: int
    """Place among all logs of the block."""


@dataclass(frozen=True, slots=True)
class Receipt:
    """What became of a transaction that was mined."""

    transaction_hash: bytes
    block_number: int
    block_hash: bytes
    is_success: bool
    gas_used: int
    gas_price_wei: int
    """Paid for each unit of gas, all fees included."""
    logs: tuple[Log, ...]


class Eth:
    """Typed requests; every one may raise ``ChainError``."""

    def __init__(self, rpc: JsonRpc) -> None:
        self._rpc = rpc

    async def header(self, block: Block = "latest") -> Header | None:
        """Returns a block's header, or None if the node does not know the block."""
        method = "eth_getBlockByHash" if isinstance(block, bytes) else "eth_getBlockByNumber"
        name = to_data(block) if isinstance(block, bytes) else _block_name(block)
        found = await self._rpc.request(method, name, False)
        return None if found is None else _header(_mapping(found, "a block"))

    async def head(self) -> Header:
        """Returns the newest block's header."""
        header = await self.header("latest")
        if header is None:
            raise ChainError("the node has no newest block")
        return header

    async def call(self, to: Address, calldata: bytes, block: Block = "latest") -> bytes:
        """Runs a contract function without a transaction. Raises: CallReverted."""
        request = {"to": to_data(to), "data": to_data(calldata)}
        answer = await self._rpc.request("eth_call", request, _block_parameter(block))
        return data(answer, "the result of a call")

    async def logs(
        self,
        addresses: Sequence[Address],
        topics: Sequence[bytes],
        from_block: int,
        to_block: int,
    ) -> tuple[Log, ...]:
        """Returns the events of ``addresses`` whose first topic is one of ``topics``, in order.

        Both block numbers are included.
        """
        found = await self._rpc.request(
            "eth_getLogs",
            {
                "address": [to_data(address) for address in addresses],
                "topics": [[to_data(topic) for topic in topics]],
                "fromBlock": to_quantity(from_block),
                "toBlock": to_quantity(to_block),
            },
        )
        if not isinstance(found, list):
            raise ChainError(f"logs must be a list, got {type(found).__name__}")
        logs = tuple(_log(_mapping(item, "a log")) for item in found)
        wanted = {(topic,) for topic in topics}
        for log in logs:
            if log.address not in addresses or log.topics[:1] not in wanted:
                raise ChainError("the endpoint returned a log that was not asked for")
        return logs

    async def gas_price(self) -> int:
        """Wei for a unit of gas that the node would pay."""
        return quantity(await self._rpc.request("eth_gasPrice"), "the gas price")

    async def priority_fee(self) -> int | None:
        """The tip, in wei for a unit of gas, that the node would pay; None: it cannot say."""
        try:
            answer = await self._rpc.request("eth_maxPriorityFeePerGas")
        except RpcRefused as exc:
            if exc.code == _METHOD_NOT_FOUND:
                return None
            raise
        return quantity(answer, "the priority fee")

    async def estimate_gas(
        self, sender: Address, to: Address, calldata: bytes, value_wei: int = 0
    ) -> int:
        """Gas a transaction would need now. Raises: CallReverted: it would fail."""
        request = {
            "from": to_data(sender),
            "to": to_data(to),
            "data": to_data(calldata),
            "value": to_quantity(value_wei),
        }
        return quantity(await self._rpc.request("eth_estimateGas", request), "a gas estimate")

    async def send(self, raw_transaction: bytes) -> None:
        """Hands a signed transaction to the network. The same one may be sent again.

        Raises: RpcRefused: also when the node has it already.
        """
        await self._rpc.request("eth_sendRawTransaction", to_data(raw_transaction))

    async def is_known(self, transaction_hash: bytes) -> bool:
        """Whether a transaction is mined or waits in the node's pool."""
        return (
            await self._rpc.request("eth_getTransactionByHash", to_data(transaction_hash))
            is not None
        )

    async def receipt(self, transaction_hash: bytes) -> Receipt | None:
        """Returns the receipt of a transaction, or None while it is not mined."""
        found = await self._rpc.request("eth_getTransactionReceipt", to_data(transaction_hash))
        return None if found is None else _receipt(_mapping(found, "a receipt"))

    async def transaction_count(self, address: Address, block: Block = "latest") -> int:
        """The next nonce of an account; with ``pending``, after what waits in the node's pool."""
        answer = await self._rpc.request(
            "eth_getTransactionCount", to_data(address), _block_name(block)
        )
        return quantity(answer, "a transaction count")

    async def balance(self, address: Address, block: Block = "latest") -> int:
        """Wei of an account."""
        answer = await self._rpc.request("eth_getBalance", to_data(address), _block_name(block))
        return quantity(answer, "a balance")

    async def chain_id(self) -> int:
        """Number of the chain that transactions are signed for."""
        return quantity(await self._rpc.request("eth_chainId"), "the chain id")


def _block_name(block: Block) -> str:
    if isinstance(block, bytes):
        return to_data(block)
    return to_quantity(block) if isinstance(block, int) else block


def _block_parameter(block: Block) -> object:
    # By hash a node fails instead of answering from another fork. Source: EIP-1898.
    return {"blockHash": to_data(block)} if isinstance(block, bytes) else _block_name(block)


def _mapping(value: object, what: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ChainError(f"{what} must be an object, got {type(value).__name__}")
    return value


def _header(found: dict[str, Any]) -> Header:
    number = quantity(found.get("number"), "a block number")
    l1_number = found.get("l1BlockNumber")
    base_fee = found.get("baseFeePerGas")
    return Header(
        number=number,
        hash=data(found.get("hash"), "a block hash", HASH_BYTES),
        parent_hash=data(found.get("parentHash"), "a parent hash", HASH_BYTES),
        l1_number=number if l1_number is None else quantity(l1_number, "an L1 block number"),
        base_fee_wei=None if base_fee is None else quantity(base_fee, "a base fee"),
    )


def _log(found: dict[str, Any]) -> Log:
    topics = found.get("topics")
    if not isinstance(topics, list):
        raise ChainError(f"topics must be a list, got {type(topics).__name__}")
    return Log(
        address=Address(data(found.get("address"), "a log's address", ADDRESS_BYTES)),
        topics=tuple(data(topic, "a topic", HASH_BYTES) for topic in topics),
        data=data(found.get("data"), "a log's data"),
        block_number=quantity(found.get("blockNumber"), "a log's block number"),
        block_hash=data(found.get("blockHash"), "a log's block hash", HASH_BYTES),
        transaction_hash=data(found.get("transactionHash"), "a log's transaction", HASH_BYTES),
        index=quantity(found.get("logIndex"), "a log's index"),
    )


def _receipt(found: dict[str, Any]) -> Receipt:
    logs = found.get("logs")
    if not isinstance(logs, list):
        raise ChainError(f"a receipt's logs must be a list, got {type(logs).__name__}")
    return Receipt(
        transaction_hash=data(found.get("transactionHash"), "a transaction hash", HASH_BYTES),
        block_number=quantity(found.get("blockNumber"), "a receipt's block number"),
        block_hash=data(found.get("blockHash"), "a receipt's block hash", HASH_BYTES),
        is_success=quantity(found.get("status"), "a receipt's status") == 1,
        gas_used=quantity(found.get("gasUsed"), "gas used"),
        gas_price_wei=quantity(found.get("effectiveGasPrice"), "a gas price"),
        logs=tuple(_log(_mapping(item, "a log")) for item in logs),
    )
