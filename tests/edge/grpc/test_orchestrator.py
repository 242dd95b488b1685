"""What a gateway gets from GetOrchestrator, Ping and EndTranscodingSession, as bytes."""

import asyncio
import contextlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lpnode.admission.ai_models import DEFAULT_AI_MODELS, ModelEntry, slots_of
from lpnode.admission.auth_token import AuthTokens
from lpnode.admission.quote import Quote, QuoteConfig
from lpnode.chain.signer import LocalSigner
from lpnode.edge.grpc.orchestrator import Orchestrator
from lpnode.errors import DiscoveryRefused, ProtocolError, TooLarge
from lpnode.protocol import lp_rpc_pb2 as pb
from lpnode.protocol.capability import (
    DEFAULT_CAPABILITIES,
    LIVE_VIDEO_TO_VIDEO,
    from_bitstring,
    meets,
    to_bitstring,
)
from lpnode.protocol.ethereum import parse_address
from lpnode.protocol.version import is_version_compatible
from lpnode.schedule.capacity import Capacity, ModelKey
from lpnode.schedule.hardware import Gpu

VECTORS: dict[str, Any] = json.loads(
    (Path(__file__).parents[2] / "vectors" / "discovery.json").read_text()
)
NOW = 1_767_225_600
TEXT_TO_IMAGE = 27
OFF_CHAIN_POLL = pb.OrchestratorRequest(address=bytes(20)).SerializeToString()
MODELS = (
    *DEFAULT_AI_MODELS,
    ModelEntry(pipeline="text-to-image", model_id="sd-turbo", warm=False, capacity=3),
)
GPU = Gpu(index=0, uuid="GPU-0", name="a GPU", major=9, minor=0, memory_free=1, memory_total=2)


@dataclass
class Node:
    capacity: Capacity
    tokens: AuthTokens
    quote: Quote
    orchestrator: Orchestrator

    def ask(self, request: bytes | pb.OrchestratorRequest) -> pb.OrchestratorInfo:
        raw = request if isinstance(request, bytes) else request.SerializeToString()
        reply = self.orchestrator.get_orchestrator(raw)
        assert isinstance(reply, bytes), "without a webhook the reply is there at once"
        return pb.OrchestratorInfo.FromString(reply)


MakeNode = Callable[..., Node]


@pytest.fixture
def make_node() -> MakeNode:
    def make(
        *,
        models: tuple[ModelEntry, ...] = MODELS,
        uri: str = "https://127.0.0.1:8935",
        signer: LocalSigner | None = None,
        **config: Any,
    ) -> Node:
        capacity = Capacity(slots_of(models))
        tokens = AuthTokens(bytes(range(32)), clock=lambda: NOW)
        quote = Quote(
            QuoteConfig(service_uri=uri, **config),
            models=models,
            capacity=capacity,
            tokens=tokens,
            gpus=(GPU,),
        )
        orchestrator = Orchestrator(quote=quote, capacity=capacity, tokens=tokens, signer=signer)
        return Node(capacity, tokens, quote, orchestrator)

    return make


@pytest.fixture
def node(make_node: MakeNode) -> Node:
    return make_node()


def demand(
    capability: int, *model_ids: str, ignore_capacity: bool = False
) -> pb.OrchestratorRequest:
    """The request of a gateway that looks for models of one capability."""
    bits = sorted(DEFAULT_CAPABILITIES | {capability})
    capabilities = pb.Capabilities(
        bitstring=to_bitstring(bits), capacities=dict.fromkeys(bits, 1), version="0.9.1"
    )
    constraints = capabilities.constraints.PerCapability[capability]
    for model_id in model_ids:
        constraints.models[model_id].SetInParent()
    return pb.OrchestratorRequest(
        address=bytes(20), capabilities=capabilities, ignoreCapacityCheck=ignore_capacity
    )


def live(*model_ids: str, ignore_capacity: bool = False) -> pb.OrchestratorRequest:
    return demand(LIVE_VIDEO_TO_VIDEO, *model_ids, ignore_capacity=ignore_capacity)


