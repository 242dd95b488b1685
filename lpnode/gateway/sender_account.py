"""What a gateway sees of its own account on the chain, and the L1 block that quotes expire by."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from lpnode.chain.controller import CONTROLLERS, Controller
from lpnode.chain.eth import Eth
from lpnode.chain.rpc import JsonRpc, RpcConfig
from lpnode.chain.ticket_broker import SenderFunds, TicketBroker
from lpnode.errors import ConfigError
from lpnode.protocol.ethereum import Address

# A payment waits for the answer, and can go on without.
_TIMEOUT_S = 3.0
_MAX_ATTEMPTS = 2


class SenderAccount:
    """Reads for one sender. Every method may raise ``ChainError``."""

    def __init__(self, eth: Eth, broker: TicketBroker, sender: Address) -> None:
        self._eth = eth
        self._broker = broker
        self._sender = sender

    @classmethod
    @asynccontextmanager
    async def opened(
        cls, url: str, sender: Address, controller: Address | None = None
    ) -> AsyncIterator["SenderAccount"]:
        """Reaches the chain behind ``url``. ``controller``: None: that of the network.

        Raises: ConfigError: no such URL, or a network without a known Controller. ChainError.
        """
        config = RpcConfig(urls=(url,), timeout_s=_TIMEOUT_S, max_attempts=_MAX_ATTEMPTS)
        async with JsonRpc(config) as rpc:
            eth = Eth(rpc)
            chain_id = await eth.chain_id()
            found = controller or CONTROLLERS.get(chain_id)
            if found is None:
                raise ConfigError(
                    f"--eth-controller: the Controller must be given for chain {chain_id}"
                )
            broker = await Controller(eth, found).contract("TicketBroker")
            yield cls(eth, TicketBroker(eth, broker), sender)

    async def l1_block(self) -> int:
        """The newest L1 block that the chain knows of."""
        return (await self._eth.head()).l1_number

    async def funds(self, recipient: Address) -> SenderFunds:
        """What the account has in TicketBroker, as ``recipient`` sees it."""
        head = await self._eth.head()
        return await self._broker.sender_funds(self._sender, recipient, head.number)
