"""What does one GetOrchestrator reply cost, from request bytes to reply bytes, without network?

Baseline: the same checks and the same fields, with the reply built and serialised anew for each
request, as a protobuf service usually does it.
"""

import time

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from lpnode import __version__
from lpnode.admission.ai_models import DEFAULT_AI_MODELS, slots_of
from lpnode.admission.auth_token import AuthTokens
from lpnode.admission.quote import Quote, QuoteConfig
from lpnode.edge.grpc.orchestrator import Orchestrator
from lpnode.gateway.discover import demand_for, discovery_request
from lpnode.protocol import lp_rpc_pb2 as pb
from lpnode.protocol.capability import DEFAULT_CAPABILITIES, LIVE_VIDEO_TO_VIDEO, to_bitstring
from lpnode.schedule.capacity import Capacity, ModelKey

MODELS = tuple(entry for entry in DEFAULT_AI_MODELS if entry.warm)
URI = "https://127.0.0.1:8935"
REQUESTS = {
    "poll": discovery_request(),
    "live": discovery_request(demand_for(LIVE_VIDEO_TO_VIDEO, "noop")),
}


class Usual:
    """GetOrchestrator without anything kept between two requests."""

    def __init__(self, capacity: Capacity, tokens: AuthTokens) -> None:
        self._capacity = capacity
        self._tokens = tokens

    def get_orchestrator(self, raw: bytes) -> bytes:
        request = pb.OrchestratorRequest.FromString(raw)
        keys = self._capacity.keys()
        constraints = request.capabilities.constraints.PerCapability
        if LIVE_VIDEO_TO_VIDEO in constraints and not request.ignoreCapacityCheck:
            wanted = constraints[LIVE_VIDEO_TO_VIDEO].models
            assert any(self._capacity.idle(ModelKey(LIVE_VIDEO_TO_VIDEO, m)) for m in wanted)
        bits = sorted(DEFAULT_CAPABILITIES | {key.capability for key in keys})
        info = pb.OrchestratorInfo(transcoder=URI, address=bytes(20))
        info.capabilities.bitstring.extend(to_bitstring(bits))
        for bit in bits:
            info.capabilities.capacities[bit] = 1
        info.capabilities.version = __version__
        for key in keys:
            models = info.capabilities.constraints.PerCapability[key.capability].models
            model = models[key.model_id]
            model.warm, model.runnerVersion = True, __version__
            model.capacity = self._capacity.idle(key)
            model.capacityInUse = self._capacity.in_use(key)
        info.auth_token.ParseFromString(self._tokens.issue())
        if not request.HasField("capabilities"):
            for key in keys:
                info.hardware.add(pipeline="live-video-to-video", model_id=key.model_id)
        return info.SerializeToString()


@pytest.mark.benchmark(group="GetOrchestrator reply")
@pytest.mark.parametrize("kind", REQUESTS)
@pytest.mark.parametrize("way", ["spliced", "built anew"])
def bench_reply(benchmark: BenchmarkFixture, way: str, kind: str) -> None:
    capacity = Capacity(slots_of(MODELS))
    tokens = AuthTokens(bytes(32))
    usual = Usual(capacity, tokens)
    quote = Quote(QuoteConfig(service_uri=URI), models=MODELS, capacity=capacity, tokens=tokens)
    spliced = Orchestrator(quote=quote, capacity=capacity, tokens=tokens)
    ask = (spliced if way == "spliced" else usual).get_orchestrator
    raw = REQUESTS[kind].SerializeToString()
    reply = benchmark(ask, raw)
    info, expected = (
        pb.OrchestratorInfo.FromString(each) for each in (reply, usual.get_orchestrator(raw))
    )
    assert abs(info.auth_token.expiration - time.time() - 1800) < 600
    for message in (info, expected):
        message.ClearField("auth_token")
    assert info == expected