def models(info: pb.OrchestratorInfo, capability: int) -> Any:
    return info.capabilities.constraints.PerCapability[capability].models


def test_an_off_chain_reply_has_a_zero_address_and_no_price(node: Node) -> None:
    info = node.ask(OFF_CHAIN_POLL)
    assert info.address == bytes(20)
    assert not info.HasField("ticket_params")
    assert not info.HasField("price_info")
    assert not info.capabilities_prices
    assert info.transcoder == "https://127.0.0.1:8935"


@pytest.mark.parametrize("signature", [b"", b"x", bytes(65)])
def test_an_off_chain_node_accepts_any_signature(node: Node, signature: bytes) -> None:
    request = pb.OrchestratorRequest(address=b"\1" * 20, sig=signature)
    assert node.ask(request).HasField("auth_token")


def test_the_default_bits_are_offered_besides_the_ai_bits(node: Node) -> None:
    offer = node.ask(OFF_CHAIN_POLL).capabilities
    offered = DEFAULT_CAPABILITIES | {TEXT_TO_IMAGE, LIVE_VIDEO_TO_VIDEO}
    assert set(from_bitstring(offer.bitstring)) == offered
    assert dict(offer.capacities) == dict.fromkeys(offered, 1)
    assert not offer.mandatories


def test_constraints_are_present_even_without_models(make_node: MakeNode) -> None:
    node = make_node(models=())
    reply = node.orchestrator.get_orchestrator(OFF_CHAIN_POLL)
    assert isinstance(reply, bytes)
    info = pb.OrchestratorInfo.FromString(reply)
    assert info.capabilities.HasField("constraints")
    assert info.capabilities.SerializeToString().endswith(b"\x2a\x00")


def test_the_version_parses_and_is_new_enough(node: Node) -> None:
    assert is_version_compatible("0.9.1", node.ask(OFF_CHAIN_POLL).capabilities.version)


def test_a_reply_meets_what_a_gateway_demands(node: Node) -> None:
    request = live("noop")
    assert meets(request.capabilities, node.ask(request).capabilities)
    assert not meets(live("other").capabilities, node.ask(request).capabilities)


def test_a_request_without_capabilities_gets_the_full_reply(make_node: MakeNode) -> None:
    node = make_node(nodes=("https://127.0.0.2:8935",))
    info = node.ask(OFF_CHAIN_POLL)
    assert [(item.pipeline, item.model_id) for item in info.hardware] == [
        ("live-video-to-video", "noop"),
        ("live-video-to-video", "passthrough"),
        ("live-video-to-video", "edge-style"),
        ("live-video-to-video", "lpnode/shapes"),
        ("text-to-image", "sd-turbo"),
    ]
    assert info.hardware[0].gpu_info["0"].name == "a GPU"
    assert list(info.nodes) == ["https://127.0.0.2:8935"]


@pytest.mark.parametrize("capabilities", [pb.Capabilities(), live("noop").capabilities])
def test_a_request_with_even_empty_capabilities_gets_the_short_reply(
    make_node: MakeNode, capabilities: pb.Capabilities
) -> None:
    node = make_node(nodes=("https://127.0.0.2:8935",))
    info = node.ask(pb.OrchestratorRequest(capabilities=capabilities))
    assert not info.hardware
    assert info.HasField("capabilities")
    assert list(info.nodes) == ["https://127.0.0.2:8935"]


def test_a_directory_node_has_no_transcoder_and_replies_in_full(make_node: MakeNode) -> None:
    node = make_node(uri="", nodes=("https://127.0.0.2:8935",))
    for model_id in ("noop", "unknown"):
        info = node.ask(live(model_id))
        assert info.transcoder == ""
        assert info.hardware
        assert list(info.nodes) == ["https://127.0.0.2:8935"]


