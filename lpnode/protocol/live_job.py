"""The request and answer of ``POST /live-video-to-video``. Source: live.md section 2."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import msgspec

from lpnode.errors import ProtocolError

MPEG_TS = "video/MP2T"
JSON = "application/json"


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveJob:
    """What a gateway asks for.

    ``params`` is None when the gateway sent none (absent, ``null``; ``{}`` is an empty mapping).
    ``received_ms`` is the wall clock when the request arrived.
    """

    model_id: str
    params: Mapping[str, Any] | None
    stream_id: str
    request_id: str
    received_ms: int


class ChannelNames(NamedTuple):
    """The four channels of a job, named from the gateway's point of view."""

    publish: str
    subscribe: str
    control: str
    events: str


class _Body(msgspec.Struct):
    """Only the fields an orchestrator reads; the others are ignored, known or not."""

    model_id: str | None = None
    params: dict[str, Any] | None = None
    gateway_request_id: str | None = None
    stream_id: str | None = None


_decode_body = msgspec.json.Decoder(_Body).decode


def parse_live_job(
    body: bytes, *, stream_id: str = "", request_id: str = "", received_ms: int
) -> LiveJob:
    """Decodes a request body.

    Args:
        stream_id: the legacy ``streamID`` header; the body's field overrides it.
        request_id: the legacy ``requestID`` header; ``gateway_request_id`` overrides it.
    Raises: ProtocolError: not JSON of this shape, or without a model.
    Source: live.md section 2.1.
    """
    try:
        fields = _decode_body(body)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
        raise ProtocolError(str(error)) from error
    if not fields.model_id:
        raise ProtocolError("model_id is missing: expected the name of a live pipeline")
    return LiveJob(
        model_id=fields.model_id,
        params=fields.params,
        stream_id=fields.stream_id or stream_id,
        request_id=fields.gateway_request_id or request_id,
        received_ms=received_ms,
    )


def channel_names(manifest_id: str) -> ChannelNames:
    """Source: live.md section 3."""
    return ChannelNames(
        publish=manifest_id,
        subscribe=f"{manifest_id}-out",
        control=f"{manifest_id}-control",
        events=f"{manifest_id}-events",
    )


def encode_live_answer(manifest_id: str, channels_url: str) -> bytes:
    """The body of the 200: all five fields, which a gateway cannot do without.

    Args:
        channels_url: absolute URL that channel names are appended to, with or without a final
            slash.
    Source: live.md section 2.3.
    """
    base = channels_url.rstrip("/")
    names = channel_names(manifest_id)
    return msgspec.json.encode(
        {
            "publish_url": f"{base}/{names.publish}",
            "subscribe_url": f"{base}/{names.subscribe}",
            "control_url": f"{base}/{names.control}",
            "events_url": f"{base}/{names.events}",
            "manifest_id": manifest_id,
        }
    )
