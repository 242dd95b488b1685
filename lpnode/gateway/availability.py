"""The node's question to itself at start: does my advertised address lead to me?

Source: discovery.md section 2 (Ping).
"""

import os

from lpnode.errors import ConfigError, LpnodeError
from lpnode.gateway.discover import call
from lpnode.protocol import lp_rpc_pb2 as pb
from lpnode.protocol.ethereum import Address, is_message_signed_by
from lpnode.protocol.keccak import keccak256

LIMIT_S = 8.0


async def check_availability(
    service_uri: str, account: Address | None = None, *, timeout_s: float = LIMIT_S
) -> None:
    """Pings ``service_uri`` over the network, and on-chain checks that our own account answers.

    Raises: ConfigError: says what did not answer and what to change.
    """
    # The reference signs the time; any value nobody can foresee serves.
    value = keccak256(os.urandom(32))
    try:
        reply = await call(
            service_uri,
            "Ping",
            pb.PingPong(value=value),
            reply_type=pb.PingPong,
            timeout_s=timeout_s,
        )
    except LpnodeError as error:
        raise ConfigError(
            f"the node does not answer at its own address: {error}; check -serviceAddr, the "
            "firewall and the port forwarding, or set -startupAvailabilityCheck=false"
        ) from error
    if account is not None and not is_message_signed_by(account, value, reply.value):
        raise ConfigError(
            f"another node answers at {service_uri}; check -serviceAddr, or set "
            "-startupAvailabilityCheck=false"
        )
