"""What a trickle request asks for, and every answer's status, headers and body.

Both ways in use this: the connection of the data plane and the handlers of the ordinary servers.
Source: trickle.md sections 3, 6 to 11 and 14.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import unquote

from lpnode.edge.trickle.framing import Fields
from lpnode.errors import NoCapacity, NoSuchChannel, NoSuchSegment, Refused
from lpnode.trickle import CURRENT, NEXT, Channel, Channels, Segment, SegmentWriter
from lpnode.trickle.headers import (
    CLOSED,
    CLOSED_VALUE,
    EXPECT_CONTENT,
    LATEST,
    RESET,
    SEGMENT_GONE,
    SEQ,
    parse_integer,
)

log = logging.getLogger(__name__)

TEXT: Fields = (("Content-Type", "text/plain; charset=utf-8"),)
ERROR: Fields = (*TEXT, ("X-Content-Type-Options", "nosniff"))
FINAL_NEXT = "next"


class HookRefused(Refused):
    """Raised by a create or delete hook to decline a peer's request with a status of its own."""

    def __init__(self, text: str, *, status: int = 400) -> None:
        super().__init__(text)
        self.status = status if 400 <= status <= 499 else 400


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole response. ``must_close`` asks for ``Connection: close`` on HTTP/1.1."""

    status: int
    fields: Fields = ()
    body: bytes = b""
    must_close: bool = False


@dataclass(frozen=True, slots=True)
class Publish:
    """The request's body goes to ``writer``; if that is done already, answer at once."""

    channel: Channel
    writer: SegmentWriter

    def answer(self) -> Answer:
        """The answer when the body has ended, or the writer was let go."""
        fields: Fields = ((SEQ, str(self.writer.segment.seq)),)
        if self.writer.has_begun:
            return Answer(200, fields)
        if self.channel.is_closed:
            fields = (*fields, (CLOSED, CLOSED_VALUE))
        return Answer(200, fields, must_close=True)


@dataclass(frozen=True, slots=True)
class Subscribe:
    """The segment's bytes are the response. ``latest`` is the write position at the request."""

    channel: Channel
    segment: Segment
    latest: int

    def head_fields(self) -> Fields:
        """Header fields of a response with data."""
        fields: Fields = ((SEQ, str(self.segment.seq)),)
        if self.channel.mime:
            fields = (*fields, ("Content-Type", self.channel.mime))
        if self.segment.seq != self.latest:
            fields = (*fields, (LATEST, str(self.latest)))
        return fields

    def empty_answer(self) -> Answer:
        """The answer when the segment was closed without a byte."""
        fields: Fields = ((SEQ, str(self.segment.seq)), (LATEST, str(self.channel.next)))
        if self.channel.is_closed:
            fields = (*fields, (CLOSED, CLOSED_VALUE))
        return Answer(200, fields)


PAGE_NOT_FOUND = Answer(404, ERROR, b"404 page not found\n")
STREAM_NOT_FOUND = Answer(404, ERROR, b"Stream not found\n")
PUBLISH_NOT_FOUND = Answer(404, ERROR, b"Stream not found\n", must_close=True)
INVALID_STREAM = Answer(400, ERROR, b"Invalid stream\n")
INVALID_SEQ = Answer(400, ERROR, b"Invalid idx\n")
PUBLISH_INVALID_SEQ = Answer(400, ERROR, b"Invalid idx\n", must_close=True)
NO_SUCH_SEGMENT = Answer(400, ERROR, b"Nonexistent segment\n")
TOO_MANY_SUBSCRIBERS = Answer(429, ERROR, b"Too many subscribers\n")
TOO_MANY_CHANNELS = Answer(429, ERROR, b"Too many channels\n")
SEGMENT_TOO_LARGE = Answer(413, ERROR, b"Segment too large\n", must_close=True)
BODY_FAILED = Answer(500, ERROR, b"Server error\n", must_close=True)
CHANNEL_METHODS = Answer(405, (*ERROR, ("Allow", "DELETE, POST")), b"Method Not Allowed\n")
SEGMENT_METHODS = Answer(
    405, (*ERROR, ("Allow", "DELETE, GET, HEAD, POST")), b"Method Not Allowed\n"
)


