"""What a node needs to be paid on the local chain: an account, an orchestrator, a price."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from evm import ETHER, Evm, EvmAccount

from lpnode.chain.eth_account import Account
from lpnode.command.node_process import NodeProcess
from lpnode.protocol.ethereum import Address, checksum_text

PASSWORD = "open sesame"
MODEL = "noop"
PRICE_WEI = 1200


def orchestrator_of(evm: Evm) -> EvmAccount:
    """The account that the node has, made an active orchestrator."""
    account = evm.accounts[1]
    evm.activate(account.address)
    evm.next_round()
    return account


def gateway_of(evm: Evm) -> EvmAccount:
    """An account with a deposit and a reserve."""
    account = evm.accounts[2]
    evm.fund(account.address, deposit_wei=ETHER, reserve_wei=ETHER)
    return account


def keystore_in(folder: Path, account: EvmAccount) -> tuple[str, ...]:
    """Writes the account's key file and its password. Returns: the settings that name them."""
    # The cheapest work factor: what is tested is not how long guessing takes.
    keyfile = Account.encrypt(account.private_key, PASSWORD, kdf="pbkdf2", iterations=1)
    key, password = folder / "key.json", folder / "password.txt"
    key.write_text(json.dumps(keyfile))
    password.write_text(PASSWORD + "\n")
    for path in (key, password):
        path.chmod(0o600)
    return ("-ethKeystorePath", str(key), "-ethPassword", str(password))


def models_in(folder: Path, price_wei: int = PRICE_WEI) -> tuple[str, ...]:
    """Writes a list with one warm model at a price. Returns: the setting that names it."""
    path = folder / "paid_models.json"
    entry = {"pipeline": "live-video-to-video", "model_id": MODEL, "warm": True, "capacity": 2}
    path.write_text(json.dumps([entry | {"price_per_unit": price_wei, "pixels_per_unit": 1}]))
    return ("-aiModels", str(path))


def chain_words(evm: Evm, recipient: Address | None = None) -> tuple[str, ...]:
    """The settings of a node on the local chain, which has no L2 and quick blocks."""
    words = (
        *("-network", "local", "-ethUrl", evm.url),
        *("-ethController", checksum_text(evm.controller)),
        *("-blockPollingInterval", "1", "-redeemGas", "400000"),
    )
    return words if recipient is None else (*words, "-ethOrchAddr", checksum_text(recipient))


@asynccontextmanager
async def paid_node(
    evm: Evm, folder: Path, *words: str, price_wei: int = PRICE_WEI
) -> AsyncIterator[NodeProcess]:
    """``lpnode serve`` on the local chain, paid to an orchestrator of its own."""
    orchestrator_of(evm)
    async with restarted_node(evm, folder, *words, price_wei=price_wei) as node:
        yield node


@asynccontextmanager
async def restarted_node(
    evm: Evm, folder: Path, *words: str, price_wei: int = PRICE_WEI
) -> AsyncIterator[NodeProcess]:
    """The same, when the orchestrator has been active before."""
    settings = (
        *keystore_in(folder, evm.accounts[1]),
        *chain_words(evm),
        *models_in(folder, price_wei),
        *words,
    )
    async with NodeProcess(folder / "data", folder / "log.txt", settings) as node:
        yield node
