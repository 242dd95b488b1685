"""ServiceRegistry: where gateways find an orchestrator. Source: payments.md 5.4."""

from lpnode.chain.abi import Event, Function
from lpnode.chain.contract import Contract
from lpnode.protocol.ethereum import Address

SET_SERVICE_URI = Function("setServiceURI(string)")
GET_SERVICE_URI = Function("getServiceURI(address)", "string")
SERVICE_URI_UPDATE = Event("ServiceURIUpdate", "address indexed addr", "string serviceURI")


class ServiceRegistry(Contract):
    """Reads ServiceRegistry."""

    async def service_uri(self, orchestrator: Address) -> str:
        """Returns the published URI, empty if there is none. Raises: ChainError."""
        return str(await self.read(GET_SERVICE_URI, orchestrator))
