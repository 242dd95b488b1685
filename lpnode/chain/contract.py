"""A deployed contract: an address and typed calls to it."""

from typing import Any

from lpnode.chain.abi import Function
from lpnode.chain.eth import Block, Eth
from lpnode.errors import ChainError
from lpnode.protocol.ethereum import Address


class Contract:
    """Calls view functions of one address."""

    __slots__ = ("_eth", "address")

    def __init__(self, eth: Eth, address: Address) -> None:
        self._eth = eth
        self.address = address

    async def read(self, function: Function, *arguments: object, block: Block = "latest") -> Any:
        """Returns the one value of a view function. Raises: ChainError."""
        values = await self.read_all(function, *arguments, block=block)
        if len(values) != 1:
            raise ChainError(f"{function.name} has {len(values)} values, expected one")
        return values[0]

    async def read_all(
        self, function: Function, *arguments: object, block: Block = "latest"
    ) -> tuple[Any, ...]:
        """Returns all values of a view function. Raises: ChainError."""
        returned = await self._eth.call(self.address, function.encode(*arguments), block)
        return function.decode(returned)