def decide(
    channels: Channels, method: str, path: str, field: Callable[[str], str]
) -> Answer | Publish | Subscribe:
    """Does at once what can be done at once, and takes hold of the segment for the rest.

    Args:
        path: as sent, percent-encoded, without query; it starts with the base path.
        field: the value of a request header by its lower-case name, ``""`` if absent.
    """
    name, slash, last = path[len(channels.config.base_path) :].partition("/")
    if not name or (slash and not last) or "/" in last:
        return PAGE_NOT_FOUND
    name = unquote(name)
    if not slash:
        return _channel_operation(channels, method, name, field)
    last = unquote(last)
    if method in ("GET", "HEAD"):
        return _next(channels, name) if last == FINAL_NEXT else _subscribe(channels, name, last)
    if method == "POST":
        return _publish(channels, name, last, field)
    if method == "DELETE":
        return _delete_segment(channels, name, last)
    return SEGMENT_METHODS


def _channel_operation(
    channels: Channels, method: str, name: str, field: Callable[[str], str]
) -> Answer:
    if method == "POST":
        return _create(channels, name, field(EXPECT_CONTENT.lower())) or Answer(200)
    if method != "DELETE":
        return CHANNEL_METHODS
    try:
        channels.close_for_peer(name)
    except NoSuchChannel:
        return INVALID_STREAM
    except HookRefused as refused:
        return Answer(refused.status, ERROR, f"{refused}\n".encode())
    except Exception:  # a hook is the operator's code; only this request fails
        log.exception("the delete hook failed for channel %s", name)
        return Answer(500, ERROR, b"Server error\n")
    return Answer(200)


def _create(channels: Channels, name: str, mime: str) -> Answer | None:
    try:
        channels.create_for_peer(name, mime)
    except NoSuchChannel:
        return STREAM_NOT_FOUND
    except NoCapacity:
        return TOO_MANY_CHANNELS
    except HookRefused as refused:
        return Answer(refused.status, ERROR, f"{refused}\n".encode())
    except Exception:  # a hook is the operator's code; only this request fails
        log.exception("the create hook failed for channel %s", name)
        return Answer(500, ERROR, b"Server error\n")
    return None


def _publish(
    channels: Channels, name: str, seq_text: str, field: Callable[[str], str]
) -> Answer | Publish:
    if name not in channels:
        refused = _create(channels, name, field("content-type"))
        if refused is not None:
            return Answer(refused.status, refused.fields, refused.body, must_close=True)
    seq = parse_integer(seq_text)
    if seq is None or seq < NEXT:
        return PUBLISH_INVALID_SEQ
    channel = channels.find(name)
    return Publish(channel, channel.open_for_write(seq, reset=bool(field(RESET.lower()))))


def _subscribe(channels: Channels, name: str, seq_text: str) -> Answer | Subscribe:
    try:
        channel = channels.find(name)
    except NoSuchChannel:
        return STREAM_NOT_FOUND
    seq = parse_integer(seq_text)
    if seq is None or seq < CURRENT:
        return INVALID_SEQ
    if channel.num_subscribers >= channels.config.max_subscribers:
        return TOO_MANY_SUBSCRIBERS
    latest = channel.next
    try:
        return Subscribe(channel, channel.open_for_read(seq), latest)
    except NoSuchSegment:
        fields = (*ERROR, (LATEST, str(latest)), (SEQ, str(seq)))
        return Answer(SEGMENT_GONE, fields, b"Entry not found")


def _next(channels: Channels, name: str) -> Answer:
    try:
        position = str(channels.find(name).next)
    except NoSuchChannel:
        return STREAM_NOT_FOUND
    return Answer(200, (*TEXT, (LATEST, position)), position.encode())


def _delete_segment(channels: Channels, name: str, seq_text: str) -> Answer:
    try:
        channel = channels.find(name)
    except NoSuchChannel:
        return STREAM_NOT_FOUND
    seq = parse_integer(seq_text)
    if seq is None or seq < 0:
        return INVALID_SEQ
    return Answer(200) if channel.close_segment(seq) else NO_SUCH_SEGMENT
