from typing_extensions import Buffer


def keccak256(message: Buffer) -> bytes:
    """The Keccak-256 digest (32 bytes) of a contiguous bytes-like object."""
