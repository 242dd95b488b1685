"""Starting a live-video-to-video job as a gateway does, and reading the answer as it reads it.

Source: live.md section 2.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any
from urllib.parse import urljoin, urlsplit

from lpnode.errors import BadParameters, NoCapacity, ProtocolError, Refused
from lpnode.gateway.credentials import credentials_header
from lpnode.gateway.http2_post import Answer, post
from lpnode.protocol import lp_rpc_pb2 as pb
from lpnode.protocol.ethereum import Account
from lpnode.protocol.payment_header import PAYMENT_HEADER
from lpnode.protocol.segment_header import SEGMENT_HEADER

REQUEST_S = 5.0
_AUTHORIZATION = "Livepeer-AI-Worker-1.0"
_BAD_REQUEST_MARK = "returned 400"


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveJobRequest:
    """What a gateway asks for. ``params`` None is sent as ``null``."""

    model_id: str
    params: Mapping[str, Any] | None = None
    request_id: str = ""
    stream_id: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveJobAnswer:
    """Where the four channels are (absolute URLs), and the id that payments carry."""

    publish_url: str
    subscribe_url: str
    control_url: str
    events_url: str
    manifest_id: str


async def start_live_job(
    info: pb.OrchestratorInfo,
    demand: pb.Capabilities,
    request: LiveJobRequest,
    *,
    account: Account | None = None,
    payment: str = "",
) -> LiveJobAnswer:
    """Posts the job to ``info.transcoder``.

    ``account`` signs the credentials, ``payment`` is the header; off-chain there is neither.

    Raises: NoCapacity, BadParameters, Refused: declined; the text is the node's. PeerGone: no
        answer within 5 s. ProtocolError: an answer that would break a gateway.
    """
    credentials = credentials_header(request.model_id, demand, info.auth_token, account)
    headers = [
        ("Content-Type", "application/json"),
        (PAYMENT_HEADER, payment),
        (SEGMENT_HEADER, credentials),
        ("Authorization", _AUTHORIZATION),
    ]
    body = {
        "publish_url": "",
        "subscribe_url": "",
        "model_id": request.model_id,
        "params": request.params,
        "gateway_request_id": request.request_id,
        "stream_id": request.stream_id,
    }
    answer = await post(
        f"{info.transcoder}/live-video-to-video",
        json.dumps(body).encode(),
        headers,
        timeout_s=REQUEST_S,
    )
    return read_answer(answer, info.transcoder)


def read_answer(answer: Answer, service_uri: str) -> LiveJobAnswer:
    """Turns the response into channels, or into the failure that a gateway sees in it.

    Source: live.md sections 2.3 and 2.4.
    """
    text = answer.body.decode(errors="replace").removesuffix("\n")
    content_type = answer.headers.get("content-type", "")
    if answer.status != 200:
        raise _failure(answer.status, text)
    if "json" not in content_type:
        raise ProtocolError(f"expected a JSON answer, got {content_type or 'no content type'}")
    try:
        document = json.loads(answer.body)
        values = {field.name: str(document[field.name]) for field in fields(LiveJobAnswer)}
    except (ValueError, TypeError) as error:
        raise ProtocolError(f"the answer is not a JSON object: {text[:200]!r}") from error
    except KeyError as error:
        raise ProtocolError(f"the answer lacks {error}; a gateway needs all five fields") from error
    for name in ("publish_url", "subscribe_url", "control_url", "events_url"):
        url = values[name] if urlsplit(values[name]).netloc else urljoin(service_uri, values[name])
        if not urlsplit(url).path.strip("/"):
            raise ProtocolError(f"{name} {values[name]!r} names no channel")
        values[name] = url
    return LiveJobAnswer(**values)


def _failure(status: int, text: str) -> Refused:
    if "insufficient capacity" in text.lower():
        return NoCapacity(text)
    if _BAD_REQUEST_MARK in text:
        return BadParameters(text.partition(_BAD_REQUEST_MARK)[2].lstrip(": ") or text)
    return Refused(f"HTTP {status}: {text[:500]}")
