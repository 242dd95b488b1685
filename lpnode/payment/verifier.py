"""Signatures and draws of tickets, a whole payment at a time.

Source: payments.md sections 1.4, 1.6 and 8.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lpnode._native import ticket as native
from lpnode.payment.secp256k1 import load_secp256k1
from lpnode.payment.ticket import WORD_BYTES, TicketParams
from lpnode.protocol.ethereum import SIGNATURE_BYTES, Address

if TYPE_CHECKING:
    from typing_extensions import Buffer


def packed_signatures(signatures: Iterable[bytes]) -> bytes:
    """Returns rows of 65 bytes for ``TicketVerifier.verify``.

    A signature of another length becomes zeros, which verify for nobody, as the length demands.
    """
    return b"".join(
        signature if len(signature) == SIGNATURE_BYTES else bytes(SIGNATURE_BYTES)
        for signature in signatures
    )


@dataclass(frozen=True, slots=True)
class Verdicts:
    """The answer for each of N tickets, in their order."""

    flags: bytes
    """N bytes made of ``VALID``, ``WON`` and ``RECOVERED`` of ``lpnode._native.ticket``."""

    def __len__(self) -> int:
        return len(self.flags)

    def is_valid(self, index: int) -> bool:
        """Whether the sender signed the ticket, in the one accepted form."""
        return bool(self.flags[index] & native.VALID)

    def has_won(self, index: int) -> bool:
        """Whether the ticket is valid and wins."""
        return bool(self.flags[index] & native.WON)

    @property
    def num_valid(self) -> int:
        """How many tickets are valid."""
        return sum(flags & native.VALID for flags in self.flags)

    @property
    def num_recovered(self) -> int:
        """How many signers had to be recovered, the slow way."""
        return sum(1 for flags in self.flags if flags & native.RECOVERED)

    @property
    def invalid(self) -> list[int]:
        """Indices of the tickets that are not valid."""
        return [i for i, flags in enumerate(self.flags) if not flags & native.VALID]

    @property
    def winners(self) -> list[int]:
        """Indices of the tickets that are valid and win."""
        return [i for i, flags in enumerate(self.flags) if flags & native.WON]


@dataclass(frozen=True, slots=True, kw_only=True)
class TicketVerifierConfig:
    """How tickets are verified."""

    simd_path: str = "auto"
    """``auto``, ``portable``, ``avx2`` or ``ifma``."""


class TicketVerifier:
    """Verifies tickets exactly as the contract does. Any thread, several at once."""

    def __init__(self, config: TicketVerifierConfig) -> None:
        self._config = config
        self._secp256k1 = load_secp256k1()

    def verify(
        self,
        sender: Address,
        params: TicketParams,
        recipient_rand: bytes | None,
        nonces: "Buffer",
        signatures: "Buffer",
    ) -> Verdicts:
        """Returns a verdict for each of N tickets of one sender and one set of params.

        Args:
            recipient_rand: 32 bytes whose hash is that of ``params`` (the caller has checked it);
                None: no ticket wins.
            nonces: N native unsigned integers of 32 bits, as in ``array("I")``.
            signatures: N rows of 65 bytes (``packed_signatures``).

        About 40 us a ticket on one core for a sender who is not known; the GIL is released.
        Raises: InvalidArgument: the sizes do not fit.
        """
        flags, _ = native.verify_tickets(
            self._secp256k1,
            params.preimage(sender),
            sender,
            recipient_rand,
            params.win_prob.to_bytes(WORD_BYTES),
            nonces,
            signatures,
            self._config.simd_path,
        )
        return Verdicts(flags)
