"""Exception type → HTTP status, gRPC status, public message. The only such table.

Gateways match on texts, so the texts of refusals go out as they are; what failed inside the node
is not the peer's business and is told only that it failed.

Source: discovery.md sections 3.1 and 10 row 14; live.md sections 2.2 and 2.4.
"""

from dataclasses import dataclass

from lpnode.edge.exchange import Response, text_response
from lpnode.errors import (
    BadParameters,
    ChannelError,
    DiscoveryRefused,
    HostError,
    InsufficientBalance,
    LpnodeError,
    MediaError,
    NoCapacity,
    NoSuchChannel,
    NotAuthorised,
    NotBuilt,
    NotCapable,
    PaymentUnreadable,
    ProtocolError,
    Refused,
    TicketRejected,
    TooLarge,
)

# The gateway stops trying other nodes only if it reads these words: live.md section 2.4.
_BAD_PARAMETERS = "live-video-to-video container returned 400: "

_UNKNOWN, _RESOURCE_EXHAUSTED, _UNIMPLEMENTED, _INTERNAL = 2, 8, 12, 13


@dataclass(frozen=True, slots=True)
class _Row:
    http: int
    grpc: int
    text: str | None = None  # None: the exception's own
    prefix: str = ""


# Status 2 is what a gateway's own peers answer to every refusal; it ignores the number.
_TABLE: dict[type[Exception], _Row] = {
    Refused: _Row(400, _UNKNOWN),
    NotAuthorised: _Row(403, _UNKNOWN),
    NoCapacity: _Row(503, _UNKNOWN),
    NotCapable: _Row(400, _UNKNOWN),
    PaymentUnreadable: _Row(402, _UNKNOWN),
    InsufficientBalance: _Row(400, _UNKNOWN),
    TicketRejected: _Row(400, _UNKNOWN),
    BadParameters: _Row(500, _UNKNOWN, prefix=_BAD_PARAMETERS),
    DiscoveryRefused: _Row(400, _UNKNOWN),
    ProtocolError: _Row(400, _INTERNAL),
    TooLarge: _Row(413, _RESOURCE_EXHAUSTED),
    ChannelError: _Row(400, _UNKNOWN),
    NoSuchChannel: _Row(404, _UNKNOWN),
    MediaError: _Row(500, _INTERNAL, "media could not be processed"),
    HostError: _Row(500, _INTERNAL, "the model host failed"),
    NotBuilt: _Row(501, _UNIMPLEMENTED),
    LpnodeError: _Row(500, _INTERNAL, "internal error"),
}
_UNEXPECTED = _Row(500, _INTERNAL, "internal error")


def http_status(error: Exception) -> tuple[int, str]:
    """HTTP status and public text, without its newline."""
    row = _row(error)
    return row.http, _text(row, error)


def grpc_status(error: Exception) -> tuple[int, str]:
    """gRPC status and public text."""
    row = _row(error)
    return row.grpc, _text(row, error)


def error_response(error: Exception) -> Response:
    """The plain-text answer to a request that failed with ``error``."""
    status, text = http_status(error)
    return text_response(status, text + "\n")


def is_unexpected(error: Exception) -> bool:
    """Whether somebody should look: the node failed rather than the request."""
    return _row(error).text is not None


def _row(error: Exception) -> _Row:
    for kind in type(error).__mro__:
        row = _TABLE.get(kind)
        if row is not None:
            return row
    return _UNEXPECTED


def _text(row: _Row, error: Exception) -> str:
    return row.text if row.text is not None else row.prefix + str(error)
