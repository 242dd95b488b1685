"""The JSON-RPC methods of the local chain on py-evm: what the node and its tests ask of anvil."""

from collections.abc import Callable, Mapping
from typing import Any

from lpnode.chain.eth_account import Account
from lpnode.chain.hex_values import data, quantity, to_data, to_quantity
from lpnode.command.local_chain.py_evm_chain import (
    BLOCK_GAS,
    TIP_WEI,
    Block,
    Call,
    Mined,
    PyEvmChain,
)
from lpnode.command.local_chain.py_evm_pool import RequestRefused
from lpnode.errors import ChainError

_METHOD_NOT_FOUND = -32601
_INVALID_PARAMS = -32602
_DYNAMIC_FEE_TYPE = 2


class Methods:
    """Answers requests for a chain whose accounts' keys it has."""

    def __init__(self, chain: PyEvmChain, keys: Mapping[bytes, bytes]) -> None:
        """``keys``: by address, the 32 bytes of each account that the node signs for."""
        self._chain = chain
        self._keys = keys
        self._methods: dict[str, Callable[..., Any]] = {
            "web3_clientVersion": lambda: "py-evm",
            "eth_chainId": lambda: to_quantity(chain.chain_id),
            "eth_blockNumber": lambda: to_quantity(chain.head.number),
            "eth_gasPrice": lambda: to_quantity(chain.next_base_fee_wei + TIP_WEI),
            "eth_maxPriorityFeePerGas": lambda: to_quantity(TIP_WEI),
            "eth_getBlockByNumber": self._block_by_number,
            "eth_getBlockByHash": self._block_by_hash,
            "eth_getBalance": self._balance,
            "eth_getTransactionCount": self._transaction_count,
            "eth_call": self._call,
            "eth_estimateGas": self._estimate_gas,
            "eth_sendRawTransaction": lambda raw: to_data(chain.submit(data(raw, "raw bytes"))),
            "eth_sendTransaction": self._send_transaction,
            "eth_signTransaction": lambda request: to_data(self._signed(request)),
            "eth_sign": self._sign,
            "eth_getTransactionByHash": self._transaction,
            "eth_getTransactionReceipt": self._receipt,
            "eth_getLogs": self._logs,
            "txpool_content": self._waiting,
            "evm_snapshot": lambda: to_quantity(chain.snapshot()),
            "evm_revert": lambda name: chain.revert(quantity(name, "a snapshot")),
            "evm_setAutomine": self._set_automine,
            "anvil_mine": lambda number="0x1": chain.mine(quantity(number, "a number of blocks")),
            "anvil_reorg": self._reorganise,
            "anvil_dropAllTransactions": chain.pool.clear,
            "anvil_setBalance": self._set_balance,
            "anvil_setNextBlockBaseFeePerGas": lambda wei: chain.set_next_base_fee(
                quantity(wei, "a base fee")
            ),
        }

    def answer(self, method: str, params: list[Any]) -> Any:
        """Returns the result. Raises: RequestRefused."""
        found = self._methods.get(method)
        if found is None:
            raise RequestRefused(f"the method {method} does not exist", _METHOD_NOT_FOUND)
        try:
            return found(*params)
        except (ChainError, TypeError, KeyError, AttributeError) as exc:
            raise RequestRefused(f"invalid params of {method}: {exc}", _INVALID_PARAMS) from exc

    def _named_block(self, name: Any) -> Block:
        """Reads a tag, a number, or the object that holds a hash. Source: EIP-1898."""
        block: Block | None
        if isinstance(name, dict):
            block = self._chain.block(data(name["blockHash"], "a block hash"))
        else:
            block = self._chain.block(quantity(name, "a block") if name[:2] == "0x" else name)
        if block is None:
            raise RequestRefused(f"no block is {name}")
        return block

    def _number(self, name: str) -> int:
        """Reads a number, whether or not there is such a block, or a tag."""
        return quantity(name, "a block") if name[:2] == "0x" else self._named_block(name).number

    def _block_by_number(self, name: str, _is_full: bool = False) -> Any:
        found = self._chain.block(quantity(name, "a block") if name[:2] == "0x" else name)
        return None if found is None else _block_fields(found)

    def _block_by_hash(self, name: str, _is_full: bool = False) -> Any:
        found = self._chain.block(data(name, "a block hash"))
        return None if found is None else _block_fields(found)

    def _balance(self, address: str, name: Any = "latest") -> str:
        wei = self._chain.balance(data(address, "an address", 20), self._named_block(name))
        return to_quantity(wei)

    def _transaction_count(self, address: str, name: Any = "latest") -> str:
        account = data(address, "an address", 20)
        if name == "pending":
            return to_quantity(self._chain.next_nonce(account))
        return to_quantity(self._chain.nonce(account, self._named_block(name)))

    def _call(self, request: Mapping[str, Any], name: Any = "latest") -> str:
        return to_data(self._chain.call(_call_of(request), self._named_block(name)))

    def _estimate_gas(self, request: Mapping[str, Any], _name: Any = "pending") -> str:
        return to_quantity(self._chain.estimate(_call_of(request)))

    def _send_transaction(self, request: Mapping[str, Any]) -> str:
        sender = data(request["from"], "a sender", 20)
        fees = {
            "nonce": to_quantity(self._chain.next_nonce(sender)),
            "maxFeePerGas": to_quantity(2 * self._chain.next_base_fee_wei + TIP_WEI),
            "maxPriorityFeePerGas": to_quantity(TIP_WEI),
        }
        if "gas" not in request:
            fees["gas"] = to_quantity(self._chain.estimate(_call_of(request)))
        return to_data(self._chain.submit(self._signed(fees | dict(request))))

    def _signed(self, request: Mapping[str, Any]) -> bytes:
        fields: dict[str, Any] = {
            name: quantity(text, name)
            for name, text in request.items()
            if name not in ("from", "to", "data", "input", "accessList")
        }
        fields["chainId"] = self._chain.chain_id
        fields["data"] = _calldata_of(request)
        if request.get("to"):
            fields["to"] = data(request["to"], "a recipient", 20)
        if "gasPrice" not in fields:
            fields["type"] = _DYNAMIC_FEE_TYPE
        return bytes(Account.sign_transaction(fields, self._key(request["from"])).raw_transaction)

    def _sign(self, address: str, message: str) -> str:
        from eth_account.messages import encode_defunct

        signable = encode_defunct(data(message, "a message"))
        return to_data(bytes(Account.sign_message(signable, self._key(address)).signature))

    def _key(self, address: str) -> bytes:
        key = self._keys.get(data(address, "an address", 20))
        if key is None:
            raise RequestRefused(f"no key of {address} is here")
        return key

    def _transaction(self, name: str) -> Any:
        transaction_hash = data(name, "a transaction hash", 32)
        mined = self._chain.find(transaction_hash)
        if mined is not None:
            block, found = mined
            return _transaction_fields(found.transaction) | {
                "blockNumber": to_quantity(block.number),
                "blockHash": to_data(block.hash),
                "transactionIndex": to_quantity(found.index),
            }
        waiting = self._chain.pool.find(transaction_hash)
        return None if waiting is None else _transaction_fields(waiting[1])

    def _receipt(self, name: str) -> Any:
        found = self._chain.find(data(name, "a transaction hash", 32))
        return None if found is None else _receipt_fields(*found)

    def _logs(self, wanted: Mapping[str, Any]) -> list[Any]:
        if "blockHash" in wanted:
            blocks = [self._named_block({"blockHash": wanted["blockHash"]})]
        else:
            first = self._number(wanted.get("fromBlock", "latest"))
            last = self._number(wanted.get("toBlock", "latest"))
            blocks = list(self._chain.blocks_between(first, last))
        return [
            log
            for block in blocks
            for mined in block.mined
            for log in _log_fields(block, mined)
            if _is_wanted(log, wanted)
        ]

    def _waiting(self) -> Any:
        pending: dict[str, dict[str, Any]] = {}
        for sender, transaction in self._chain.pool:
            by_nonce = pending.setdefault(to_data(sender), {})
            by_nonce[str(transaction.nonce)] = _transaction_fields(transaction)
        return {"pending": pending, "queued": {}}

    def _set_automine(self, is_on: bool) -> None:
        self._chain.is_automining = is_on

    def _reorganise(self, depth: int, transactions: list[Any]) -> None:
        if transactions:
            raise RequestRefused("only empty blocks can take the place of others")
        self._chain.reorganise(depth)

    def _set_balance(self, address: str, wei: str) -> None:
        self._chain.set_balance(data(address, "an address", 20), quantity(wei, "a balance"))


