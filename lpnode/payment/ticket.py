"""A ticket: what is promised to us, how it is hashed, and what it is worth on average.

Source: payments.md sections 1.1 to 1.7.
"""

from dataclasses import dataclass, field
from fractions import Fraction
from typing import NewType

from lpnode.errors import InvalidArgument
from lpnode.protocol.ethereum import (
    ADDRESS_BYTES,
    Address,
    Signature,
    is_signed_by,
    wrapped_digest,
)
from lpnode.protocol.keccak import keccak256

TicketHash = NewType("TicketHash", bytes)
"""32 bytes."""

MAX_WIN_PROB = 2**256 - 1
"""The win prob of a ticket that always wins (but for one draw in 2^256)."""

MAX_NONCE = 2**32 - 1
MAX_ROUND = 2**63 - 1
WORD_BYTES = 32


def parse_ticket_hash(text: str) -> TicketHash:
    """Reads ``0x`` and 64 hex digits; the ``0x`` may be missing.

    Raises: InvalidArgument: the text is something else.
    """
    digits = text[2:] if text[:2] in ("0x", "0X") else text
    try:
        raw = bytes.fromhex(digits) if len(digits) == 2 * WORD_BYTES else b""
    except ValueError:
        raw = b""
    if len(raw) != WORD_BYTES:
        raise InvalidArgument(f"a ticket's hash is 0x and 64 hex digits, got {text!r}")
    return TicketHash(raw)


def expected_value(face_value_wei: int, win_prob: int) -> Fraction:
    """Returns what a ticket is worth on average, exactly, in wei."""
    return Fraction(face_value_wei * win_prob, MAX_WIN_PROB)


@dataclass(frozen=True, slots=True, kw_only=True)
class TicketParams:
    """What we fix for all tickets of one quote. Integers are unsigned and fit their slots.

    Raises: InvalidArgument: a value does not fit. What a peer sent is checked before.
    """

    recipient: Address
    face_value_wei: int
    win_prob: int
    """Probability of winning, out of ``MAX_WIN_PROB``."""
    recipient_rand_hash: bytes
    """Keccak-256 of the recipient rand, 32 bytes."""
    seed: int
    """Public input of the code that gives the recipient rand back; not part of the hash."""
    expiration_block: int
    """L1 block at which these params stop being valid; not part of the hash."""
    creation_round: int
    creation_round_block_hash: bytes

    def __post_init__(self) -> None:
        for name, size in (
            ("recipient", ADDRESS_BYTES),
            ("recipient_rand_hash", WORD_BYTES),
            ("creation_round_block_hash", WORD_BYTES),
        ):
            if len(getattr(self, name)) != size:
                raise InvalidArgument(f"{name} is {size} bytes, got {len(getattr(self, name))}")
        for name, highest in (
            ("face_value_wei", MAX_WIN_PROB),
            ("win_prob", MAX_WIN_PROB),
            ("seed", MAX_WIN_PROB),
            ("expiration_block", MAX_WIN_PROB),
            ("creation_round", MAX_ROUND),
        ):
            if not 0 <= getattr(self, name) <= highest:
                raise InvalidArgument(f"{name} is an integer from 0 to {highest:#x}")

    @property
    def aux_data(self) -> bytes:
        """Round and its block hash as the contract takes them: 64 bytes, or none if both are 0."""
        if not self.creation_round and not any(self.creation_round_block_hash):
            return b""
        return _word(self.creation_round) + self.creation_round_block_hash

    @property
    def expected_value(self) -> Fraction:
        """What each ticket is worth on average, in wei."""
        return expected_value(self.face_value_wei, self.win_prob)

    def preimage(self, sender: Address, nonce: int = 0) -> bytes:
        """Returns the packed ticket, 168 bytes, or 232 with auxiliary data."""
        return b"".join(
            (
                self.recipient,
                sender,
                _word(self.face_value_wei),
                _word(self.win_prob),
                _word(nonce),
                self.recipient_rand_hash,
                self.aux_data,
            )
        )


@dataclass(frozen=True, slots=True)
class Ticket:
    """One promise of ``sender``. ``nonce``: unsigned, 32 bits, unique for a recipient rand."""

    params: TicketParams
    sender: Address
    nonce: int

    def __post_init__(self) -> None:
        if len(self.sender) != ADDRESS_BYTES:
            raise InvalidArgument(f"a sender is {ADDRESS_BYTES} bytes, got {len(self.sender)}")
        if not 0 <= self.nonce <= MAX_NONCE:
            raise InvalidArgument(f"a nonce is an integer from 0 to {MAX_NONCE}, got {self.nonce}")

    @property
    def hash(self) -> TicketHash:
        """The hash by which the contract knows the ticket."""
        return TicketHash(keccak256(self.params.preimage(self.sender, self.nonce)))

    @property
    def digest(self) -> bytes:
        """What the sender signs: the hash, wrapped as a personal message. 32 bytes."""
        return wrapped_digest(self.hash)


@dataclass(frozen=True, slots=True)
class SignedTicket:
    """A ticket with its signature, and the number that decides whether it wins."""

    ticket: Ticket
    signature: Signature
    """Exactly the bytes that came: they enter the draw, and the contract checks them again."""
    recipient_rand: bytes = field(repr=False)
    """32 bytes, a secret until the ticket is redeemed."""

    @property
    def is_signed_by_sender(self) -> bool:
        """Whether the contract will find the sender's signature."""
        return is_signed_by(self.ticket.sender, self.ticket.digest, self.signature)

    @property
    def is_winning(self) -> bool:
        """Whether the draw is below the winning probability; says nothing of the signature."""
        return draw(self.signature, self.recipient_rand) < self.ticket.params.win_prob


def recipient_rand_hash(recipient_rand: bytes) -> bytes:
    """Returns the commitment (32 bytes) to a recipient rand of 32 bytes."""
    if len(recipient_rand) != WORD_BYTES:
        raise InvalidArgument(f"a recipient rand is 32 bytes, got {len(recipient_rand)}")
    return keccak256(recipient_rand)


def draw(signature: bytes, recipient_rand: bytes) -> int:
    """Returns the 256-bit number drawn for a signature of 65 bytes, just as it was received."""
    return int.from_bytes(keccak256(signature + recipient_rand))


def _word(value: int) -> bytes:
    return value.to_bytes(WORD_BYTES)
