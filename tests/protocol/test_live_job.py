"""Source: live.md section 2; checklist L1, L3."""

import json

import pytest

from lpnode.errors import ProtocolError
from lpnode.protocol.live_job import encode_live_answer, parse_live_job

GATEWAY_BODY = {
    "publish_url": "",
    "subscribe_url": "",
    "model_id": "noop",
    "gateway_request_id": "1a2b3c4d",
    "stream_id": "str_1",
}


@pytest.mark.parametrize(
    ("params", "expected"),
    [({"params": None}, None), ({"params": {}}, {}), ({}, None)],
    ids=["null", "empty", "absent"],
)
def test_a_gateway_shaped_body_is_accepted_with_any_form_of_no_params(
    params: dict[str, object], expected: object
) -> None:
    job = parse_live_job(json.dumps(GATEWAY_BODY | params).encode(), received_ms=5)
    assert (job.model_id, job.params) == ("noop", expected)
    assert (job.request_id, job.stream_id, job.received_ms) == ("1a2b3c4d", "str_1", 5)


def test_unknown_fields_are_ignored() -> None:
    body = json.dumps(GATEWAY_BODY | {"surprise": [1, {"deep": None}]}).encode()
    assert parse_live_job(body, received_ms=0).model_id == "noop"


def test_the_body_overrides_the_legacy_headers() -> None:
    job = parse_live_job(
        json.dumps(GATEWAY_BODY).encode(), stream_id="old", request_id="old", received_ms=0
    )
    assert (job.stream_id, job.request_id) == ("str_1", "1a2b3c4d")
    job = parse_live_job(b'{"model_id":"m"}', stream_id="s", request_id="r", received_ms=0)
    assert (job.stream_id, job.request_id) == ("s", "r")


@pytest.mark.parametrize("body", [b"{}", b'{"model_id":null}', b'{"model_id":""}'])
def test_a_missing_model_is_refused(body: bytes) -> None:
    with pytest.raises(ProtocolError, match="model_id is missing"):
        parse_live_job(body, received_ms=0)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"[]",
        b"{",
        b'"x"',
        b'{"model_id":7}',
        b'{"model_id":"m","params":[]}',
        b'{"model_id":"\xff"}',
        b'{"params":' + b'{"a":' * 50_000,
    ],
    ids=["empty", "null", "array", "cut", "string", "number", "params", "utf8", "deep"],
)
def test_what_is_not_a_job_is_a_protocol_error(body: bytes) -> None:
    with pytest.raises(ProtocolError, match=r"."):
        parse_live_job(body, received_ms=0)


def test_the_answer_has_all_five_fields_whatever_the_slash() -> None:
    expected = {
        "publish_url": "https://h:8935/ai/trickle/ab",
        "subscribe_url": "https://h:8935/ai/trickle/ab-out",
        "control_url": "https://h:8935/ai/trickle/ab-control",
        "events_url": "https://h:8935/ai/trickle/ab-events",
        "manifest_id": "ab",
    }
    for base in ("https://h:8935/ai/trickle", "https://h:8935/ai/trickle/"):
        assert json.loads(encode_live_answer("ab", base)) == expected
