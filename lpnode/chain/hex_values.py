"""Numbers and bytes as JSON-RPC writes them: ``0x`` and hex digits.

Source: Ethereum JSON-RPC specification, hex value encoding.
"""

from lpnode.errors import ChainError


def to_quantity(number: int) -> str:
    """Writes a non-negative number without leading zeros."""
    return hex(number)


def to_data(raw: bytes) -> str:
    """Writes bytes, two digits each."""
    return "0x" + raw.hex()


def quantity(value: object, what: str) -> int:
    """Reads a number. Raises: ChainError: ``what`` is something else."""
    if isinstance(value, str) and value[:2] == "0x":
        try:
            return int(value[2:], 16)
        except ValueError:
            pass
    raise ChainError(f"{what} must be a hex number, got {value!r}")


def data(value: object, what: str, num_bytes: int | None = None) -> bytes:
    """Reads bytes, ``num_bytes`` of them if given. Raises: ChainError: it is something else."""
    if isinstance(value, str) and value[:2] == "0x":
        try:
            raw = bytes.fromhex(value[2:])
        except ValueError:
            raw = None
        if raw is not None and num_bytes in (None, len(raw)):
            return raw
    wanted = "hex data" if num_bytes is None else f"{num_bytes} bytes of hex data"
    raise ChainError(f"{what} must be {wanted}, got {value!r:.200}")
