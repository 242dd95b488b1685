"""``net.Orchestrator``: GetOrchestrator, Ping and EndTranscodingSession.

Each method takes the bytes of one message and returns those of another. Nothing here waits,
except for an authentication webhook, what a price needs of the chain, and the signer of a ping.

Source: discovery.md sections 2 and 3.
"""

from collections.abc import Awaitable
from fractions import Fraction
from functools import lru_cache
from typing import TypeVar

from google.protobuf.message import DecodeError, Message

from lpnode.admission.auth_token import AuthTokens
from lpnode.admission.auth_webhook import AuthWebhook
from lpnode.admission.gateway_signature import is_request_signed
from lpnode.admission.paid_quote import PaidQuote
from lpnode.admission.quote import Quote
from lpnode.chain.signer import Signer
from lpnode.edge.grpc.server import UnaryMethod
from lpnode.errors import DiscoveryRefused, ProtocolError, TooLarge
from lpnode.protocol import lp_rpc_pb2 as pb
from lpnode.protocol.capability import LIVE_VIDEO_TO_VIDEO
from lpnode.protocol.ethereum import SIGNATURE_BYTES, Address, to_address
from lpnode.schedule.capacity import Capacity, ModelKey

# A gateway's request has a few hundred bytes; what is looked through on the event loop is bounded.
_MAX_REQUEST_BYTES = 64 * 1024

_SERVICE = "/net.Orchestrator/"
_CAPPED = "Invalid orchestrator request: OrchestratorCapped"
_BAD_SIGNATURE = "Invalid orchestrator request: orchestrator req sig check failed"

M = TypeVar("M", bound=Message)


class Orchestrator:
    """The methods that gateways call. Used from the event loop only."""

    def __init__(
        self,
        *,
        quote: Quote | PaidQuote,
        capacity: Capacity,
        tokens: AuthTokens,
        signer: Signer | None = None,
        webhook: AuthWebhook | None = None,
    ) -> None:
        """``signer`` signs pings and makes signatures of requests count; None off-chain."""
        self._quote = quote
        self._capacity = capacity
        self._tokens = tokens
        self._signer = signer
        self._webhook = webhook
        self._is_full_always = not quote.config.service_uri
        # A request's signature covers the address alone, so its verdict never changes.
        self._is_signed = lru_cache(maxsize=4096)(is_request_signed)

    def methods(self) -> dict[str, UnaryMethod]:
        """Every method by its full path."""
        return {
            _SERVICE + "GetOrchestrator": self.get_orchestrator,
            _SERVICE + "Ping": self.ping,
            _SERVICE + "EndTranscodingSession": self.end_transcoding_session,
        }

    def get_orchestrator(self, request: bytes) -> bytes | Awaitable[bytes]:
        """``OrchestratorRequest`` → ``OrchestratorInfo``; an awaitable with a webhook or a price.

        Raises: DiscoveryRefused, ProtocolError.
        """
        message = _parse(pb.OrchestratorRequest, request)
        sender = to_address(message.address)
        if self._signer is not None and not self._is_sent_by(sender, message.sig):
            raise DiscoveryRefused(_BAD_SIGNATURE)
        # The reference refuses here when its transcoding sessions are used up. There are none.
        if self._webhook is not None:
            return self._authenticated(self._webhook, sender, message)
        return self._reply(sender, message)

    def ping(self, request: bytes) -> bytes | Awaitable[bytes]:
        """``PingPong`` → ``PingPong``: the value signed by our account, empty off-chain."""
        message = _parse(pb.PingPong, request)
        if self._signer is None:
            return b""
        return _pong(self._signer, message.value)

    def end_transcoding_session(self, request: bytes) -> bytes:
        """Checks the token, expired or not. There is nothing to free on an AI node.

        Raises: DiscoveryRefused, ProtocolError.
        """
        message = _parse(pb.EndTranscodingSessionRequest, request)
        if not self._tokens.is_genuine(message.auth_token):
            raise DiscoveryRefused("Invalid auth token")
        return b""

    def _is_sent_by(self, sender: Address, signature: bytes) -> bool:
        # Of any other length it is wrong anyway, and would only fill the memory of verdicts.
        return len(signature) == SIGNATURE_BYTES and self._is_signed(sender, signature)

    async def _authenticated(
        self, webhook: AuthWebhook, sender: Address, message: pb.OrchestratorRequest
    ) -> bytes:
        reply = self._reply(sender, message, await webhook.authenticate(sender))
        return reply if isinstance(reply, bytes) else await reply

    def _reply(
        self,
        sender: Address,
        message: pb.OrchestratorRequest,
        base_price: Fraction | None = None,
    ) -> bytes | Awaitable[bytes]:
        # An absent message differs from an empty one.
        if self._is_full_always or not message.HasField("capabilities"):
            return self._quote.info(sender, None, base_price)
        demand = message.capabilities
        if not message.ignoreCapacityCheck and not self._has_live_capacity(demand):
            raise DiscoveryRefused(_CAPPED)
        return self._quote.info(sender, demand)

    def _has_live_capacity(self, demand: pb.Capabilities) -> bool:
        """Whether one of the live models asked for has a free slot; other demands always pass."""
        constraints = demand.constraints.PerCapability
        if LIVE_VIDEO_TO_VIDEO not in constraints:
            return True
        return any(
            self._capacity.idle(ModelKey(LIVE_VIDEO_TO_VIDEO, model_id)) > 0
            for model_id in constraints[LIVE_VIDEO_TO_VIDEO].models
        )


async def _pong(signer: Signer, value: bytes) -> bytes:
    return pb.PingPong(value=await signer.sign_message(value)).SerializeToString()


def _parse(kind: type[M], raw: bytes) -> M:
    if len(raw) > _MAX_REQUEST_BYTES:
        raise TooLarge(f"message is over {_MAX_REQUEST_BYTES} bytes")
    try:
        return kind.FromString(raw)
    except DecodeError as error:
        raise ProtocolError(f"not a {kind.DESCRIPTOR.full_name} message") from error
