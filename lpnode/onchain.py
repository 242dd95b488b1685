"""What a node that is paid has beyond one that is not, put together in the order it depends on.

The chain first, because it says whom tickets pay; then the store and everything that lives by it;
then what takes won tickets back to the chain. ``node.py`` opens it before anything is served and
closes it after the last debit.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Self

from lpnode.admission.ai_models import ModelEntry
from lpnode.admission.price import PriceFeed
from lpnode.admission.tariff import Tariff
from lpnode.chain.connection import ChainConfig, ChainConnection
from lpnode.chain.events import Changes
from lpnode.chain.price_feed import Rate
from lpnode.chain.service_registry import ServiceRegistry
from lpnode.chain.state import changed_senders
from lpnode.config.node_config import NodeConfig
from lpnode.edge.http.operator_chain import ChainFacts
from lpnode.errors import ChainError
from lpnode.payment.attempts import Attempts
from lpnode.payment.payments import Payments, PaymentsConfig
from lpnode.payment.recipient import RecipientConfig
from lpnode.payment.redeem import Redemption, RedemptionConfig
from lpnode.payment.senders import Senders
from lpnode.protocol.ethereum import checksum_text

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class OnChain:
    """The paid side of a node. ``opened`` makes it, ``run`` keeps it going."""

    connection: ChainConnection
    tariff: Tariff
    payments: Payments
    redemption: Redemption

    @classmethod
    @asynccontextmanager
    async def opened(
        cls, chain: ChainConfig, config: NodeConfig, models: Sequence[ModelEntry]
    ) -> AsyncIterator[Self]:
        """Reaches the chain, opens the account and the payment store, and takes up what was
        under way; everything is on the disk when it is left.

        Raises:
            ConfigError: the account, a price, or the store cannot be used.
            ChainError: no endpoint answers, or the contracts are not there.
        """
        async with ChainConnection.opened(chain) as connection:
            state = connection.state
            rate = connection.rate
            tariff = Tariff(
                config.tariff,
                models,
                last_l1_block=lambda: state.last_l1_block,
                feed=None if rate is None else _feed(rate.rate),
            )
            if rate is not None:
                rate.subscribe(lambda new: tariff.set_feed(_feed(new)))
            payments = Payments(
                PaymentsConfig(
                    path=config.payment_store,
                    chain_id=connection.chain_id,
                    recipient=RecipientConfig(
                        recipient=connection.recipient, pricing=config.tickets
                    ),
                    meter=config.meter,
                    retention_s=config.ledger_retention_s,
                ),
                chain=state,
                reader=state,
            )
            state.subscribe(lambda changes: _tell(payments.senders, changes))
            async with payments.opened():
                redeemer = await connection.attach(Attempts(payments.store))
                redemption = payments.redemption(
                    RedemptionConfig(redeem_gas=config.tickets.redeem_gas),
                    chain=state,
                    redeemer=redeemer,
                )
                await _compare_service_uri(connection, config.service_uri)
                yield cls(connection, tariff, payments, redemption)

    async def run(self) -> None:
        """Follows the chain, redeems and forgets what has expired, until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self.connection.run(), name="chain")
            tasks.create_task(self.payments.run(), name="payment upkeep")
            tasks.create_task(self.redemption.run(), name="redemption")

    def facts(self) -> ChainFacts:
        """What the operator's port shows."""
        connection = self.connection
        deployment = connection.deployment
        return ChainFacts(
            chain_id=connection.chain_id,
            account=checksum_text(connection.signer.address),
            contracts={
                "Controller": checksum_text(deployment.controller),
                "TicketBroker": checksum_text(deployment.ticket_broker),
                "RoundsManager": checksum_text(deployment.rounds_manager),
                "BondingManager": checksum_text(deployment.bonding_manager),
                "ServiceRegistry": checksum_text(deployment.service_registry),
                "Minter": checksum_text(deployment.minter),
            },
            balance_wei=lambda: connection.eth.balance(connection.signer.address),
            current_round=lambda: connection.state.current_round,
            is_round_initialized=lambda: connection.state.is_round_initialized,
            max_gas_price_wei=connection.gas_limits.max_wei,
            min_gas_price_wei=connection.gas_limits.min_wei,
        )


def _feed(rate: Rate) -> PriceFeed:
    return PriceFeed(base=rate.base, quote=rate.quote, price=rate.price)


def _tell(senders: Senders, changes: Changes) -> None:
    changed = changed_senders(changes)
    if changed is None:
        senders.doubt_all()
        return
    for sender in changed:
        senders.doubt(sender)


async def _compare_service_uri(connection: ChainConnection, service_uri: str) -> None:
    """Gateways look in the registry, so an operator should know what it says."""
    registry = ServiceRegistry(connection.eth, connection.deployment.service_registry)
    try:
        registered = await registry.service_uri(connection.recipient)
    except ChainError as error:
        _log.warning("the service registry cannot be read: %s", error)
        return
    if registered.rstrip("/") != service_uri:
        _log.warning(
            "gateways find this orchestrator at %s, as the service registry says, and the node "
            "serves %s; register the right one, or correct -serviceAddr",
            registered or "no address",
            service_uri or "none",
        )
