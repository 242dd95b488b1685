"""Signatures and draws of tickets, a whole payment at a time.

Source: payments.md sections 1.4, 1.6 and 8.
"""

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Self

from lpnode._native import ticket as native
from lpnode.payment.secp256k1 import load_secp256k1
from lpnode.payment.signer_tables import SignerTables, SignerTablesConfig
from lpnode.payment.ticket import WORD_BYTES, TicketParams
from lpnode.protocol.ethereum import SIGNATURE_BYTES, Address

if TYPE_CHECKING:
    from typing_extensions import Buffer


_ALL_FLAGS = range((native.VALID | native.WON | native.RECOVERED) + 1)


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
        return self._count(native.VALID)

    @property
    def num_recovered(self) -> int:
        """How many signers had to be recovered, the slow way."""
        return self._count(native.RECOVERED)

    @property
    def invalid(self) -> list[int]:
        """Indices of the tickets that are not valid."""
        if self.num_valid == len(self.flags):
            return []
        return [i for i, flags in enumerate(self.flags) if not flags & native.VALID]

    @property
    def winners(self) -> list[int]:
        """Indices of the tickets that are valid and win."""
        if not self._count(native.WON):
            return []
        return [i for i, flags in enumerate(self.flags) if flags & native.WON]

    def _count(self, flag: int) -> int:
        return sum(self.flags.count(flags) for flags in _ALL_FLAGS if flags & flag)


@dataclass(frozen=True, slots=True, kw_only=True)
class TicketVerifierConfig:
    """How tickets are verified."""

    simd_path: str = "auto"
    """``auto``, ``portable``, ``avx2`` or ``ifma``."""
    tables: SignerTablesConfig = field(default_factory=SignerTablesConfig)


class TicketVerifier:
    """Verifies tickets exactly as the contract does. Any thread, several at once.

    The first tickets of a sender are recovered, about 40 us each on one core. A sender who goes on
    paying gets tables, built on another thread, and then a ticket takes about 2 us with AVX-512.
    Note [Accept only] of csrc/ticket/verify.h says why both give the same verdicts.
    """

    def __init__(
        self, config: TicketVerifierConfig, entropy: Callable[[int], bytes] = os.urandom
    ) -> None:
        """``entropy``: gives that many random bytes.

        Raises: InvalidArgument, NotBuilt: the path is unknown, or not for this machine.
        """
        self._native = native.Verifier(load_secp256k1(), config.simd_path)
        self.tables = SignerTables(config.tables, entropy)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends the thread that builds tables. Nothing may be verified afterwards."""
        self.tables.close()

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

        The GIL is released meanwhile. Raises: InvalidArgument: the sizes do not fit.
        """
        generator, table = self.tables.of(sender) or (None, None)
        flags, public_key = self._native.verify(
            params.preimage(sender),
            sender,
            recipient_rand,
            params.win_prob.to_bytes(WORD_BYTES),
            nonces,
            signatures,
            generator,
            table,
        )
        verdicts = Verdicts(flags)
        if public_key is not None and table is None:
            self.tables.learn(sender, public_key, verdicts.num_valid)
        return verdicts
