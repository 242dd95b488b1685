"""The Controller knows where the other contracts are; its address alone is configuration.

Source: payments.md 5.1.
"""

from dataclasses import dataclass

from lpnode.chain.abi import Function
from lpnode.chain.contract import Contract
from lpnode.chain.eth import Eth
from lpnode.errors import ChainError
from lpnode.protocol.ethereum import ZERO_ADDRESS, Address, checksum_text, parse_address
from lpnode.protocol.keccak import keccak256

CONTROLLERS = {
    42161: parse_address("0xD8E8328501E9645d16Cf49539efC04f734606ee4"),
    1: parse_address("0xf96d54e490317c557a967abfa5d6e33006be69b3"),
}
"""By chain id: Arbitrum One and Ethereum mainnet."""

AI_SERVICE_REGISTRY = parse_address("0x04C0b249740175999E5BF5c9ac1dA92431EF34C5")
"""Used instead of the Controller's ServiceRegistry with ``-aiServiceRegistry``."""

GET_CONTRACT = Function("getContract(bytes32)", "address")
PAUSED = Function("paused()", "bool")


@dataclass(frozen=True, slots=True)
class Deployment:
    """Where the contracts of one network are."""

    controller: Address
    ticket_broker: Address
    rounds_manager: Address
    bonding_manager: Address
    service_registry: Address
    minter: Address


def contract_id(name: str) -> bytes:
    """Returns the 32 bytes under which the Controller keeps a contract."""
    return keccak256(name.encode())


class Controller(Contract):
    """Reads the Controller."""

    async def is_paused(self) -> bool:
        """Whether all contracts refuse transactions."""
        return bool(await self.read(PAUSED))

    async def contract(self, name: str) -> Address:
        """Returns the address of ``TicketBroker``, say. Raises: ChainError: it has none."""
        found = Address(await self.read(GET_CONTRACT, contract_id(name)))
        if found == ZERO_ADDRESS:
            raise ChainError(
                f"the Controller at {checksum_text(self.address)} knows no {name}; "
                "-ethController must be the Controller of the network behind -ethUrl"
            )
        return found


async def resolve(
    eth: Eth, controller: Address, service_registry: Address | None = None
) -> Deployment:
    """Asks the Controller for every contract. ``service_registry``: used as it is if given.

    Raises: ChainError: no endpoint answers, or the address is no Controller.
    """
    source = Controller(eth, controller)
    return Deployment(
        controller=controller,
        ticket_broker=await source.contract("TicketBroker"),
        rounds_manager=await source.contract("RoundsManager"),
        bonding_manager=await source.contract("BondingManager"),
        service_registry=service_registry or await source.contract("ServiceRegistry"),
        minter=await source.contract("Minter"),
    )