def _calldata_of(request: Mapping[str, Any]) -> bytes:
    return data(request.get("data", request.get("input", "0x")), "calldata")


def _call_of(request: Mapping[str, Any]) -> Call:
    to = request.get("to")
    return Call(
        sender=data(request.get("from", to_data(bytes(20))), "a sender", 20),
        to=data(to, "a recipient", 20) if to else b"",
        data=_calldata_of(request),
        value_wei=quantity(request.get("value", "0x0"), "a value"),
        gas=min(BLOCK_GAS, quantity(request.get("gas", to_quantity(BLOCK_GAS)), "gas")),
    )


def _block_fields(block: Block) -> dict[str, Any]:
    header = block.header
    return {
        "number": to_quantity(block.number),
        "hash": to_data(block.hash),
        "parentHash": to_data(header.parent_hash),
        "stateRoot": to_data(header.state_root),
        "transactionsRoot": to_data(header.transaction_root),
        "receiptsRoot": to_data(header.receipt_root),
        "logsBloom": to_data(header.bloom.to_bytes(256, "big")),
        "mixHash": to_data(header.mix_hash),
        "miner": to_data(header.coinbase),
        "difficulty": "0x0",
        "gasLimit": to_quantity(header.gas_limit),
        "gasUsed": to_quantity(header.gas_used),
        "timestamp": to_quantity(header.timestamp),
        "baseFeePerGas": to_quantity(header.base_fee_per_gas),
        "transactions": [to_data(mined.transaction.hash) for mined in block.mined],
        "uncles": [],
    }


