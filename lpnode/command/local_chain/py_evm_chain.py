"""A chain of blocks, kept in memory and executed by py-evm, where there is no anvil.

It mines when it is told to, or at once for each transaction. Hashes, roots, fees and gas are those
of a real chain in its Shanghai rules; nothing is proved by work or stake.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

from eth.constants import BLANK_ROOT_HASH
from eth.db.atomic import AtomicDB
from eth.db.trie import make_trie_root_and_nodes
from eth.exceptions import Revert
from eth.vm.execution_context import ExecutionContext
from eth.vm.forks.london.headers import calculate_expected_base_fee_per_gas
from eth.vm.forks.shanghai import ShanghaiVM
from eth.vm.forks.shanghai.blocks import ShanghaiBlockHeader
from eth.vm.forks.shanghai.state import ShanghaiState
from eth.vm.spoof import SpoofTransaction
from eth_typing import Address, BlockNumber, Hash32
from eth_utils.exceptions import ValidationError
from rlp.exceptions import RLPException

from lpnode.chain.hex_values import to_data
from lpnode.chain.revert import revert_reason
from lpnode.command.local_chain.py_evm_pool import Pool, RequestRefused
from lpnode.protocol.keccak import keccak256

BLOCK_GAS = 30_000_000
TIP_WEI = 10**9
_REVERTED = 3
_NUM_ANCESTORS = 256
_FINAL_AFTER_BLOCKS = 64
_SAFE_AFTER_BLOCKS = 32
_STIPEND = 2300


@dataclass(frozen=True, slots=True)
class Mined:
    """A transaction in a block."""

    transaction: Any
    index: int
    gas_used: int
    gas_used_before: int
    """By those before it in the block."""
    gas_price_wei: int
    is_success: bool
    contract: bytes | None
    """What it deployed."""
    logs: tuple[tuple[bytes, tuple[bytes, ...], bytes], ...]
    """Address, topics and data of each."""
    first_log_index: int


@dataclass(frozen=True, slots=True)
class Block:
    """A header, what was mined in it, and the state behind it."""

    header: Any
    mined: tuple[Mined, ...]
    state_root: bytes
    """The header's, unless a balance was set afterwards."""

    @property
    def number(self) -> int:
        """Its height."""
        return int(self.header.block_number)

    @property
    def hash(self) -> bytes:
        """32 bytes."""
        return bytes(self.header.hash)


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """What is run without a transaction. ``to``: empty to deploy."""

    sender: bytes
    to: bytes
    data: bytes
    value_wei: int = 0
    gas: int = BLOCK_GAS


