"""A local chain on which a gateway can pay an orchestrator, for ``lpnode demo``.

with running_paid_chain(folder) as paid:
    ...  # a node for paid.orchestrator and a gateway for paid.gateway, both with paid.url
    paid.mine(40)
    payouts = await paid.payouts()
"""

import json
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from lpnode.chain.eth import Eth, Log
from lpnode.chain.rpc import JsonRpc, RpcConfig
from lpnode.chain.ticket_broker import TICKET_TRANSFER, TicketBroker
from lpnode.command.local_chain.chain import ETHER, LocalChain, running_chain
from lpnode.command.local_chain.evm_process import EvmAccount, EvmKind, EvmProgram
from lpnode.protocol.ethereum import Address

_GATEWAY, _ORCHESTRATOR = 0, 1
# Everybody knows these keys: a slow derivation would protect nothing.
_KEY_ITERATIONS = 1000


@dataclass(frozen=True, slots=True)
class KeyFile:
    """An account as a process opens it."""

    address: Address
    path: Path
    """A keystore file of version 3, readable by its owner alone."""
    password_path: Path
    """Its first line is the password."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Payout:
    """What TicketBroker paid for a ticket. A payout of nothing leaves no trace."""

    sender: Address
    recipient: Address
    amount_wei: int
    block_number: int
    transaction_hash: bytes
    """32 bytes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PaidChain:
    """The chain and the two who meet on it."""

    chain: LocalChain
    """For all else that can be done to it; its methods wait for the node, milliseconds each."""
    orchestrator: KeyFile
    """Active in the current round; has 10,000 ether for gas."""
    gateway: KeyFile
    """Has a deposit and a reserve."""

    @property
    def url(self) -> str:
        """Where the node takes JSON-RPC, ``http://127.0.0.1:port``."""
        return self.chain.url

    @property
    def kind(self) -> EvmKind:
        """Which program executes it."""
        return self.chain.kind

    @property
    def chain_id(self) -> int:
        """What transactions are signed for."""
        return self.chain.chain_id

    @property
    def controller(self) -> Address:
        """The contract that leads to the others."""
        return self.chain.controller

    def mine(self, num_blocks: int = 1) -> None:
        """Lets time pass: ticket parameters expire and rounds end by the number of blocks."""
        self.chain.mine(num_blocks)

    def next_round(self) -> int:
        """Mines up to the next round, initialises it and returns it."""
        return self.chain.next_round()

    def earned_wei(self) -> int:
        """What redeemed tickets have earned the orchestrator."""
        return self.chain.pending_fees(self.orchestrator.address)

    async def funds(self) -> tuple[int, int]:
        """The gateway's deposit and reserve in wei. Raises: ChainError."""
        async with JsonRpc(RpcConfig(urls=(self.url,), chain_id=self.chain_id)) as rpc:
            broker = TicketBroker(Eth(rpc), self.chain.ticket_broker)
            funds = await broker.sender_funds(self.gateway.address, self.orchestrator.address)
        return funds.deposit_wei, funds.reserve_wei

    async def payouts(self) -> tuple[Payout, ...]:
        """Reads all payouts from the contract's events, oldest first. Raises: ChainError."""
        async with JsonRpc(RpcConfig(urls=(self.url,), chain_id=self.chain_id)) as rpc:
            eth = Eth(rpc)
            last = (await eth.head()).number
            logs = await eth.logs(
                [self.chain.ticket_broker],
                [TICKET_TRANSFER.topic],
                self.chain.first_block_number,
                last,
            )
        return tuple(map(_payout, logs))


@contextmanager
def running_paid_chain(
    folder: Path,
    *,
    deposit_wei: int = ETHER,
    reserve_wei: int = ETHER,
    program: EvmProgram | None = None,
) -> Iterator[PaidChain]:
    """Runs a chain until the end of the block, and writes the key files into ``folder``.

    It takes one to three seconds. ``program``: None takes what ``find_evm`` finds, which installs
    nothing.
    Raises: NoEvm: there is none, or it did not start.
    """
    with running_chain(program) as chain:
        gateway, orchestrator = chain.accounts[_GATEWAY], chain.accounts[_ORCHESTRATOR]
        chain.activate(orchestrator.address)
        chain.fund(gateway.address, deposit_wei=deposit_wei, reserve_wei=reserve_wei)
        chain.next_round()
        yield PaidChain(
            chain=chain,
            orchestrator=_write_key(orchestrator, folder / "orchestrator"),
            gateway=_write_key(gateway, folder / "gateway"),
        )


def _payout(log: Log) -> Payout:
    found = TICKET_TRANSFER.decode(log)
    return Payout(
        sender=found["sender"],
        recipient=found["recipient"],
        amount_wei=found["amount"],
        block_number=log.block_number,
        transaction_hash=log.transaction_hash,
    )


def _write_key(account: EvmAccount, stem: Path) -> KeyFile:
    # Half a second to import.
    from lpnode.chain.eth_account import Account

    password = secrets.token_hex(16)
    keyfile = Account.encrypt(
        account.private_key, password, kdf="pbkdf2", iterations=_KEY_ITERATIONS
    )
    written = KeyFile(account.address, stem.with_suffix(".json"), stem.with_suffix(".password"))
    for path, text in ((written.path, json.dumps(keyfile)), (written.password_path, password)):
        path.touch(mode=0o600)
        path.write_text(text + "\n")
    return written
