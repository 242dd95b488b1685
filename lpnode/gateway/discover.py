"""GetOrchestrator as a gateway calls it: a new connection, any certificate, HTTP/2 only.

Source: discovery.md sections 1.2, 3.4, 3.7 and 4.7.
"""

import asyncio
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import TypeVar
from urllib.parse import urlsplit

from google.protobuf.message import DecodeError, Message
from grpclib.client import Channel, UnaryUnaryMethod
from grpclib.exceptions import GRPCError, StreamTerminatedError
from grpclib.exceptions import ProtocolError as Http2Error

from lpnode import __version__
from lpnode.errors import DiscoveryRefused, InvalidArgument, PeerGone, ProtocolError
from lpnode.gateway.ticket_terms import ticket_terms
from lpnode.protocol import lp_rpc_pb2 as pb
from lpnode.protocol.capability import DEFAULT_CAPABILITIES, to_bitstring
from lpnode.protocol.ethereum import ZERO_ADDRESS, Address
from lpnode.protocol.service_uri import DEFAULT_PORT

CALL_S = 3.0

_UNSIGNED = "sig check failed"
_SERVICE = "/net.Orchestrator/"

M = TypeVar("M", bound=Message)


@dataclass(frozen=True, slots=True)
class Discovered:
    """A node's answer. ``latency_s`` is the whole call with TCP, TLS and HTTP/2 settings.

    ``uri`` is where it was asked; work goes to ``info.transcoder``.
    """

    uri: str
    info: pb.OrchestratorInfo
    latency_s: float


def dial_uri(text: str) -> str:
    """Completes ``host``, ``host:port`` or a URL as a gateway does with its ``-orchAddr`` list.

    Raises: InvalidArgument: there is no host in it, or no port that can be dialled.
    """
    entry = text.strip().rstrip("/")
    if ":" not in entry:
        entry = f"{entry}:{DEFAULT_PORT}"
    if not entry.startswith("http"):
        entry = f"https://{entry}"
    if not _has_port(entry):
        raise InvalidArgument(f"a node's address is https://host:port, got {text!r}")
    return entry


def demand_for(capability: int, model_id: str) -> pb.Capabilities:
    """What a gateway demands that looks for one model: the default bits as well."""
    bits = sorted(DEFAULT_CAPABILITIES | {capability})
    demand = pb.Capabilities(
        bitstring=to_bitstring(bits), capacities=dict.fromkeys(bits, 1), version=__version__
    )
    demand.constraints.PerCapability[capability].models[model_id].SetInParent()
    return demand


def discovery_request(
    demand: pb.Capabilities | None = None,
    *,
    sender: Address = ZERO_ADDRESS,
    signature: bytes = b"",
    ignore_capacity: bool = False,
) -> pb.OrchestratorRequest:
    """Builds a request; without ``demand`` it is the one of the periodic network poll."""
    return pb.OrchestratorRequest(
        address=sender, sig=signature, capabilities=demand, ignoreCapacityCheck=ignore_capacity
    )


async def get_orchestrator(
    uri: str,
    request: pb.OrchestratorRequest,
    *,
    timeout_s: float = CALL_S,
    clock: Callable[[], float] = time.perf_counter,
) -> Discovered:
    """Asks the node at ``uri`` (scheme, host and port).

    Raises:
        DiscoveryRefused: with the node's text.
        PeerGone: no connection within the time, or it was lost.
        ProtocolError: the peer does not speak gRPC, or answered something else.
    """
    started = clock()
    info = await call(
        uri, "GetOrchestrator", request, reply_type=pb.OrchestratorInfo, timeout_s=timeout_s
    )
    return Discovered(uri, info, clock() - started)


async def call(
    uri: str, method: str, request: Message, *, reply_type: type[M], timeout_s: float
) -> M:
    """Calls one method of ``net.Orchestrator`` on a connection of its own.

    Raises: DiscoveryRefused, PeerGone, ProtocolError: as ``get_orchestrator``.
    """
    parts = urlsplit(uri)
    tls = _unverified_tls() if parts.scheme == "https" else None
    channel = Channel(parts.hostname, parts.port, ssl=tls)
    try:
        async with asyncio.timeout(timeout_s):
            unary = UnaryUnaryMethod(channel, _SERVICE + method, type(request), reply_type)
            return await unary(request)
    except GRPCError as error:
        raise DiscoveryRefused(error.message or error.status.name) from error
    except TimeoutError as error:
        raise PeerGone(f"{uri} did not answer within {timeout_s:g} s") from error
    except (StreamTerminatedError, Http2Error, DecodeError, KeyError) as error:
        # KeyError: the library takes it for granted that a head has a status.
        raise ProtocolError(
            f"{uri} does not speak gRPC: {error or type(error).__name__}"
        ) from error
    except OSError as error:  # also TLS and name resolution
        raise PeerGone(f"{uri} cannot be reached: {error}") from error
    finally:
        await _hang_up(channel)


def is_unsigned(refusal: DiscoveryRefused) -> bool:
    """Whether the node wants the request signed, as on-chain nodes do."""
    return _UNSIGNED in str(refusal)


def faults_of(info: pb.OrchestratorInfo) -> list[str]:
    """Names what in a reply keeps gateways from using the node, in an operator's words."""
    faults = []
    if not info.transcoder:
        faults.append("no transcoder URI: gateways send no work here")
    elif not _has_port(info.transcoder):
        faults.append(f"the transcoder URI {info.transcoder} has no port: gRPC cannot reach it")
    elif info.transcoder.endswith("/"):
        faults.append(f"the transcoder URI {info.transcoder} ends with a slash: payments miss it")
    if not info.HasField("capabilities"):
        faults.append("no capabilities: refused for AI")
    elif not info.capabilities.HasField("constraints"):
        faults.append("no constraints in the capabilities: gateways crash on that")
    elif missing := DEFAULT_CAPABILITIES - set(info.capabilities.capacities):
        faults.append(f"default capabilities {sorted(missing)} are missing: no gateway matches")
    if not info.HasField("auth_token"):
        faults.append("no auth token: sessions are dropped")
    if not info.address:
        faults.append("no address: refused by registry gateways")
    if info.HasField("price_info") and info.price_info.pixelsPerUnit == 0:
        faults.append("pixelsPerUnit is 0: the price cannot be used")
    else:
        try:
            ticket_terms(info)
        except ProtocolError as error:
            faults.append(str(error))
    return faults


def _has_port(uri: str) -> bool:
    """Whether gateways can dial it: http(s), a host, and a port that is written out."""
    try:
        parts = urlsplit(uri)
        return parts.scheme in ("http", "https") and bool(parts.hostname and parts.port)
    except ValueError:
        return False


async def _hang_up(channel: Channel) -> None:
    """Closes the connection now, as gateways do after each call.

    The library's close waits for the peer to end TLS as well, longer than this loop may live.
    """
    protocol = getattr(channel, "_protocol", None)
    transport = getattr(protocol and protocol.connection, "_transport", None)
    channel.close()
    if transport is not None:
        transport.abort()
        await asyncio.sleep(0)  # the loop closes the socket in its next turn


@cache
def _unverified_tls() -> ssl.SSLContext:
    """Gateways check neither chain nor name nor expiry: nodes sign their own certificates."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["h2"])
    return context