class PyEvmChain:
    """The chain and its pool. Every method may raise ``RequestRefused``."""

    def __init__(self, chain_id: int, genesis_number: int, balances: Mapping[bytes, int]) -> None:
        """``balances``: wei of the accounts that have any."""
        self.chain_id = chain_id
        self.is_automining = True
        self.pool = Pool()
        self._db = AtomicDB()
        self._num_sealed = 0
        self._next_base_fee_wei: int | None = None
        self._by_hash: dict[bytes, tuple[Block, Mined]] = {}
        self._snapshots: list[tuple[Block, ...]] = []
        self._first_number = genesis_number
        header = ShanghaiBlockHeader(
            difficulty=0,
            block_number=BlockNumber(genesis_number),
            gas_limit=BLOCK_GAS,
            timestamp=int(time.time()),
            base_fee_per_gas=TIP_WEI,
        )
        self._blocks = [Block(header, (), BLANK_ROOT_HASH)]
        for address, balance_wei in balances.items():
            self.set_balance(address, balance_wei)

    @property
    def head(self) -> Block:
        """The newest block."""
        return self._blocks[-1]

    @property
    def next_base_fee_wei(self) -> int:
        """What the next block will burn for a unit of gas."""
        if self._next_base_fee_wei is not None:
            return self._next_base_fee_wei
        return calculate_expected_base_fee_per_gas(self.head.header)

    def block(self, name: str | bytes | int) -> Block | None:
        """Returns the block with a tag, hash or number; None: there is none."""
        if isinstance(name, bytes):
            return next((block for block in reversed(self._blocks) if block.hash == name), None)
        if isinstance(name, int):
            index = name - self._first_number
            return self._blocks[index] if 0 <= index < len(self._blocks) else None
        depths = {"finalized": _FINAL_AFTER_BLOCKS, "safe": _SAFE_AFTER_BLOCKS}
        depths |= {"latest": 0, "pending": 0, "earliest": len(self._blocks)}
        if name not in depths:
            raise RequestRefused(f"{name!r} names no block")
        return self._blocks[max(0, len(self._blocks) - 1 - depths[name])]

    def blocks_between(self, first: int, last: int) -> Sequence[Block]:
        """Returns the blocks with these numbers, both included."""
        start = max(0, first - self._first_number)
        return self._blocks[start : max(0, last + 1 - self._first_number)]

    def find(self, transaction_hash: bytes) -> tuple[Block, Mined] | None:
        """Returns where a transaction was mined."""
        return self._by_hash.get(transaction_hash)

    def nonce(self, address: bytes, block: Block) -> int:
        """How many transactions of an account were mined up to a block."""
        return int(self._state_behind(block).get_nonce(address))

    def next_nonce(self, address: bytes) -> int:
        """The first nonce that is neither mined nor waits."""
        return self.pool.next_nonce(address, self.nonce(address, self.head))

    def balance(self, address: bytes, block: Block) -> int:
        """Wei of an account behind a block."""
        return int(self._state_behind(block).get_balance(address))

    def call(self, call: Call, block: Block) -> bytes:
        """Runs a call on the state behind ``block`` and returns what it returned."""
        context = self._context(block.header, is_free=True)
        return self._run(call, context, block.state_root)[0]

    def estimate(self, call: Call) -> int:
        """Returns gas with which a call would succeed in the next block."""
        context = self._context(self._next_header(), is_free=True)
        root = self.head.state_root
        _, gas = self._run(call, context, root)
        # What a contract passes on to another leaves it a 64th, and its refunds come too late.
        while gas < call.gas:
            try:
                self._run(replace(call, gas=gas), context, root)
            except RequestRefused:
                gas = min(call.gas, gas + gas // 64 + _STIPEND)
            else:
                break
        return gas

    def submit(self, raw: bytes) -> bytes:
        """Takes a signed transaction into the pool and returns its hash."""
        try:
            transaction: Any = ShanghaiVM.get_transaction_builder().decode(raw)
            transaction.validate()
            sender = bytes(transaction.sender)
        except (ValidationError, RLPException, ValueError, TypeError) as exc:
            raise RequestRefused(f"no signed transaction: {exc}") from exc
        if transaction.chain_id != self.chain_id:
            raise RequestRefused(f"invalid chain id for signer: {transaction.chain_id}")
        if bytes(transaction.hash) in self._by_hash:
            raise RequestRefused("already known")
        if transaction.nonce < self.nonce(sender, self.head):
            raise RequestRefused("nonce too low")
        most_wei = transaction.gas * transaction.max_fee_per_gas + transaction.value
        if most_wei > self.balance(sender, self.head):
            raise RequestRefused("insufficient funds for gas * price + value")
        if transaction.gas > BLOCK_GAS or transaction.gas < transaction.intrinsic_gas:
            raise RequestRefused(f"gas limit out of range: {transaction.gas}")
        self.pool.add(sender, transaction)
        if self.is_automining:
            self.mine()
        return bytes(transaction.hash)

    def mine(self, num_blocks: int = 1) -> None:
        """Mines blocks; the first ones take what waits."""
        for _ in range(num_blocks):
            self._append(*self._executed(self._next_header()))

    def snapshot(self) -> int:
        """Remembers the chain; returns what ``revert`` takes."""
        self._snapshots.append(tuple(self._blocks))
        return len(self._snapshots)

    def revert(self, snapshot: int) -> bool:
        """Goes back to a snapshot and forgets it and later ones; the pool stays."""
        if not 1 <= snapshot <= len(self._snapshots):
            return False
        self._keep(self._snapshots[snapshot - 1])
        del self._snapshots[snapshot - 1 :]
        return True

    def reorganise(self, depth: int) -> None:
        """Replaces the newest blocks by as many empty ones."""
        if not 0 < depth < len(self._blocks):
            raise RequestRefused(
                f"there are {len(self._blocks) - 1} blocks, got a depth of {depth}"
            )
        self._keep(self._blocks[:-depth])
        for _ in range(depth):
            self._append(self._next_header().copy(state_root=self.head.state_root), ())

    def set_next_base_fee(self, wei: int) -> None:
        """For a unit of gas in the next block."""
        self._next_base_fee_wei = wei

    def set_balance(self, address: bytes, wei: int) -> None:
        """Gives an account as much, from the newest block on."""
        state = self._state_behind(self.head)
        state.set_balance(address, wei)
        root = state.make_state_root()
        state.persist()
        self._blocks[-1] = replace(self.head, state_root=root)

    def _append(self, header: Any, mined: tuple[Mined, ...]) -> None:
        block = Block(header, mined, bytes(header.state_root))
        self._blocks.append(block)
        self._by_hash |= {bytes(each.transaction.hash): (block, each) for each in mined}
        self._next_base_fee_wei = None

    def _keep(self, blocks: Sequence[Block]) -> None:
        self._blocks = list(blocks)
        self._next_base_fee_wei = None
        self._by_hash = {
            bytes(each.transaction.hash): (block, each) for block in blocks for each in block.mined
        }

    def _next_header(self) -> Any:
        parent = self.head.header
        self._num_sealed += 1
        return ShanghaiBlockHeader(
            difficulty=0,
            block_number=parent.block_number + 1,
            gas_limit=BLOCK_GAS,
            timestamp=max(int(time.time()), parent.timestamp + 1),
            parent_hash=parent.hash,
            # As random as on a real chain: a block that takes another's place has another hash.
            mix_hash=Hash32(keccak256(self._num_sealed.to_bytes(32, "big"))),
            base_fee_per_gas=self.next_base_fee_wei,
        )

    def _executed(self, header: Any) -> tuple[Any, tuple[Mined, ...]]:
        """Returns the finished header and what fitted into its block."""
        state: Any = ShanghaiState(self._db, self._context(header), Hash32(self.head.state_root))
        header, mined, receipts = self._executed_all(state, header)
        root = state.make_state_root()
        state.persist()
        header = header.copy(
            state_root=root,
            transaction_root=_root_of([each.transaction for each in mined]),
            receipt_root=_root_of(receipts),
        )
        return header, tuple(mined)

    def _executed_all(self, state: Any, header: Any) -> tuple[Any, list[Mined], list[Any]]:
        mined: list[Mined] = []
        receipts: list[Any] = []
        num_logs = 0

        def is_ready(sender: bytes, transaction: Any) -> bool:
            return bool(
                transaction.nonce == state.get_nonce(sender)
                and transaction.max_fee_per_gas >= header.base_fee_per_gas
                and header.gas_used + transaction.gas <= BLOCK_GAS
            )

        while (transaction := self.pool.take(is_ready)) is not None:
            state.lock_changes()
            try:
                computation = state.apply_transaction(transaction)
            except ValidationError:
                continue  # others of its sender were mined before and left too little
            receipt = ShanghaiVM.make_receipt(header, transaction, computation, state)
            logs = tuple(
                (bytes(address), tuple(topic.to_bytes(32, "big") for topic in topics), bytes(data))
                for address, topics, data in computation.get_log_entries()
            )
            is_deployment = not transaction.to and computation.is_success
            mined.append(
                Mined(
                    transaction=transaction,
                    index=len(mined),
                    gas_used=receipt.gas_used - header.gas_used,
                    gas_used_before=header.gas_used,
                    gas_price_wei=state.get_gas_price(transaction),
                    is_success=computation.is_success,
                    contract=bytes(computation.msg.storage_address) if is_deployment else None,
                    logs=logs,
                    first_log_index=num_logs,
                )
            )
            num_logs += len(logs)
            receipts.append(receipt)
            header = header.copy(gas_used=receipt.gas_used, bloom=header.bloom | receipt.bloom)
        return header, mined, receipts

    def _run(self, call: Call, context: ExecutionContext, root: bytes) -> tuple[bytes, int]:
        """Returns what a call returned and the gas it spent before refunds."""
        state: Any = ShanghaiState(self._db, context, Hash32(root))
        unsigned: Any = ShanghaiVM.create_unsigned_transaction(
            nonce=state.get_nonce(call.sender),
            gas_price=0,
            gas=call.gas,
            to=Address(call.to),
            value=call.value_wei,
            data=call.data,
        )
        if call.gas < unsigned.intrinsic_gas:
            raise RequestRefused("intrinsic gas too low")
        if call.value_wei > state.get_balance(call.sender):
            raise RequestRefused("insufficient funds for transfer")
        done = state.apply_transaction(SpoofTransaction(unsigned, from_=call.sender))
        if not done.is_error:
            return bytes(done.output), unsigned.intrinsic_gas + done.get_gas_used()
        if isinstance(done.error, Revert):
            details = to_data(done.output)
            text = f"execution reverted: {revert_reason(details, '') or ''}".removesuffix(": ")
            raise RequestRefused(text, code=_REVERTED, data=details)
        raise RequestRefused(f"EVM error: {type(done.error).__name__}")

    def _context(self, header: Any, *, is_free: bool = False) -> ExecutionContext:
        """``is_free``: for a call, which pays for no gas."""
        return ExecutionContext(
            coinbase=header.coinbase,
            timestamp=header.timestamp,
            block_number=header.block_number,
            difficulty=0,
            mix_hash=header.mix_hash,
            gas_limit=BLOCK_GAS,
            prev_hashes=self._ancestors(header.block_number),
            chain_id=self.chain_id,
            base_fee_per_gas=0 if is_free else header.base_fee_per_gas,
        )

    def _ancestors(self, number: int) -> Iterator[Any]:
        """Hashes before a block, its parent's first."""
        before = reversed(self._blocks[: number - self._first_number])
        return (block.header.hash for block in islice(before, _NUM_ANCESTORS))

    def _state_behind(self, block: Block) -> Any:
        return ShanghaiState(self._db, self._context(block.header), Hash32(block.state_root))


def _root_of(items: Sequence[Any]) -> bytes:
    return bytes(make_trie_root_and_nodes(items)[0]) if items else BLANK_ROOT_HASH
