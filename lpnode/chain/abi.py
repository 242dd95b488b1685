"""Functions and events of contracts: their four-byte or 32-byte names and their values.

Values are what eth-abi makes of them, except that addresses are 20 bytes.
"""

from collections.abc import Sequence
from typing import Any

from eth_abi.abi import decode, encode
from eth_abi.exceptions import DecodingError, EncodingError

from lpnode.chain.eth import Log
from lpnode.errors import ChainError, InvalidArgument
from lpnode.protocol.ethereum import ADDRESS_BYTES
from lpnode.protocol.keccak import keccak256

_SELECTOR_BYTES = 4
_DYNAMIC = ("string", "bytes")


class Function:
    """A contract's function, written ``name(types)`` and, if it returns, the types behind it.

    For example ``Function("claimedReserve(address,address)", "uint256")``.
    """

    __slots__ = ("_inputs", "_outputs", "name", "selector", "signature")

    def __init__(self, signature: str, *outputs: str) -> None:
        self.signature = signature
        self.name, _, types = signature.partition("(")
        self.selector = keccak256(signature.encode())[:_SELECTOR_BYTES]
        self._inputs = _split(types.removesuffix(")"))
        self._outputs = outputs

    def encode(self, *arguments: object) -> bytes:
        """Returns calldata. Raises: InvalidArgument: a value does not fit its type."""
        try:
            return self.selector + encode(self._inputs, arguments)
        except (EncodingError, ValueError, TypeError) as exc:
            raise InvalidArgument(f"{self.signature}: {exc}") from exc

    def decode(self, returned: bytes) -> tuple[Any, ...]:
        """Reads what a call returned. Raises: ChainError: it is something else."""
        if self._outputs and not returned:
            raise ChainError(f"{self.name} returned nothing: there is no such contract there")
        return _decode(self._outputs, returned, self.name)


class Event:
    """A contract's event. Parameters are ``type name``, or ``type indexed name``."""

    __slots__ = ("_data", "_topics", "name", "signature", "topic")

    def __init__(self, name: str, *parameters: str) -> None:
        self.name = name
        split = [parameter.split() for parameter in parameters]
        self.signature = f"{name}({','.join(words[0] for words in split)})"
        self.topic = keccak256(self.signature.encode())
        self._topics = [(words[0], words[-1]) for words in split if len(words) == 3]
        self._data = [(words[0], words[-1]) for words in split if len(words) == 2]
        if any(kind in _DYNAMIC for kind, _ in self._topics):
            raise InvalidArgument(f"{name}: an indexed string or bytes is only its hash")

    def decode(self, log: Log) -> dict[str, Any]:
        """Returns the parameters by name. Raises: ChainError: the log is another event's."""
        if log.topics[:1] != (self.topic,) or len(log.topics) != 1 + len(self._topics):
            raise ChainError(f"not a log of {self.signature}: {len(log.topics)} topics")
        values = {
            name: _decode([kind], topic, self.name)[0]
            for (kind, name), topic in zip(self._topics, log.topics[1:], strict=True)
        }
        found = _decode([kind for kind, _ in self._data], log.data, self.name)
        return values | dict(zip((name for _, name in self._data), found, strict=True))


def _split(types: str) -> list[str]:
    """Splits at the commas that are in no bracket."""
    parts: list[str] = []
    depth = 0
    for piece in types.split(","):
        if depth:
            parts[-1] += "," + piece
        elif piece:
            parts.append(piece)
        depth += piece.count("(") - piece.count(")")
    return parts


def _decode(types: Sequence[str], encoded: bytes, name: str) -> tuple[Any, ...]:
    try:
        values = decode(list(types), encoded)
    except (DecodingError, ValueError, OverflowError) as exc:
        raise ChainError(f"{name}: {len(encoded)} bytes are not {','.join(types)}: {exc}") from exc
    return tuple(
        bytes.fromhex(value[2:].rjust(2 * ADDRESS_BYTES, "0")) if kind == "address" else value
        for kind, value in zip(types, values, strict=True)
    )
