"""What does a ticket cost, from nonce and signature to a verdict, hashes and winning draw included?

Baselines, verified in the same run on the same tickets:

- ``recovered by C``: libsecp256k1 (as coincurve carries it) and a plain Keccak, called from C++ for
  each ticket, which is what a reference node does.
- ``recovered by Python``: coincurve's recovery and a Keccak from Python, the usual Python way. With
  pycryptodome's Keccak where it is installed, else with this project's, which is quicker.

Ours: a sender whose tables are built, on each of the paths that this machine runs, and a sender
whose tables are not. Each call verifies one payment; divide by its tickets.
"""

import os
import threading
from array import array
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache

import coincurve
import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from lpnode._native import ticket as native
from lpnode.errors import NotBuilt
from lpnode.payment.signer_tables import SignerTablesConfig
from lpnode.payment.ticket import Ticket, TicketParams, recipient_rand_hash
from lpnode.payment.verifier import TicketVerifier, TicketVerifierConfig
from lpnode.protocol.ethereum import Account

try:
    from Crypto.Hash import keccak as pycryptodome
except ImportError:
    from lpnode.protocol.keccak import keccak256
else:

    def keccak256(message: bytes) -> bytes:
        return pycryptodome.new(digest_bits=256, data=message).digest()


LENGTHS = (1, 8, 64, 100, 600)
SECRET = bytes(31) + b"\x2a"
ACCOUNT = Account(SECRET)
RAND = bytes(range(32))
PARAMS = TicketParams(
    recipient=ACCOUNT.address,
    face_value_wei=10**15,
    win_prob=2**253,
    recipient_rand_hash=recipient_rand_hash(RAND),
    seed=1,
    expiration_block=100,
    creation_round=3500,
    creation_round_block_hash=bytes(range(32, 64)),
)
Verify = Callable[["array[int]", bytes], int]


@cache
def signatures() -> bytes:
    key = coincurve.PrivateKey(SECRET)
    rows = []
    for nonce in range(max(LENGTHS)):
        row = key.sign_recoverable(Ticket(PARAMS, ACCOUNT.address, nonce).digest, hasher=None)
        rows.append(row[:64] + bytes([row[64] + 27]))
    return b"".join(rows)


def verifier(path: str, has_tables: bool) -> TicketVerifier:
    memory = 2**20 if has_tables else 0
    config = TicketVerifierConfig(
        simd_path=path, tables=SignerTablesConfig(max_bytes=memory, tickets_before_table=1)
    )
    made = TicketVerifier(config)
    made.verify(ACCOUNT.address, PARAMS, RAND, array("I", [0]), signatures()[:65])
    made.tables.wait_until_built()
    return made


def ours(verifier: TicketVerifier) -> Verify:
    def verify(nonces: "array[int]", rows: bytes) -> int:
        return verifier.verify(ACCOUNT.address, PARAMS, RAND, nonces, rows).num_valid

    return verify


def recovered_by_python(nonces: "array[int]", rows: bytes) -> int:
    num_valid = 0
    packed = PARAMS.preimage(ACCOUNT.address)
    for index, nonce in enumerate(nonces):
        row = rows[65 * index : 65 * index + 65]
        ticket_hash = keccak256(packed[:132] + nonce.to_bytes(4) + packed[136:])
        digest = keccak256(b"\x19Ethereum Signed Message:\n32" + ticket_hash)
        if int.from_bytes(row[32:64]) > 2**255 or row[64] not in (27, 28):
            continue
        key = coincurve.PublicKey.from_signature_and_message(
            row[:64] + bytes([row[64] - 27]), digest, hasher=None
        )
        num_valid += keccak256(key.format(compressed=False)[1:])[12:] == ACCOUNT.address
        assert int.from_bytes(keccak256(row + RAND)) >= 0
    return num_valid


# Path and whether the sender's tables are there.
OURS = {
    "recovered by C": ("portable", False),
    "unknown sender": ("auto", False),
    "known, portable": ("portable", True),
    "known, avx2": ("avx2", True),
    "known, ifma": ("ifma", True),
}


@pytest.mark.parametrize("way", ["recovered by Python", *OURS])
@pytest.mark.parametrize("num_tickets", LENGTHS)
def bench_payment(benchmark: BenchmarkFixture, num_tickets: int, way: str) -> None:
    benchmark.group = f"verify {num_tickets} tickets"
    nonces, rows = array("I", range(num_tickets)), signatures()[: 65 * num_tickets]
    if way == "recovered by Python":
        assert benchmark(recovered_by_python, nonces, rows) == num_tickets
    else:
        try:
            made = verifier(*OURS[way])
        except NotBuilt as missing:
            pytest.skip(str(missing))
        with made:
            assert benchmark(ours(made), nonces, rows) == num_tickets
    if benchmark.stats is not None:
        benchmark.extra_info["us_a_ticket"] = benchmark.stats.stats.median / num_tickets * 1e6


@pytest.mark.benchmark(group="verify 64 payments of 100 tickets")
@pytest.mark.parametrize("num_threads", sorted({1, 2, os.cpu_count() or 1}))
def bench_cores(benchmark: BenchmarkFixture, num_threads: int) -> None:
    nonces, rows = array("I", range(100)), signatures()[:6500]
    ready = threading.Barrier(num_threads)

    with verifier("auto", has_tables=True) as known, ThreadPoolExecutor(num_threads) as threads:

        def work(num_payments: int) -> int:
            ready.wait()
            return sum(
                known.verify(ACCOUNT.address, PARAMS, RAND, nonces, rows).num_valid
                for _ in range(num_payments)
            )

        def all_payments() -> int:
            return sum(threads.map(work, [64 // num_threads] * num_threads))

        num_valid = benchmark(all_payments)
    assert num_valid == 64 // num_threads * num_threads * 100


@pytest.mark.benchmark(group="what a sender's tables cost")
def bench_signer_table(benchmark: BenchmarkFixture) -> None:
    key = coincurve.PrivateKey(SECRET).public_key.format(compressed=False)[1:]
    assert isinstance(benchmark(native.SignerTable, key), native.SignerTable)


@pytest.mark.benchmark(group="verify 100 tickets that are not the sender's")
def bench_invalid(benchmark: BenchmarkFixture) -> None:
    """What a flood of bad tickets costs us: tables tried, then each recovered."""
    nonces, rows = array("I", range(100)), signatures()[6500:13000]
    with verifier("auto", has_tables=True) as known:
        verdicts = benchmark(known.verify, ACCOUNT.address, PARAMS, RAND, nonces, rows)
    assert verdicts.num_valid == 0
    assert verdicts.num_recovered == 100
