"""Everything that a node has of the chain, put together from one configuration."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Self

from lpnode.chain.controller import CONTROLLERS, Deployment, resolve
from lpnode.chain.eth import Eth
from lpnode.chain.gas_price import GasPrice, GasPriceConfig
from lpnode.chain.housekeeping import Housekeeping, HousekeepingConfig
from lpnode.chain.keystore import KeystoreConfig, keystore_address, open_keystore
from lpnode.chain.price_feed import CurrentRate, PriceFeed
from lpnode.chain.redeemer import Redeemer
from lpnode.chain.remote_signer import RemoteSigner
from lpnode.chain.rpc import JsonRpc, RpcConfig
from lpnode.chain.signer import Signer
from lpnode.chain.state import ChainState, ChainStateConfig
from lpnode.chain.submission import SubmissionStore
from lpnode.chain.transactions import Transactions, TransactionsConfig
from lpnode.errors import ConfigError
from lpnode.protocol.ethereum import ZERO_ADDRESS, Address, checksum_text

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteSignerConfig:
    """An account whose key is elsewhere."""

    url: str = field(repr=False)
    address: Address


@dataclass(frozen=True, slots=True, kw_only=True)
class ChainConfig:
    """Which chain, which account, and within what limits."""

    rpc: RpcConfig
    account: KeystoreConfig | RemoteSignerConfig
    """Pays for gas; signs messages to gateways."""
    recipient: Address | None = None
    """The orchestrator that tickets pay; None: the account itself."""
    controller: Address | None = None
    """None: that of the network, if it is a known one."""
    service_registry: Address | None = None
    """None: the Controller's."""
    price_feed: Address | None = None
    """None: no price needs a rate."""
    gas_price: GasPriceConfig = field(default_factory=GasPriceConfig)
    state: ChainStateConfig = field(default_factory=ChainStateConfig)
    transactions: TransactionsConfig = field(default_factory=TransactionsConfig)
    housekeeping: HousekeepingConfig = field(default_factory=HousekeepingConfig)

    def __post_init__(self) -> None:
        if self.recipient == ZERO_ADDRESS:
            raise ConfigError("-ethOrchAddr must not be the zero address")


@dataclass(frozen=True, slots=True)
class Reached:
    """A chain that answers, and where its contracts are."""

    eth: Eth
    chain_id: int
    deployment: Deployment


@asynccontextmanager
async def reach(config: ChainConfig) -> AsyncIterator[Reached]:
    """Asks the chain who it is and for its contracts; no account is needed.

    Raises:
        ConfigError: the network is not known.
        ChainError: no endpoint answers, or the contracts are not there.
    """
    async with JsonRpc(config.rpc) as rpc:
        eth = Eth(rpc)
        chain_id = await eth.chain_id()
        controller = config.controller or CONTROLLERS.get(chain_id)
        if controller is None:
            known = ", ".join(map(str, sorted(CONTROLLERS)))
            raise ConfigError(
                f"-ethController must be given for chain {chain_id}; known chains are {known}"
            )
        yield Reached(eth, chain_id, await resolve(eth, controller, config.service_registry))


def account_address(account: KeystoreConfig | RemoteSignerConfig) -> Address:
    """Whose account it is, without opening it.

    Raises: ConfigError: there is no such key file, or it does not say.
    """
    return keystore_address(account) if isinstance(account, KeystoreConfig) else account.address


class ChainConnection:
    """The open connection. ``opened`` makes it, ``attach`` lets it send, ``run`` keeps it.

    Attributes:
        eth: typed requests, for what the others do not offer.
        signer: the account.
        recipient: the orchestrator that tickets pay.
        state: what payments see of the chain; current from the start.
        gas_limits: what the operator lets gas cost.
        rate: of the price feed; None without one.
    """

    def __init__(
        self, config: ChainConfig, eth: Eth, chain_id: int, deployment: Deployment, signer: Signer
    ) -> None:
        self._config = config
        self.eth = eth
        self.chain_id = chain_id
        self.deployment = deployment
        self.signer = signer
        self.recipient = config.recipient or signer.address
        self.gas_limits = config.gas_price
        self._gas_price = GasPrice(eth, config.gas_price)
        self.state = ChainState(eth, deployment, self.recipient, self._gas_price, config.state)
        self.rate = (
            None if config.price_feed is None else CurrentRate(PriceFeed(eth, config.price_feed))
        )
        self._transactions: Transactions | None = None

    @classmethod
    @asynccontextmanager
    async def opened(cls, config: ChainConfig) -> AsyncIterator[Self]:
        """Reaches the chain, opens the account and reads everything once.

        Raises:
            ConfigError: the account cannot be opened, or the network is not known.
            ChainError: no endpoint answers, or the contracts are not there.
        """
        async with AsyncExitStack() as resources:
            reached = await resources.enter_async_context(reach(config))
            connection = cls(
                config,
                reached.eth,
                reached.chain_id,
                reached.deployment,
                await _open_signer(config.account, resources),
            )
            await connection.state.start()
            if connection.rate is not None:
                await connection.rate.start()
            connection._report()
            yield connection

    async def attach(self, store: SubmissionStore) -> Redeemer:
        """Takes over the transactions that ``store`` kept, and sends from now on."""
        self._transactions = Transactions(
            self.eth,
            self.signer,
            self._gas_price,
            store,
            self._config.transactions,
            chain_id=self.chain_id,
        )
        resumed = await self._transactions.resume()
        if resumed:
            _log.info("%d transactions were under way and are watched again", len(resumed))
        return Redeemer(self.state.broker, self._transactions, self.recipient)

    @property
    def transactions(self) -> Transactions:
        """What sends for the account."""
        assert self._transactions is not None, "attach a store first"
        return self._transactions

    async def run(self) -> None:
        """Keeps everything current, until cancelled."""
        deployment = self.deployment
        housekeeping = Housekeeping(
            self.state,
            self.transactions,
            self._config.housekeeping,
            rounds_manager=deployment.rounds_manager,
            bonding_manager=deployment.bonding_manager,
        )
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self.state.run(), name="chain state")
            tasks.create_task(self._gas_price.run(), name="gas price")
            tasks.create_task(self.transactions.run(), name="transactions")
            tasks.create_task(housekeeping.run(), name="round upkeep")
            if self.rate is not None:
                tasks.create_task(self.rate.run(), name="price feed")

    def _report(self) -> None:
        _log.info(
            "on chain %d at round %d; account %s, recipient %s",
            self.chain_id,
            self.state.last_initialized_round,
            checksum_text(self.signer.address),
            checksum_text(self.recipient),
        )
        if not self.state.is_recipient_active:
            _log.warning(
                "%s is no active orchestrator in round %d: payments are refused until it is",
                checksum_text(self.recipient),
                self.state.last_initialized_round,
            )


async def _open_signer(
    account: KeystoreConfig | RemoteSignerConfig, resources: AsyncExitStack
) -> Signer:
    if isinstance(account, KeystoreConfig):
        # Takes a second, before anything is served.
        return open_keystore(account)
    config = RpcConfig(urls=(account.url,), is_chain_checked=False)
    rpc = await resources.enter_async_context(JsonRpc(config))
    return RemoteSigner(rpc, account.address)
