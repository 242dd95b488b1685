"""Parameter updates from the control channel. Source: live.md section 5."""

from collections.abc import Mapping
from typing import Any

import msgspec

from lpnode.errors import BadParameters

_KEEP_ALIVE = {"keep": "alive"}


def parse_control(message: bytes) -> Mapping[str, Any] | None:
    """Reads one control message, which a gateway forwards from its client unchecked.

    Returns: a full parameter set, not yet validated; None for a keep-alive.
    Raises: BadParameters: not a JSON object.
    """
    try:
        value = msgspec.json.decode(message)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
        raise BadParameters(f"control message is not JSON: {error}") from error
    if value == _KEEP_ALIVE:
        return None
    if not isinstance(value, dict):
        raise BadParameters(f"control message must be a JSON object, got {type(value).__name__}")
    return value
