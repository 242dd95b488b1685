from typing import Final

from typing_extensions import Buffer


def keccak256(message: Buffer) -> bytes:
    """The Keccak-256 digest (32 bytes) of a contiguous bytes-like object."""

VALID: int = 1

WON: int = 2

RECOVERED: int = 4

def best_simd_path() -> str:
    """
    The path that "auto" takes on this machine: "portable", "avx2" or "ifma".
    """

class Secp256k1:
    """libsecp256k1 as loaded by someone else."""

    def __init__(self, context: int, parse_compact: int, recover: int, serialize: int) -> None:
        """
        Addresses of a context and of secp256k1_ecdsa_recoverable_signature_parse_compact,
        secp256k1_ecdsa_recover and secp256k1_ec_pubkey_serialize. The library stays loaded.
        """

class GeneratorTable:
    """Multiples of the curve's generator. Immutable."""

    def __init__(self, secret: bytes) -> None:
        """
        secret: 32 random bytes of this process, which blind the rows. Takes about 30 ms,
        without the GIL.
        """

    @property
    def num_bytes(self) -> int:
        """Memory that the rows take."""

class SignerTable:
    """Multiples of a sender's public key. Immutable."""

    def __init__(self, public_key: bytes) -> None:
        """public_key: x and y, 64 bytes. Takes about 1.5 ms, without the GIL."""

    NUM_BYTES: Final[int] = ...
    """Memory that the rows of one signer take."""

class Verifier:
    """Verifies the tickets of payments. Any thread."""

    def __init__(self, secp256k1: Secp256k1, path: str = 'auto') -> None:
        """path: "auto", "portable", "avx2" or "ifma"."""

    def verify(self, preimage: Buffer, sender: bytes, recipient_rand: bytes | None, win_prob: bytes, nonces: Buffer, signatures: Buffer, generator: GeneratorTable | None = None, table: SignerTable | None = None) -> tuple[bytes, bytes | None]:
        """
        Verifies the N tickets of one payment; the GIL is released meanwhile.

        preimage: the packed ticket (168 or 232 bytes), whatever its nonce. sender: 20 bytes.
        recipient_rand: 32 bytes, or None: no ticket wins. win_prob: 32 bytes, big-endian.
        nonces: N native uint32. signatures: N rows of 65 bytes. table: of the sender's key.

        Returns a byte for each ticket, made of VALID, WON and RECOVERED, and the sender's
        public key (x and y, 64 bytes) if it was recovered from one of them.
        """