def _transaction_fields(transaction: Any) -> dict[str, Any]:
    return {
        "hash": to_data(transaction.hash),
        "type": to_quantity(transaction.type_id or 0),
        "chainId": to_quantity(transaction.chain_id),
        "from": to_data(transaction.sender),
        "to": to_data(transaction.to) if transaction.to else None,
        "nonce": to_quantity(transaction.nonce),
        "gas": to_quantity(transaction.gas),
        "value": to_quantity(transaction.value),
        "input": to_data(transaction.data),
        "maxFeePerGas": to_quantity(transaction.max_fee_per_gas),
        "maxPriorityFeePerGas": to_quantity(transaction.max_priority_fee_per_gas),
        "blockNumber": None,
        "blockHash": None,
    }


def _receipt_fields(block: Block, mined: Mined) -> dict[str, Any]:
    transaction = mined.transaction
    return {
        "transactionHash": to_data(transaction.hash),
        "transactionIndex": to_quantity(mined.index),
        "type": to_quantity(transaction.type_id or 0),
        "blockNumber": to_quantity(block.number),
        "blockHash": to_data(block.hash),
        "from": to_data(transaction.sender),
        "to": to_data(transaction.to) if transaction.to else None,
        "status": to_quantity(mined.is_success),
        "gasUsed": to_quantity(mined.gas_used),
        "cumulativeGasUsed": to_quantity(mined.gas_used_before + mined.gas_used),
        "effectiveGasPrice": to_quantity(mined.gas_price_wei),
        "contractAddress": None if mined.contract is None else to_data(mined.contract),
        "logs": _log_fields(block, mined),
    }


def _log_fields(block: Block, mined: Mined) -> list[dict[str, Any]]:
    return [
        {
            "address": to_data(address),
            "topics": [to_data(topic) for topic in topics],
            "data": to_data(content),
            "blockNumber": to_quantity(block.number),
            "blockHash": to_data(block.hash),
            "transactionHash": to_data(mined.transaction.hash),
            "transactionIndex": to_quantity(mined.index),
            "logIndex": to_quantity(index),
            "removed": False,
        }
        for index, (address, topics, content) in enumerate(mined.logs, mined.first_log_index)
    ]


def _is_wanted(log: Mapping[str, Any], wanted: Mapping[str, Any]) -> bool:
    """Whether address and topics are those, or among those, that are wanted at each place."""
    addresses = wanted.get("address")
    if addresses is not None and log["address"] not in _lowered(addresses):
        return False
    topics = wanted.get("topics", [])
    return len(topics) <= len(log["topics"]) and all(
        allowed is None or topic in _lowered(allowed)
        for topic, allowed in zip(log["topics"], topics, strict=False)
    )


def _lowered(texts: Any) -> list[str]:
    return [text.lower() for text in ([texts] if isinstance(texts, str) else texts)]
