"""The verifier against recovery and comparison by coincurve, on random and hostile tickets.

Fast set: 50,000 tickets for each of the paths together; slow set: 1,000,000.
"""

import random
from array import array
from collections.abc import Callable, Iterator
from dataclasses import replace

import coincurve
import pytest

from lpnode._native import ticket as native
from lpnode.payment.signer_tables import SignerTablesConfig
from lpnode.payment.ticket import Ticket, TicketParams, draw
from lpnode.payment.verifier import TicketVerifier, TicketVerifierConfig
from lpnode.protocol.ethereum import Account, Address, is_signed_by

ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
PRIME = 2**256 - 2**32 - 977
BATCH_LENGTHS = range(1, 131)
PATHS = ["portable", "avx2", "ifma"]


def word(value: int) -> bytes:
    return value.to_bytes(32)


class Signer:
    """A sender whose private key the test knows, as an attacker knows its own."""

    def __init__(self, secret: int) -> None:
        self.secret = secret
        self.key = coincurve.PrivateKey(word(secret))
        self.address = Account(word(secret)).address

    def sign(self, digest: bytes) -> bytes:
        signature = self.key.sign_recoverable(digest, hasher=None)
        return signature[:64] + bytes([signature[64] + 27])


def signers(randomness: random.Random) -> list[Signer]:
    """Tiny keys, keys 2^k and 2^k times something odd, keys near the order, and ordinary ones."""
    secrets = [*range(1, 9), ORDER - 1, ORDER - 2, ORDER // 2, ORDER // 2 + 1]
    for bit in (8, 13, 26, 52, 104, 128, 208, 247, 255):
        secrets += [1 << bit, (1 << bit) * (2 * randomness.randrange(1, 2**20) + 1) % ORDER]
    secrets += [randomness.randrange(1, ORDER) for _ in range(8)]
    return [Signer(secret) for secret in secrets]


Parts = tuple[int, int, int]
# Turns a good signature (r, s, v) into another one; `z` is the digest as an integer.
Forgery = Callable[[random.Random, Signer, int, int, int, int], Parts]


def _infinite(rng: random.Random, by: Signer, z: int, r: int, s: int, v: int) -> Parts:
    return -z * pow(by.secret, -1, ORDER) % ORDER, rng.randrange(1, ORDER // 2), v


def _doubled(rng: random.Random, by: Signer, z: int, r: int, s: int, v: int) -> Parts:
    return z * pow(by.secret, -1, ORDER) % ORDER, rng.randrange(1, ORDER // 2), v


FORGERIES: dict[str, Forgery] = {
    "flipped v": lambda rng, by, z, r, s, v: (r, s, 55 - v),
    "raw recovery id": lambda rng, by, z, r, s, v: (r, s, v - 27),
    "other v": lambda rng, by, z, r, s, v: (r, s, rng.choice((2, 3, 26, 29, 30, 35, 255))),
    "malleable twin": lambda rng, by, z, r, s, v: (r, ORDER - s, 55 - v),
    "high s": lambda rng, by, z, r, s, v: (r, ORDER - s, v),
    "s at the edge": lambda rng, by, z, r, s, v: (r, ORDER // 2 + rng.randrange(3) - 1, v),
    "no s": lambda rng, by, z, r, s, v: (r, rng.choice((0, ORDER, 2**256 - 1)), v),
    "no r": lambda rng, by, z, r, s, v: (rng.choice((0, ORDER, PRIME, 2**256 - 1)), s, v),
    "r of another x": lambda rng, by, z, r, s, v: ((r + 1) % ORDER, s, v),
    "small r": lambda rng, by, z, r, s, v: (rng.randrange(1, 50), s, v),
    "one bit": lambda rng, by, z, r, s, v: (r, s ^ 1 << rng.randrange(250), v),
    "random": lambda rng, by, z, r, s, v: (rng.getrandbits(256), rng.getrandbits(255), v),
    "sum at infinity": _infinite,
    "equal halves": _doubled,
}


def hostile(rng: random.Random, by: Signer, digest: bytes, signature: bytes) -> bytes:
    forge = FORGERIES[rng.choice(list(FORGERIES))]
    r, s = int.from_bytes(signature[:32]), int.from_bytes(signature[32:64])
    r, s, v = forge(rng, by, int.from_bytes(digest), r, s, signature[64])
    return word(r) + word(s) + bytes([v])


@pytest.fixture(scope="module")
def verifiers() -> Iterator[dict[str, TicketVerifier]]:
    best = PATHS.index(native.best_simd_path())
    made = {
        path: TicketVerifier(
            TicketVerifierConfig(simd_path=path, tables=SignerTablesConfig(tickets_before_table=1))
        )
        for path in PATHS[: best + 1]
    }
    yield made
    for verifier in made.values():
        verifier.close()


def compare(verifiers: dict[str, TicketVerifier], num_tickets: int, seed: int) -> None:
    rng = random.Random(seed)
    senders = signers(rng)
    lengths = list(BATCH_LENGTHS)
    params = TicketParams(
        recipient=Address(rng.randbytes(20)),
        face_value_wei=10**15,
        win_prob=2**253,
        recipient_rand_hash=rng.randbytes(32),
        seed=0,
        expiration_block=0,
        creation_round=3500,
        creation_round_block_hash=rng.randbytes(32),
    )
    done = round_number = 0
    while done < num_tickets:
        if round_number % len(lengths) == 0:
            rng.shuffle(lengths)
        sender = senders[round_number % len(senders)]
        path = list(verifiers)[rng.randrange(len(verifiers))]
        check_batch(
            verifiers[path],
            rng,
            sender,
            rng.choice(senders),
            replace(params, recipient_rand_hash=rng.randbytes(32)),
            lengths[round_number % len(lengths)],
        )
        done += lengths[round_number % len(lengths)]
        round_number += 1
    assert round_number >= len(lengths) or num_tickets < sum(lengths)


def check_batch(
    verifier: TicketVerifier,
    rng: random.Random,
    sender: Signer,
    stranger: Signer,
    params: TicketParams,
    length: int,
) -> None:
    rand = rng.randbytes(32)
    nonces = array("I", [rng.getrandbits(32) for _ in range(length)])
    digests = [Ticket(params, sender.address, nonce).digest for nonce in nonces]
    signatures: list[bytes] = []
    for digest in digests:
        signature = sender.sign(digest)
        chance = rng.random()
        if chance < 0.25:
            signature = hostile(rng, sender, digest, signature)
        elif chance < 0.3:
            signature = stranger.sign(digest)
        elif chance < 0.32 and signatures:
            signature = signatures[-1]
        signatures.append(signature)
    is_known = verifier.tables.of(sender.address) is not None
    verdicts = verifier.verify(sender.address, params, rand, nonces, b"".join(signatures))
    expected = [
        is_signed_by(sender.address, digest, signature)
        for digest, signature in zip(digests, signatures, strict=True)
    ]
    assert [verdicts.is_valid(i) for i in range(length)] == expected
    wins = [draw(signature, rand) < params.win_prob for signature in signatures]
    assert [verdicts.has_won(i) for i in range(length)] == [
        valid and win for valid, win in zip(expected, wins, strict=True)
    ]
    if is_known:  # and then nothing valid took the slow way
        assert verdicts.num_valid == sum(
            not flags & native.RECOVERED for flags in verdicts.flags if flags & native.VALID
        )
    elif any(expected):
        verifier.tables.wait_until_built()


def test_50_000_tickets_get_the_verdicts_of_recovery(
    verifiers: dict[str, TicketVerifier],
) -> None:
    compare(verifiers, 50_000, seed=1)


@pytest.mark.slow
@pytest.mark.campaign
@pytest.mark.timeout(1200)
def test_1_000_000_tickets_get_the_verdicts_of_recovery(
    verifiers: dict[str, TicketVerifier],
) -> None:
    compare(verifiers, 1_000_000, seed=2)
