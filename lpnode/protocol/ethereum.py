"""Addresses and message signatures as Ethereum accounts make them.

Source: discovery.md section 3.2 (EIP-55 checksummed text, EIP-191 personal messages).
"""

from typing import NewType

import coincurve

from lpnode.errors import ConfigError, InvalidArgument
from lpnode.protocol.keccak import keccak256

Address = NewType("Address", bytes)
"""20 bytes."""

Signature = NewType("Signature", bytes)
"""65 bytes: r, s, and v which is 27 or 28."""

ADDRESS_BYTES = 20
SIGNATURE_BYTES = 65
ZERO_ADDRESS = Address(bytes(ADDRESS_BYTES))

_PERSONAL_PREFIX = b"\x19Ethereum Signed Message:\n32"
_HALF_ORDER = 0x7FFFFFFFFFFFFFFFFFFFFFFFFFFFFFFF5D576E7357A4501DDFE92F46681B20A0


def to_address(raw: bytes) -> Address:
    """Returns the last 20 bytes of ``raw``, padded with zeros on the left when there are fewer."""
    return Address(raw[-ADDRESS_BYTES:].rjust(ADDRESS_BYTES, b"\0"))


def parse_address(text: str) -> Address:
    """Reads ``0x`` and 40 hex digits of any case.

    Raises: InvalidArgument: the text is something else.
    """
    digits = text[2:] if text[:2] in ("0x", "0X") else ""
    try:
        raw = bytes.fromhex(digits) if len(digits) == 2 * ADDRESS_BYTES else b""
    except ValueError:
        raw = b""
    if len(raw) != ADDRESS_BYTES:
        raise InvalidArgument(f"an address is 0x and 40 hex digits, got {text!r}")
    return Address(raw)


def checksum_text(address: Address) -> str:
    """Returns ``0x`` and the mixed-case hex of EIP-55, 42 characters."""
    digits = address.hex()
    digest = keccak256(digits.encode()).hex()
    return "0x" + "".join(
        digit.upper() if mark >= "8" else digit for digit, mark in zip(digits, digest, strict=False)
    )


def personal_digest(message: bytes) -> bytes:
    """Returns the 32 bytes that are signed for ``message``: it is hashed before it is wrapped."""
    return wrapped_digest(keccak256(message))


def wrapped_digest(hash32: bytes) -> bytes:
    """Returns the personal-message digest of a value that is already hashed."""
    return keccak256(_PERSONAL_PREFIX + hash32)


def is_signed_by(address: Address, digest: bytes, signature: bytes) -> bool:
    """Whether the account of ``address`` signed ``digest`` (32 bytes), in the one accepted form.

    The form: 65 bytes, s in the lower half of the order, v 27 or 28. Anything else is a no.
    """
    if len(signature) != SIGNATURE_BYTES or signature[64] not in (27, 28):
        return False
    if int.from_bytes(signature[32:64], "big") > _HALF_ORDER:
        return False
    recoverable = signature[:64] + bytes([signature[64] - 27])
    try:
        signer = coincurve.PublicKey.from_signature_and_message(recoverable, digest, hasher=None)
    except ValueError:  # r or s is no number of the curve: nobody signed this
        return False
    return _address_of(signer) == address


def is_message_signed_by(address: Address, message: bytes, signature: bytes) -> bool:
    """Whether the account of ``address`` signed ``message`` as a personal message."""
    return is_signed_by(address, personal_digest(message), signature)


class Account:
    """A key that signs, and its address."""

    __slots__ = ("_key", "address")

    def __init__(self, private_key: bytes) -> None:
        """``private_key``: 32 bytes. Raises: ConfigError: it is no key of the curve."""
        try:
            self._key = coincurve.PrivateKey(private_key)
        except ValueError as error:
            # The value itself must not reach a log.
            raise ConfigError(
                f"an account key is 32 bytes between 1 and the curve's order, got "
                f"{len(private_key)} bytes"
            ) from error
        self.address = _address_of(self._key.public_key)

    def sign(self, message: bytes) -> Signature:
        """Signs ``message`` as a personal message, deterministically."""
        signature = self._key.sign_recoverable(personal_digest(message), hasher=None)
        return Signature(signature[:64] + bytes([signature[64] + 27]))


def _address_of(key: coincurve.PublicKey) -> Address:
    return Address(keccak256(key.format(compressed=False)[1:])[-ADDRESS_BYTES:])
