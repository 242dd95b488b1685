"""Discovery replies in the shape of a gateway's ``/getNetworkCapabilities``.

Source: discovery.md section 7.2.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from google.protobuf.message import Message

from lpnode.gateway.discover import Discovered
from lpnode.protocol.capability import CAPABILITY_NAMES
from lpnode.protocol.ethereum import checksum_text, to_address


def network_capabilities(found: Iterable[Discovered]) -> dict[str, Any]:
    """Returns the JSON document as plain values."""
    return {
        "capabilities_names": {str(number): name for number, name in CAPABILITY_NAMES.items()},
        "orchestrators": [_orchestrator(node) for node in found],
    }


def _orchestrator(node: Discovered) -> dict[str, Any]:
    info = node.info
    recipient = info.ticket_params.recipient
    return {
        "address": checksum_text(to_address(recipient)) if recipient else "",
        "local_address": checksum_text(to_address(info.address)),
        "orch_uri": info.transcoder,
        "capabilities": plain(info.capabilities) if info.HasField("capabilities") else None,
        "price_info": plain(info.price_info) if info.HasField("price_info") else None,
        "capabilities_prices": [plain(price) for price in info.capabilities_prices] or None,
        "hardware": [plain(item) for item in info.hardware] or None,
    }


def plain(message: Message) -> dict[str, Any]:
    """Returns the set fields by their proto names; zero, empty and false ones are left out.

    Not protobuf's own JSON mapping: that writes 64-bit numbers as text.
    """
    return {field.name: _plain(value) for field, value in message.ListFields()}


def _plain(value: Any) -> Any:
    if isinstance(value, Message):
        return plain(value)
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        return [_plain(item) for item in value]
    return value
