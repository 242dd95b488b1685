"""``lpnode wallet status``: the account, what it may earn, and whether it can redeem."""

import argparse
import asyncio
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from lpnode.chain.bonding import BondingManager
from lpnode.chain.connection import ChainConfig, account_address, reach
from lpnode.chain.rounds import RoundsManager
from lpnode.chain.service_registry import ServiceRegistry
from lpnode.command.amounts import eth_text, wei_text
from lpnode.command.money_table import money_table, print_whole
from lpnode.command.node_place import split_settings
from lpnode.config import SERVE_FLAGS, NodeConfig, node_config, read_settings
from lpnode.errors import ConfigError
from lpnode.protocol.ethereum import checksum_text

_DESCRIPTION = """\
Shows the account of the node with the same settings: its balance, the orchestrator that tickets
pay, what that has earned on the chain and not withdrawn, the round, and what redeeming a ticket
costs now. It only reads; no password is needed and nothing is sent.

It takes lpnode serve's settings: -network, -ethUrl, -ethController, -ethKeystorePath, …, LP_*
variables, or -config."""

_REDEMPTIONS = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class WalletStatus:
    """What the chain says of the account. Amounts in wei."""

    chain_id: int
    account: str
    balance_wei: int
    recipient: str
    is_active: bool
    pending_fees_wei: int
    service_uri: str
    round: int
    is_round_initialized: bool
    gas_price_wei: int
    redemption_wei: int

    def as_fields(self) -> dict[str, object]:
        """The form of ``--json``: amounts are text."""
        return {
            name: str(getattr(self, name)) if name.endswith("_wei") else getattr(self, name)
            for name in self.__slots__
        }

    def advice(self) -> list[str]:
        """What keeps the node from earning."""
        found = []
        if not self.is_active:
            found.append(
                f"{self.recipient} is no active orchestrator in round {self.round}: payments are "
                "refused until it is; register and activate it with its own wallet"
            )
        if self.balance_wei < _REDEMPTIONS * self.redemption_wei:
            found.append(
                f"the account pays for fewer than {_REDEMPTIONS} redemptions: send ether to "
                f"{self.account}"
            )
        if not self.is_round_initialized:
            found.append(
                f"round {self.round} has not begun: no ticket can be redeemed until somebody "
                "begins it (-initializeRound)"
            )
        if not self.service_uri:
            found.append("no service address is registered: gateways cannot find the orchestrator")
        return found


def run(words: Sequence[str], environment: Mapping[str, str]) -> int:
    """Prints the status. Returns: 0, or 1 when something keeps the node from earning.

    Raises: ConfigError, ChainError.
    """
    settings, rest = split_settings(words)
    arguments = _parser().parse_args(rest)
    config = node_config(read_settings(SERVE_FLAGS, settings, environment))
    if config.chain is None:
        raise ConfigError(
            "a node off-chain has no wallet; say which chain with -network, as for lpnode serve"
        )
    status = asyncio.run(read_status(config, config.chain))
    if arguments.json:
        print(json.dumps(status.as_fields() | {"advice": status.advice()}, indent=2))
    else:
        _show(status)
    return int(bool(status.advice()))


async def read_status(config: NodeConfig, chain: ChainConfig) -> WalletStatus:
    """Asks the chain. Raises: ConfigError: no such account. ChainError."""
    account = account_address(chain.account)
    recipient = chain.recipient or account
    async with reach(chain) as reached:
        eth, deployment = reached.eth, reached.deployment
        bonding = BondingManager(eth, deployment.bonding_manager)
        rounds = RoundsManager(eth, deployment.rounds_manager)
        registry = ServiceRegistry(eth, deployment.service_registry)
        gas_price_wei = max(await eth.gas_price(), chain.gas_price.min_wei)
        return WalletStatus(
            chain_id=reached.chain_id,
            account=checksum_text(account),
            balance_wei=await eth.balance(account),
            recipient=checksum_text(recipient),
            is_active=await bonding.is_active(recipient),
            pending_fees_wei=await bonding.pending_fees(recipient),
            service_uri=await registry.service_uri(recipient),
            round=await rounds.current(),
            is_round_initialized=await rounds.is_initialized(),
            gas_price_wei=gas_price_wei,
            redemption_wei=gas_price_wei * config.tickets.redeem_gas,
        )


def _show(status: WalletStatus) -> None:
    table = money_table(f"Wallet on chain {status.chain_id}", has_head=False)
    table.add_column()
    table.add_column(no_wrap=True)
    has_begun = "" if status.is_round_initialized else " (not begun)"
    is_active = "active" if status.is_active else "NOT active"
    for name, text in (
        ("account", status.account),
        ("balance", _amount(status.balance_wei)),
        ("orchestrator", f"{status.recipient} ({is_active})"),
        ("earned, not withdrawn", _amount(status.pending_fees_wei)),
        ("registered address", status.service_uri or "none"),
        ("round", f"{status.round}{has_begun}"),
        ("gas", f"{wei_text(status.gas_price_wei)} wei"),
        ("redeeming a ticket", _amount(status.redemption_wei)),
    ):
        table.add_row(name, text)
    print_whole(table)
    for advice in status.advice():
        print(f"→ {advice}")


def _amount(amount_wei: int) -> str:
    return f"{eth_text(amount_wei)} ETH ({wei_text(amount_wei)} wei)"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="lpnode wallet",
        description=_DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("what", choices=["status"], help="what to show")
    parser.add_argument("--json", action="store_true", help="for programs, in exact wei")
    return parser
