"""How a gateway reads the answer to a live job: live.md sections 2.3 and 2.4."""

import json

import pytest

from lpnode.errors import BadParameters, NoCapacity, ProtocolError, Refused
from lpnode.gateway.http2_post import Answer
from lpnode.gateway.live_job import read_answer

SERVICE = "https://node.example:8935"
GOOD = {
    "publish_url": f"{SERVICE}/ai/trickle/1a",
    "subscribe_url": f"{SERVICE}/ai/trickle/1a-out",
    "control_url": "/ai/trickle/1a-control",
    "events_url": f"{SERVICE}/ai/trickle/1a-events",
    "manifest_id": "1a",
}


def answer(body: object, status: int = 200, content_type: str = "application/json") -> Answer:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return Answer(status, {"content-type": content_type}, raw)


def test_urls_without_a_host_belong_to_the_service_address() -> None:
    job = read_answer(answer(GOOD), SERVICE)
    assert job.control_url == f"{SERVICE}/ai/trickle/1a-control"
    assert job.publish_url == GOOD["publish_url"]
    assert job.manifest_id == "1a"


def test_each_of_the_five_fields_is_needed() -> None:
    for name in GOOD:
        body = {key: value for key, value in GOOD.items() if key != name}
        with pytest.raises(ProtocolError, match=f"lacks '{name}'"):
            read_answer(answer(body), SERVICE)


def test_an_answer_that_would_break_a_gateway_is_an_error() -> None:
    for broken in (
        answer(b"{"),
        answer([]),
        answer(GOOD, content_type="text/plain"),
        answer(GOOD | {"events_url": ""}),
    ):
        with pytest.raises(ProtocolError):
            read_answer(broken, SERVICE)


def test_failures_are_told_apart_by_their_text() -> None:
    with pytest.raises(NoCapacity):
        read_answer(answer(b"Insufficient Capacity\n", 503), SERVICE)
    refused = b"live-video-to-video container returned 400: strength: must be 0 to 1\n"
    with pytest.raises(BadParameters, match=r"^strength: must be 0 to 1$"):
        read_answer(answer(refused, 500), SERVICE)
    with pytest.raises(Refused, match="HTTP 403: invalid auth token"):
        read_answer(answer(b"invalid auth token\n", 403), SERVICE)
