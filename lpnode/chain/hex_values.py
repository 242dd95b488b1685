"""Numbers and bytes as JSON-RPC writes them: ``0x`` and hex digits.

Source: Ethereum JSON-RPC specification, hex value encoding.
"""

import re

from lpnode.errors import ChainError

_QUANTITY = re.compile(r"0x[0-9a-fA-F]{1,64}")
_DATA = re.compile(r"0x(?:[0-9a-fA-F]{2})*")


def to_quantity(number: int) -> str:
    """Writes a non-negative number without leading zeros."""
    return hex(number)


def to_data(raw: bytes) -> str:
    """Writes bytes, two digits each."""
    return "0x" + raw.hex()


def quantity(value: object, what: str) -> int:
    """Reads a number. Raises: ChainError: ``what`` is something else."""
    # No sign, space or underscore, which int() would take.
    if isinstance(value, str) and _QUANTITY.fullmatch(value):
        return int(value, 16)
    raise ChainError(f"{what} must be a hex number, got {value!r:.200}")


def data(value: object, what: str, num_bytes: int | None = None) -> bytes:
    """Reads bytes, ``num_bytes`` of them if given. Raises: ChainError: it is something else."""
    if isinstance(value, str) and _DATA.fullmatch(value):
        raw = bytes.fromhex(value[2:])
        if num_bytes in (None, len(raw)):
            return raw
    wanted = "hex data" if num_bytes is None else f"{num_bytes} bytes of hex data"
    raise ChainError(f"{what} must be {wanted}, got {value!r:.200}")
