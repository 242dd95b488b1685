"""Every case of vectors/discovery.json that concerns messages, signatures, versions and bits."""

import json
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.json_format import MessageToDict

from lpnode.admission.auth_token import auth_token
from lpnode.errors import NotCapable
from lpnode.protocol import lp_rpc_pb2 as pb
from lpnode.protocol.capability import (
    CAPABILITY_NAMES,
    DEFAULT_CAPABILITIES,
    PIPELINES,
    capability_of,
    from_bitstring,
    meets,
    to_bitstring,
)
from lpnode.protocol.ethereum import (
    Account,
    checksum_text,
    is_message_signed_by,
    is_signed_by,
    parse_address,
    personal_digest,
    to_address,
    wrapped_digest,
)
from lpnode.protocol.keccak import keccak256
from lpnode.protocol.segment_header import flatten
from lpnode.protocol.version import is_version_compatible

VECTORS: dict[str, Any] = json.loads(
    (Path(__file__).parent.parent / "vectors" / "discovery.json").read_text()
)


def unhex(text: str) -> bytes:
    return bytes.fromhex(text.removeprefix("0x"))


def name_of(case: dict[str, Any]) -> str:
    return str(case.get("name") or case.get("pipeline") or "")


def capabilities(case: dict[str, Any]) -> pb.Capabilities:
    message = pb.Capabilities(
        bitstring=[int(word) for word in case.get("words", to_bitstring(case["caps"]))],
        mandatories=[int(word) for word in case.get("mandatories", [])],
        version=case.get("version", ""),
    )
    message.constraints.minVersion = case.get("minVersion", "")
    for capability, models in case["models"].items():
        for model_id, fields in models.items():
            model = message.constraints.PerCapability[int(capability)].models[model_id]
            model.MergeFrom(pb.Capabilities.CapabilityConstraints.ModelConstraint(**fields))
    return message


@pytest.mark.parametrize("case", VECTORS["wire"], ids=name_of)
def test_a_message_has_the_listed_fields_and_bytes(case: dict[str, Any]) -> None:
    raw = unhex(case["hex"])
    kind: type[Any] = getattr(pb, case["message"].removeprefix("net."))
    message = kind.FromString(raw)
    assert MessageToDict(message, preserving_proto_field_name=True) == case["fields"]
    if case["byte_order_unique"]:
        assert message.SerializeToString() == raw
    assert kind.FromString(message.SerializeToString()) == message


@pytest.mark.parametrize("case", VECTORS["orchestrator_request_signature"]["valid"])
def test_a_gateway_signs_its_checksummed_address(case: dict[str, Any]) -> None:
    account = Account(unhex(case["private_key"]))
    text = checksum_text(account.address)
    assert text == case["checksum_text"]
    assert account.address == parse_address(case["address"])
    assert keccak256(text.encode()) == unhex(case["keccak_of_text"])
    assert personal_digest(text.encode()) == unhex(case["eip191_digest"])
    assert account.sign(text.encode()) == unhex(case["sig"])
    assert is_message_signed_by(account.address, text.encode(), unhex(case["sig"]))


@pytest.mark.parametrize("case", VECTORS["orchestrator_request_signature"]["invalid"], ids=name_of)
def test_a_wrong_request_signature_is_refused(case: dict[str, Any]) -> None:
    address = parse_address(case["address"])
    text = checksum_text(address).encode()
    assert not is_message_signed_by(address, text, unhex(case["sig"]))


@pytest.mark.parametrize("case", VECTORS["verify_sig"]["cases"])
def test_a_signature_over_a_hashed_value_is_decided(case: dict[str, Any]) -> None:
    digest = wrapped_digest(unhex(case["msg32"]))
    address = parse_address(case["address"])
    assert is_signed_by(address, digest, unhex(case["sig"])) is case["valid"]


@pytest.mark.parametrize("case", VECTORS["address_bytes_normalisation"])
def test_an_address_of_any_length_becomes_20_bytes(case: dict[str, Any]) -> None:
    assert to_address(unhex(case["in"])) == unhex(case["address"])


@pytest.mark.parametrize("case", VECTORS["ping"])
def test_a_ping_value_is_signed_like_every_message(case: dict[str, Any]) -> None:
    assert Account(unhex(case["private_key"])).sign(unhex(case["value"])) == unhex(
        case["onchain_reply"]
    )


@pytest.mark.parametrize("case", VECTORS["segdata_signature"]["cases"])
def test_segment_credentials_are_flattened_and_signed(case: dict[str, Any]) -> None:
    flat = flatten(
        case["manifest_id"].encode(), case["seq"], unhex(case["hash"]), case["profile_names"]
    )
    assert flat == unhex(case["flattened"])
    assert Account(unhex(case["private_key"])).sign(flat) == unhex(case["sig"])


@pytest.mark.parametrize("case", VECTORS["auth_token"]["cases"])
def test_an_auth_token_is_the_listed_mac(case: dict[str, Any]) -> None:
    token = auth_token(unhex(case["secret"]), case["session_id"], case["expiration"])
    assert token == unhex(case["token"])


def test_capabilities_have_the_names_gateways_show() -> None:
    assert {str(number): name for number, name in CAPABILITY_NAMES.items()} == VECTORS[
        "capability_names"
    ]


@pytest.mark.parametrize("case", VECTORS["pipeline_to_capability"], ids=name_of)
def test_exactly_the_ten_ai_pipelines_have_a_capability(case: dict[str, Any]) -> None:
    if case["pipeline"] in PIPELINES:
        assert capability_of(case["pipeline"]) == case["capability"]
    else:
        with pytest.raises(NotCapable, match="pipeline not available"):
            capability_of(case["pipeline"])


def test_there_are_ten_ai_pipelines() -> None:
    listed = {case["pipeline"] for case in VECTORS["pipeline_to_capability"]}
    assert len(PIPELINES) == 10
    assert listed >= set(PIPELINES)


def test_the_default_capabilities_are_the_listed_bits() -> None:
    expected = VECTORS["default_capabilities"]
    assert sorted(DEFAULT_CAPABILITIES) == expected["ids"]
    assert to_bitstring(DEFAULT_CAPABILITIES) == [int(word) for word in expected["bitstring"]]


@pytest.mark.parametrize("case", VECTORS["bitstring"])
def test_a_bitstring_has_the_listed_words(case: dict[str, Any]) -> None:
    words = [int(word) for word in case["words"]]
    assert to_bitstring(case["capabilities"]) == words
    assert from_bitstring(words) == sorted(c for c in case["capabilities"] if c >= 0)


@pytest.mark.parametrize("case", VECTORS["version_compat"])
def test_a_version_is_compared_as_gateways_do(case: dict[str, Any]) -> None:
    assert is_version_compatible(case["min"], case["version"]) is case["compatible"]


@pytest.mark.parametrize("case", VECTORS["capability_compat"], ids=name_of)
def test_an_offer_is_compared_with_a_demand_as_gateways_do(case: dict[str, Any]) -> None:
    demand, offer = capabilities(case["gateway"]), capabilities(case["orchestrator"])
    assert meets(demand, offer) is case["compatible"]