def test_a_reply_is_what_a_protobuf_library_would_write(make_node: MakeNode) -> None:
    node = make_node(nodes=("https://127.0.0.2:8935",), models=DEFAULT_AI_MODELS[:1])
    for request in (OFF_CHAIN_POLL, live("noop").SerializeToString()):
        reply = node.orchestrator.get_orchestrator(request)
        assert isinstance(reply, bytes)
        info = pb.OrchestratorInfo.FromString(reply)
        written = info.SerializeToString()
        assert pb.OrchestratorInfo.FromString(written) == info
        assert len(written) == len(reply)


def test_live_capacity_follows_every_lease_and_return(node: Node) -> None:
    key = ModelKey(LIVE_VIDEO_TO_VIDEO, "noop")
    seen = []
    with node.capacity.lease(key):
        seen.append(models(node.ask(OFF_CHAIN_POLL), LIVE_VIDEO_TO_VIDEO)["noop"])
    seen.append(models(node.ask(OFF_CHAIN_POLL), LIVE_VIDEO_TO_VIDEO)["noop"])
    assert [(model.capacity, model.capacityInUse) for model in seen] == [(1, 1), (2, 0)]
    assert all(model.warm and model.runnerVersion for model in seen)


def test_a_reserved_batch_slot_is_subtracted_and_not_reported_in_use(node: Node) -> None:
    with node.capacity.lease(ModelKey(TEXT_TO_IMAGE, "sd-turbo")):
        model = models(node.ask(OFF_CHAIN_POLL), TEXT_TO_IMAGE)["sd-turbo"]
        assert (model.capacity, model.capacityInUse, model.warm) == (2, 0, False)
    assert models(node.ask(OFF_CHAIN_POLL), TEXT_TO_IMAGE)["sd-turbo"].capacity == 3


def fill(node: Node, capability: int, model_id: str) -> None:
    key = ModelKey(capability, model_id)
    while node.capacity.idle(key):
        node.capacity.lease(key)


def test_a_live_model_without_free_slot_is_capped(node: Node) -> None:
    fill(node, LIVE_VIDEO_TO_VIDEO, "noop")
    with pytest.raises(DiscoveryRefused) as refusal:
        node.ask(live("noop"))
    assert str(refusal.value) == "Invalid orchestrator request: OrchestratorCapped"


@pytest.mark.parametrize("model_ids", [(), ("unknown",)])
def test_live_demand_without_a_model_of_ours_is_capped(
    node: Node, model_ids: tuple[str, ...]
) -> None:
    with pytest.raises(DiscoveryRefused, match="OrchestratorCapped"):
        node.ask(live(*model_ids))


def test_a_refresh_that_ignores_capacity_gets_a_normal_reply(node: Node) -> None:
    fill(node, LIVE_VIDEO_TO_VIDEO, "noop")
    assert node.ask(live("noop", ignore_capacity=True)).HasField("auth_token")


def test_one_free_model_of_two_is_enough(node: Node) -> None:
    fill(node, LIVE_VIDEO_TO_VIDEO, "noop")
    assert node.ask(live("noop", "passthrough")).HasField("auth_token")


def test_a_busy_batch_model_is_still_advertised(node: Node) -> None:
    fill(node, TEXT_TO_IMAGE, "sd-turbo")
    info = node.ask(demand(TEXT_TO_IMAGE, "sd-turbo"))
    assert models(info, TEXT_TO_IMAGE)["sd-turbo"].capacity == 0


def test_each_reply_has_a_token_of_its_own_session(node: Node) -> None:
    first, second = (node.ask(OFF_CHAIN_POLL).auth_token for _ in range(2))
    assert first.session_id != second.session_id
    for token in (first, second):
        assert len(token.session_id) == 8
        assert set(token.session_id) <= set("0123456789abcdef")
        assert token.expiration == NOW + 1800
        node.tokens.check(token)


