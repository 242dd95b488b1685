"""The reply to GetOrchestrator: who we are, what we can do, and for how much.

# Note [Spliced reply]
A reply is the same bytes for everybody except for the auth token, and for the prices when the
node has any. So the rest is serialised once and kept until a slot is leased or returned or the
hardware changes; a request costs one MAC and one join. Fields stand in ascending order, as a
protobuf library would write them.

Source: discovery.md sections 3.4, 4.4 and 7.1.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fractions import Fraction

from lpnode import __version__
from lpnode.admission.ai_models import ModelEntry
from lpnode.admission.auth_token import AuthTokens
from lpnode.admission.price import PriceBook, to_price_info
from lpnode.errors import ConfigError
from lpnode.protocol import lp_rpc_pb2 as pb
from lpnode.protocol.capability import (
    DEFAULT_CAPABILITIES,
    LIVE_VIDEO_TO_VIDEO,
    pipeline_of,
    to_bitstring,
)
from lpnode.protocol.ethereum import ADDRESS_BYTES, ZERO_ADDRESS, Address
from lpnode.protocol.service_uri import check_service_uri
from lpnode.protocol.version import parse_version
from lpnode.schedule.capacity import Capacity, ModelKey
from lpnode.schedule.hardware import Gpu

_AUTH_TOKEN_TAG = b"\x32"


@dataclass(frozen=True, slots=True, kw_only=True)
class QuoteConfig:
    """What a node says about itself.

    Attributes:
        service_uri: ``https://host:port`` without path; empty for a node that only lists ``nodes``.
        nodes: URIs of further instances.
        address: the node's account; 20 zero bytes off-chain.
        version: must parse as a semantic version.
        min_version: what gateways must have at least; empty for no demand.
        runner_version: what every model reports as its runner's version.
    """

    service_uri: str
    nodes: tuple[str, ...] = ()
    address: Address = ZERO_ADDRESS
    version: str = __version__
    min_version: str = ""
    runner_version: str = __version__

    def __post_init__(self) -> None:
        for uri in (self.service_uri, *self.nodes):
            if uri:
                check_service_uri(uri)
        if len(self.address) != ADDRESS_BYTES:
            raise ConfigError(f"the account's address has 20 bytes, got {len(self.address)}")
        for version in (self.version, self.runner_version):
            if parse_version(version) is None:
                raise ConfigError(f"a version looks like 0.9.1 or 0.9.1-name, got {version!r}")


class Quote:
    """Builds ``OrchestratorInfo`` replies as bytes. Used from the event loop only."""

    def __init__(
        self,
        config: QuoteConfig,
        *,
        models: Iterable[ModelEntry],
        capacity: Capacity,
        tokens: AuthTokens,
        gpus: tuple[Gpu, ...] = (),
        prices: PriceBook | None = None,
    ) -> None:
        """``models`` says which are warm, ``capacity`` how many places they have.

        ``prices``: None off-chain, where a reply has no price at all.
        """
        self.config = config
        self._is_warm = {entry.key: entry.warm for entry in models}
        self._capacity = capacity
        self._tokens = tokens
        self._gpus = gpus
        self._prices = prices
        self._is_stale = True
        self._capabilities = pb.Capabilities()
        self._before_terms = pb.OrchestratorInfo(transcoder=config.service_uri).SerializeToString()
        self._after_terms = b""
        self._hardware = b""
        self._nodes = pb.OrchestratorInfo(nodes=config.nodes).SerializeToString()
        capacity.watch(self._invalidate)

    @property
    def capabilities(self) -> pb.Capabilities:
        """What the node offers now. Not to be modified."""
        self._refresh()
        return self._capabilities

    def hardware(self) -> list[pb.HardwareInformation]:
        """The GPUs behind each model, in configuration order."""
        gpu_info = {
            str(gpu.index): pb.GPUComputeInfo(
                id=gpu.uuid,
                name=gpu.name,
                major=gpu.major,
                minor=gpu.minor,
                memory_free=gpu.memory_free,
                memory_total=gpu.memory_total,
            )
            for gpu in self._gpus
        }
        keys = self._capacity.keys()
        return [
            pb.HardwareInformation(
                pipeline=pipeline_of(key.capability), model_id=key.model_id, gpu_info=gpu_info
            )
            for key in keys
        ]

    def set_gpus(self, gpus: tuple[Gpu, ...]) -> None:
        """Replaces the hardware that full replies list."""
        self._gpus = gpus
        self._invalidate()

    def info(
        self,
        sender: Address,
        demand: pb.Capabilities | None,
        base_price: Fraction | None = None,
    ) -> bytes:
        """Returns a serialised ``net.OrchestratorInfo`` with a fresh auth token.

        Args:
            demand: the request's capabilities. None gives the full reply: hardware, the prices of
                all models, and the base price.
            base_price: replaces the sender's base price in a full reply.
        Raises: Refused: the sender cannot be given a price.
        """
        if self._prices is None:
            return self.compose(is_full=demand is None)
        price = self._prices.advertised_price(sender, demand, base_price)
        return self.compose(
            is_full=demand is None,
            terms=pb.OrchestratorInfo(price_info=to_price_info(price)),
            model_prices=None if demand is not None else self._prices.model_prices(sender),
        )

    def compose(
        self,
        *,
        is_full: bool,
        terms: pb.OrchestratorInfo | None = None,
        model_prices: Mapping[ModelKey, Fraction] | None = None,
        token: bytes | None = None,
    ) -> bytes:
        """Puts a reply together.

        Args:
            is_full: with the hardware.
            terms: has the price and the ticket parameters, and no other field.
            model_prices: what each model costs, in wei per unit.
            token: a serialised auth token to echo; None: a new one.
        """
        self._refresh()
        if token is None:
            token = self._tokens.issue()
        parts = [self._before_terms]
        if terms is not None:
            parts.append(terms.SerializeToString())
        parts += (self._after_terms, _AUTH_TOKEN_TAG, bytes((len(token),)), token)
        if is_full:
            parts.append(self._hardware)
        if model_prices is not None:
            prices = [to_price_info(price, key) for key, price in model_prices.items()]
            parts.append(pb.OrchestratorInfo(capabilities_prices=prices).SerializeToString())
        parts.append(self._nodes)
        return b"".join(parts)

    def _invalidate(self) -> None:
        self._is_stale = True

    def _refresh(self) -> None:
        if not self._is_stale:
            return
        self._is_stale = False
        self._capabilities = self._offer()
        self._after_terms = pb.OrchestratorInfo(
            address=self.config.address, capabilities=self._capabilities
        ).SerializeToString()
        self._hardware = pb.OrchestratorInfo(hardware=self.hardware()).SerializeToString()

    def _offer(self) -> pb.Capabilities:
        keys = self._capacity.keys()
        offered = sorted(DEFAULT_CAPABILITIES | {key.capability for key in keys})
        message = pb.Capabilities(
            bitstring=to_bitstring(offered),
            capacities=dict.fromkeys(offered, 1),
            version=self.config.version,
        )
        # Gateways dereference the constraints unchecked, so they are there even when empty.
        message.constraints.SetInParent()
        message.constraints.minVersion = self.config.min_version
        for key in keys:
            self._describe(message, key)
        return message

    def _describe(self, message: pb.Capabilities, key: ModelKey) -> None:
        model = message.constraints.PerCapability[key.capability].models[key.model_id]
        model.warm = self._is_warm.get(key, False)
        model.capacity = self._capacity.idle(key)
        model.runnerVersion = self.config.runner_version
        if key.capability == LIVE_VIDEO_TO_VIDEO:
            model.capacityInUse = self._capacity.in_use(key)


def echoed(token: pb.AuthToken) -> bytes:
    """Serialises a token that a peer sent, without whatever else it put into it."""
    return pb.AuthToken(
        token=token.token, session_id=token.session_id, expiration=token.expiration
    ).SerializeToString()
