"""The two headers of a request: who is let in, and with which words others are not."""

import base64
from collections.abc import Callable

import pytest

from lpnode.admission.admit import Admission, Admitter, AdmitterConfig
from lpnode.admission.ai_models import DEFAULT_AI_MODELS, slots_of
from lpnode.admission.auth_token import AuthTokens
from lpnode.admission.quote import Quote, QuoteConfig
from lpnode.errors import NotAuthorised, PaymentUnreadable
from lpnode.protocol import lp_rpc_pb2 as pb
from lpnode.protocol.base64_message import encode_message
from lpnode.protocol.ethereum import ZERO_ADDRESS, Account
from lpnode.protocol.segment_header import ai_segment, segment_header, signed_part
from lpnode.schedule.capacity import Capacity

NOW = 1_767_225_600
GATEWAY = Account(b"\7" * 32)


class Clock:
    now = float(NOW)

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def tokens(clock: Clock) -> AuthTokens:
    return AuthTokens(bytes(range(32)), clock=clock)


@pytest.fixture
def quote(tokens: AuthTokens) -> Quote:
    return Quote(
        QuoteConfig(service_uri="https://127.0.0.1:8935"),
        models=DEFAULT_AI_MODELS,
        capacity=Capacity(slots_of(DEFAULT_AI_MODELS)),
        tokens=tokens,
    )


MakeAdmitter = Callable[[bool], Admitter]


@pytest.fixture
def make_admitter(tokens: AuthTokens, quote: Quote) -> MakeAdmitter:
    def make(verify_signatures: bool) -> Admitter:
        return Admitter(
            AdmitterConfig(verify_signatures=verify_signatures),
            tokens=tokens,
            capabilities=lambda: quote.capabilities,
        )

    return make


@pytest.fixture
def off_chain(make_admitter: MakeAdmitter) -> Admitter:
    return make_admitter(False)


@pytest.fixture
def segment(quote: Quote) -> pb.SegData:
    """Credentials as an off-chain gateway makes them from a discovery reply."""
    info = pb.OrchestratorInfo.FromString(quote.info(ZERO_ADDRESS, None))
    demand = pb.Capabilities(bitstring=info.capabilities.bitstring, version="0.9.1")
    demand.constraints.PerCapability[35].models["noop"].SetInParent()
    return ai_segment(b"35_noop", demand, info.auth_token)


def test_an_off_chain_gateway_is_admitted_with_an_empty_payment(
    off_chain: Admitter, segment: pb.SegData
) -> None:
    assert off_chain.admit("", segment_header(segment), "a1b2") == Admission(
        sender=ZERO_ADDRESS, session_id=segment.auth_token.session_id, manifest_id="a1b2"
    )


def test_the_payment_names_the_sender(off_chain: Admitter, segment: pb.SegData) -> None:
    payment = encode_message(pb.Payment(sender=GATEWAY.address))
    assert off_chain.admit(payment, segment_header(segment), "m").sender == GATEWAY.address


@pytest.mark.parametrize(
    ("header", "start"),
    [
        ("!!!", "base64 decode error"),
        ("é", "base64 decode error"),
        ("CgE", "base64 decode error"),
        ("CgH_", "base64 decode error"),
        ("CgEA\nCgEA", "base64 decode error"),
        ("/////w==", "protobuf unmarshal error"),
    ],
)
def test_an_unreadable_payment_is_said_to_be_so(
    off_chain: Admitter, segment: pb.SegData, header: str, start: str
) -> None:
    with pytest.raises(PaymentUnreadable) as refusal:
        off_chain.admit(header, segment_header(segment), "m")
    assert str(refusal.value).startswith(start)


def refusal_of(admitter: Admitter, header: str | pb.SegData, payment: str = "") -> str:
    text = header if isinstance(header, str) else segment_header(header)
    with pytest.raises(NotAuthorised) as refusal:
        admitter.admit(payment, text, "m")
    return str(refusal.value)


def test_credentials_that_cannot_be_read_are_refused(off_chain: Admitter) -> None:
    assert refusal_of(off_chain, "!!!") == "ErrorSegEncoding"
    noise = base64.b64encode(b"\xff\xff\xff\xff").decode()
    assert refusal_of(off_chain, noise).startswith("protobuf unmarshal error")


def test_absent_credentials_are_refused(off_chain: Admitter) -> None:
    assert refusal_of(off_chain, "") == "missing auth token"


@pytest.mark.parametrize("duration", [-1, 300_001])
def test_an_absurd_duration_is_refused(
    off_chain: Admitter, segment: pb.SegData, duration: int
) -> None:
    segment.duration = duration
    assert refusal_of(off_chain, segment) == "invalid duration"


def test_an_unknown_output_format_is_refused(off_chain: Admitter, segment: pb.SegData) -> None:
    segment.fullProfiles3.add(name="p", format=9)
    assert refusal_of(off_chain, segment) == "unrecognized profile output format"


def test_a_demand_that_is_not_met_is_refused(off_chain: Admitter, segment: pb.SegData) -> None:
    segment.capabilities.constraints.PerCapability[35].models["other"].SetInParent()
    assert refusal_of(off_chain, segment) == "incompatible capabilities"


def test_a_missing_token_is_refused(off_chain: Admitter, segment: pb.SegData) -> None:
    segment.ClearField("auth_token")
    assert refusal_of(off_chain, segment) == "missing auth token"


def test_a_token_of_another_node_is_refused(off_chain: Admitter, segment: pb.SegData) -> None:
    other = AuthTokens(bytes(32), clock=lambda: NOW)
    segment.auth_token.CopyFrom(pb.AuthToken.FromString(other.issue()))
    assert refusal_of(off_chain, segment) == "invalid auth token"


def test_an_expired_token_is_refused(
    off_chain: Admitter, segment: pb.SegData, clock: Clock
) -> None:
    clock.now = NOW + 1801
    assert refusal_of(off_chain, segment) == "expired auth token"


def test_on_chain_only_the_senders_signature_counts(
    make_admitter: MakeAdmitter, segment: pb.SegData
) -> None:
    on_chain = make_admitter(True)
    payment = encode_message(pb.Payment(sender=GATEWAY.address))
    assert refusal_of(on_chain, segment, payment) == "ErrSegSig"
    segment.sig = GATEWAY.sign(signed_part(segment))
    assert on_chain.admit(payment, segment_header(segment), "m").sender == GATEWAY.address
    assert refusal_of(on_chain, segment) == "ErrSegSig"  # an empty sender is the zero address
    segment.manifestId = b"35_other"
    assert refusal_of(on_chain, segment, payment) == "ErrSegSig"


def test_profile_names_are_part_of_what_is_signed(
    make_admitter: MakeAdmitter, segment: pb.SegData
) -> None:
    segment.fullProfiles.add(name="P144p30fps16x9")
    segment.sig = GATEWAY.sign(signed_part(segment))
    payment = encode_message(pb.Payment(sender=GATEWAY.address))
    assert make_admitter(True).admit(payment, segment_header(segment), "m")
    segment.fullProfiles[0].name = "P240p30fps16x9"
    assert refusal_of(make_admitter(True), segment, payment) == "ErrSegSig"
