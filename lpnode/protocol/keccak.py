"""Keccak-256, the hash Ethereum signs and names things with (not SHA3-256: the padding differs)."""

from lpnode._native import ticket


def keccak256(message: bytes | bytearray | memoryview) -> bytes:
    """Returns the 32-byte digest of a contiguous ``message`` of any length."""
    return ticket.keccak256(message)
