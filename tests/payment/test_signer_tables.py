"""When senders get tables, what is kept, and what happens to it."""

import os
import threading
from array import array
from collections.abc import Iterator

import coincurve
import pytest

from lpnode._native import ticket as native
from lpnode.errors import ConfigError, InvalidArgument
from lpnode.payment.signer_tables import SignerTables, SignerTablesConfig
from lpnode.payment.ticket import Ticket, TicketParams
from lpnode.payment.verifier import TicketVerifier, TicketVerifierConfig
from lpnode.protocol.ethereum import Account, Address

TABLE_BYTES = native.SignerTable.NUM_BYTES
PARAMS = TicketParams(
    recipient=Address(b"\x11" * 20),
    face_value_wei=10**15,
    win_prob=0,
    recipient_rand_hash=bytes(32),
    seed=0,
    expiration_block=0,
    creation_round=1,
    creation_round_block_hash=b"\x22" * 32,
)


def public_key(secret: int) -> bytes:
    return coincurve.PrivateKey(secret.to_bytes(32)).public_key.format(compressed=False)[1:]


def address(secret: int) -> Address:
    return Account(secret.to_bytes(32)).address


def signed(secret: int, count: int, first: int = 0) -> tuple[Address, "array[int]", bytes]:
    key, sender = coincurve.PrivateKey(secret.to_bytes(32)), address(secret)
    nonces = array("I", range(first, first + count))
    rows = []
    for nonce in nonces:
        row = key.sign_recoverable(Ticket(PARAMS, sender, nonce).digest, hasher=None)
        rows.append(row[:64] + bytes([row[64] + 27]))
    return sender, nonces, b"".join(rows)


@pytest.fixture
def tables() -> Iterator[SignerTables]:
    config = SignerTablesConfig(max_bytes=2 * TABLE_BYTES + 1, tickets_before_table=10)
    with SignerTables(config) as tables:
        yield tables


def test_a_sender_gets_tables_after_enough_valid_tickets(tables: SignerTables) -> None:
    tables.learn(address(5), public_key(5), 9)
    tables.wait_until_built()
    assert tables.of(address(5)) is None
    tables.learn(address(5), public_key(5), 1)
    tables.wait_until_built()
    assert tables.of(address(5)) is not None
    assert tables.num_bytes == TABLE_BYTES


def test_the_sender_not_seen_for_longest_makes_room(tables: SignerTables) -> None:
    for secret in (1, 2):
        tables.learn(address(secret), public_key(secret), 10)
    tables.wait_until_built()
    assert tables.of(address(1)) is not None
    tables.learn(address(3), public_key(3), 10)
    tables.wait_until_built()
    assert tables.of(address(2)) is None
    assert tables.of(address(1)) is not None
    assert tables.of(address(3)) is not None
    assert tables.num_bytes <= 2 * TABLE_BYTES + 1


def test_without_memory_there_are_no_tables() -> None:
    with SignerTables(SignerTablesConfig(max_bytes=TABLE_BYTES - 1)) as tables:
        tables.learn(address(1), public_key(1), 1000)
        tables.wait_until_built()
        assert len(tables) == 0


def test_fresh_addresses_do_not_push_out_what_is_built_nor_grow_without_bound(
    tables: SignerTables,
) -> None:
    tables.learn(address(1), public_key(1), 10)
    tables.wait_until_built()
    for _ in range(10_000):
        tables.learn(Address(os.urandom(20)), public_key(2), 1)
    assert tables.of(address(1)) is not None
    assert tables.num_candidates <= 4096


def test_the_secret_that_blinds_is_asked_for_once_for_all_senders() -> None:
    asked: list[int] = []

    def entropy(count: int) -> bytes:
        asked.append(count)
        return os.urandom(count)

    with SignerTables(SignerTablesConfig(tickets_before_table=1), entropy) as tables:
        for secret in (1, 2, 3):
            tables.learn(address(secret), public_key(secret), 1)
        tables.wait_until_built()
    assert asked == [32]


def test_settings_out_of_range_are_refused() -> None:
    with pytest.raises(ConfigError, match="0 bytes or more"):
        SignerTablesConfig(max_bytes=-1)
    with pytest.raises(ConfigError, match="1 ticket or more"):
        SignerTablesConfig(tickets_before_table=0)


def test_what_is_no_key_of_the_curve_gets_no_table() -> None:
    with pytest.raises(InvalidArgument, match="point of the curve"):
        native.SignerTable(public_key(1)[:63] + b"\x00")
    with pytest.raises(InvalidArgument, match="64 bytes"):
        native.SignerTable(public_key(1)[:63])


def test_the_key_is_learned_from_valid_tickets_only() -> None:
    config = TicketVerifierConfig(tables=SignerTablesConfig(tickets_before_table=4))
    with TicketVerifier(config) as verifier:
        sender, nonces, signatures = signed(7, 8)
        stranger = address(8)
        assert verifier.verify(stranger, PARAMS, None, nonces, signatures).num_valid == 0
        half_bad = signatures[: 3 * 65] + bytes(5 * 65)
        assert verifier.verify(sender, PARAMS, None, nonces, half_bad).num_valid == 3
        verifier.tables.wait_until_built()
        assert len(verifier.tables) == 0
        assert verifier.verify(sender, PARAMS, None, nonces, signatures).num_recovered == 8
        verifier.tables.wait_until_built()
        assert verifier.tables.of(stranger) is None
        verdicts = verifier.verify(sender, PARAMS, None, nonces, half_bad)
        assert verdicts.num_valid == 3
        assert verdicts.num_recovered == 0  # zeros are refused before anything is computed


def test_a_known_sender_cannot_be_charged_for_someone_elses_signature() -> None:
    config = TicketVerifierConfig(tables=SignerTablesConfig(tickets_before_table=1))
    with TicketVerifier(config) as verifier:
        sender, nonces, signatures = signed(7, 8)
        verifier.verify(sender, PARAMS, None, nonces, signatures)
        verifier.tables.wait_until_built()
        _, _, foreign = signed(9, 8)
        mixed = signatures[: 4 * 65] + foreign[4 * 65 :]
        verdicts = verifier.verify(sender, PARAMS, None, nonces, mixed)
        assert verdicts.invalid == [4, 5, 6, 7]
        assert verdicts.num_recovered == 4


def test_threads_verify_while_tables_come_and_go() -> None:
    config = TicketVerifierConfig(
        tables=SignerTablesConfig(max_bytes=2 * TABLE_BYTES, tickets_before_table=1)
    )
    payments = [signed(secret, 12) for secret in range(1, 7)]
    failures: list[object] = []
    with TicketVerifier(config) as verifier:

        def pay(first: int) -> None:
            for turn in range(40):
                sender, nonces, signatures = payments[(first + turn) % len(payments)]
                verdicts = verifier.verify(sender, PARAMS, None, nonces, signatures)
                if verdicts.num_valid != 12:
                    failures.append(verdicts)

        threads = [threading.Thread(target=pay, args=(first,)) for first in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        verifier.tables.wait_until_built()
        assert len(verifier.tables) == 2
    assert failures == []