def test_an_on_chain_node_decides_signatures_as_listed(make_node: MakeNode) -> None:
    cases = VECTORS["orchestrator_request_signature"]
    signer = LocalSigner(bytes.fromhex(cases["valid"][0]["private_key"][2:]))
    node = make_node(signer=signer, address=signer.address)
    for case in [*cases["valid"], *cases["invalid"]]:
        request = pb.OrchestratorRequest(
            address=parse_address(case["address"]), sig=bytes.fromhex(case["sig"][2:])
        )
        for _ in range(2):  # the verdict is remembered
            if case["valid"]:
                assert node.ask(request).address == signer.address
            else:
                with pytest.raises(DiscoveryRefused) as refusal:
                    node.ask(request)
                assert str(refusal.value) == (
                    "Invalid orchestrator request: orchestrator req sig check failed"
                )


@pytest.mark.parametrize("case", VECTORS["ping"])
async def test_a_ping_is_signed_on_chain_and_empty_off_chain(
    make_node: MakeNode, case: dict[str, Any]
) -> None:
    request = pb.PingPong(value=bytes.fromhex(case["value"][2:])).SerializeToString()
    signer = LocalSigner(bytes.fromhex(case["private_key"][2:]))
    answer = make_node(signer=signer).orchestrator.ping(request)
    assert not isinstance(answer, bytes)
    on_chain = await answer
    assert pb.PingPong.FromString(on_chain).value.hex() == case["onchain_reply"][2:]
    off_chain = make_node().orchestrator.ping(request)
    assert isinstance(off_chain, bytes)
    assert pb.PingPong.FromString(off_chain).value.hex() == case["offchain_reply"][2:]


def test_a_session_is_ended_by_its_token_even_when_expired(node: Node) -> None:
    expired = AuthTokens(bytes(range(32)), clock=lambda: 0).issue()
    for token in (node.ask(OFF_CHAIN_POLL).auth_token, pb.AuthToken.FromString(expired)):
        request = pb.EndTranscodingSessionRequest(auth_token=token)
        assert node.orchestrator.end_transcoding_session(request.SerializeToString()) == b""


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"",
        pb.EndTranscodingSessionRequest(auth_token=pb.AuthToken()).SerializeToString(),
        pb.EndTranscodingSessionRequest(
            auth_token=pb.AuthToken(token=bytes(32), session_id="0badcafe", expiration=NOW)
        ).SerializeToString(),
    ],
)
def test_a_missing_or_wrong_token_ends_nothing(node: Node, request_bytes: bytes) -> None:
    with pytest.raises(DiscoveryRefused) as refusal:
        node.orchestrator.end_transcoding_session(request_bytes)
    assert str(refusal.value) == "Invalid auth token"


def test_the_methods_have_the_paths_gateways_call(node: Node) -> None:
    assert set(node.orchestrator.methods()) == {
        "/net.Orchestrator/GetOrchestrator",
        "/net.Orchestrator/Ping",
        "/net.Orchestrator/EndTranscodingSession",
    }


NODE_FOR_NOISE = LocalSigner(b"\1" * 32)


@given(st.binary(max_size=200))
def test_noise_is_answered_or_refused_but_never_breaks(noise: bytes) -> None:
    capacity = Capacity(slots_of(MODELS))
    tokens = AuthTokens(bytes(32), clock=lambda: NOW)
    quote = Quote(
        QuoteConfig(service_uri="https://h:1"), models=MODELS, capacity=capacity, tokens=tokens
    )
    orchestrator = Orchestrator(
        quote=quote, capacity=capacity, tokens=tokens, signer=NODE_FOR_NOISE
    )

    async def send() -> None:
        for method in orchestrator.methods().values():
            with contextlib.suppress(DiscoveryRefused, ProtocolError):
                reply = method(noise)
                assert isinstance(reply if isinstance(reply, bytes) else await reply, bytes)

    asyncio.run(send())


def test_a_truncated_request_is_a_protocol_error(node: Node) -> None:
    request = live("noop").SerializeToString()[:-3]
    with pytest.raises(ProtocolError, match=r"net\.OrchestratorRequest"):
        node.ask(request)


def test_an_absurdly_large_request_is_refused_before_it_is_read(node: Node) -> None:
    request = live(*(f"model {n}" for n in range(10_000)))
    for method in node.orchestrator.methods().values():
        with pytest.raises(TooLarge, match="over 65536 bytes"):
            method(request.SerializeToString())
