"""Source: payments.md sections 8.4 and 9.4."""

import asyncio
import os
import sqlite3
import stat
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from fractions import Fraction
from pathlib import Path

import pytest

from lpnode.errors import ConfigError, StorageFailed
from lpnode.payment import ledger
from lpnode.payment.balance import BalanceKey, SavedBalance
from lpnode.payment.facts import claim_store
from lpnode.payment.nonce_rows import add_nonces, evict_nonces, load_nonces
from lpnode.payment.nonces import Nonces, NonceVerdict
from lpnode.payment.schema import MIGRATIONS
from lpnode.payment.store import Change, PaymentStore
from lpnode.protocol.ethereum import Address

KEY = BalanceKey(Address(b"\x01" * 20), "manifest")
RAND_HASH = b"\x02" * 32
RECIPIENT = Address(b"\x03" * 20)


@asynccontextmanager
async def opened(path: Path) -> AsyncIterator[PaymentStore]:
    store = PaymentStore(path)
    store.start()
    try:
        yield store
    finally:
        await store.close()


def count(connection: sqlite3.Connection) -> int:
    number: int = connection.execute("SELECT count(*) FROM facts").fetchone()[0]
    return number


def fact(name: str, value: int = 1) -> Change[None]:
    def change(connection: sqlite3.Connection) -> None:
        connection.execute("INSERT INTO facts VALUES (?, ?)", (name, value))

    return change


async def test_what_was_written_is_there_after_a_restart(tmp_path: Path) -> None:
    path = tmp_path / "payments.db"
    amount = Fraction(10**30, 2**256 - 1)
    async with opened(path) as store:
        await store.write(lambda c: ledger.change_balance(c, KEY, amount, 5.0))
        await store.write(lambda c: add_nonces(c, RAND_HASH, 140, [0, 7, 2**32 - 1]))
    store = PaymentStore(path)
    assert store.read(ledger.load_balances) == [SavedBalance(KEY, amount, 5.0)]
    (row,) = store.read(load_nonces)
    assert (row.expiration_block, row.nonces) == (140, {0, 7, 2**32 - 1})
    await store.close()


async def test_many_writers_share_one_commit_and_one_failure_is_its_own(tmp_path: Path) -> None:
    async with opened(tmp_path / "payments.db") as store:
        names = [f"n{number}" for number in range(100)]
        outcomes = await asyncio.gather(
            *(store.write(fact(name)) for name in [*names, "n7"]), return_exceptions=True
        )
        assert [o for o in outcomes if o is not None] == [outcomes[-1]]
        assert isinstance(outcomes[-1], StorageFailed)
        assert await store.write(count) == 100


async def test_a_change_that_fails_half_way_leaves_nothing(tmp_path: Path) -> None:
    def change(connection: sqlite3.Connection) -> None:
        connection.execute("INSERT INTO facts VALUES ('half', 1)")
        raise KeyError("the other half")

    async with opened(tmp_path / "payments.db") as store:
        with pytest.raises(KeyError, match="the other half"):
            await store.write(change)
        assert await store.write(count) == 0


async def test_memory_hears_of_the_outcome_even_when_the_caller_is_gone(tmp_path: Path) -> None:
    heard: list[object] = []
    async with opened(tmp_path / "payments.db") as store:
        task = asyncio.create_task(store.write(fact("a"), made=heard.append))
        failing = store.write(fact("a"), failed=lambda: heard.append("failed"))
        other = asyncio.create_task(failing)
        await asyncio.sleep(0)
        task.cancel()
        other.cancel()
        await asyncio.gather(task, other, return_exceptions=True)
        assert await store.write(count) == 1
    assert heard == [None, "failed"]


async def test_closing_makes_every_change_that_was_posted(tmp_path: Path) -> None:
    path = tmp_path / "payments.db"
    async with opened(path) as store:
        for number in range(1000):
            store.post(fact(f"n{number}"))
    store = PaymentStore(path)
    assert store.read(count) == 1000
    await store.close()


async def test_a_full_disk_fails_all_that_waited_and_later_changes_work(tmp_path: Path) -> None:
    async with opened(tmp_path / "payments.db") as store:
        (pages,) = await store.write(lambda c: c.execute("PRAGMA page_count").fetchone())
        await store.write(lambda c: c.execute(f"PRAGMA max_page_count = {pages}") and None)
        big = "x" * 100_000
        failed: list[str] = []
        with pytest.raises(StorageFailed, match="full"):
            await store.write(fact(big), failed=lambda: failed.append("told"))
        assert failed == ["told"]
        await store.write(lambda c: c.execute("PRAGMA max_page_count = 100000") and None)
        await store.write(fact(big))


async def test_the_file_is_its_owners_alone(tmp_path: Path) -> None:
    async with opened(tmp_path / "payments.db") as store:
        await store.write(fact("a"))
        modes = {stat.S_IMODE(os.stat(entry).st_mode) for entry in os.scandir(tmp_path)}
    assert modes == {0o600}


async def test_a_second_process_is_kept_out(tmp_path: Path) -> None:
    async with opened(tmp_path / "payments.db"):
        with pytest.raises(ConfigError, match="another process"):
            PaymentStore(tmp_path / "payments.db")


async def test_operators_can_read_while_the_node_writes(tmp_path: Path) -> None:
    async with opened(tmp_path / "payments.db") as store:
        await store.write(fact("a"))
        reader = sqlite3.connect(f"file:{store.path}?mode=ro", uri=True)
        assert count(reader) == 1
        reader.close()


def test_a_store_of_a_newer_release_is_not_touched(tmp_path: Path) -> None:
    path = tmp_path / "payments.db"
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(ConfigError, match=f"version 99 and this release knows {len(MIGRATIONS)}"):
        PaymentStore(path)


def test_a_file_that_is_no_store_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "payments.db"
    path.write_bytes(b"something else entirely" * 100)
    with pytest.raises(ConfigError, match="cannot be opened"):
        PaymentStore(path)


async def test_the_key_of_our_parameters_survives_a_restart(tmp_path: Path) -> None:
    """A6."""
    keys = []
    for entropy in (b"a", b"b"):
        store = PaymentStore(tmp_path / "payments.db")
        facts = store.read(
            lambda c, e=entropy: claim_store(
                c, chain_id=1, recipient=RECIPIENT, entropy=lambda n: e * n, now_s=0
            )
        )
        keys.append(facts.params_key)
        assert facts.params_key.hex() not in repr(facts)
        await store.close()
    assert keys == [b"a" * 32] * 2


async def test_a_store_of_another_chain_is_refused(tmp_path: Path) -> None:
    store = PaymentStore(tmp_path / "payments.db")

    def claim(chain_id: int) -> None:
        store.read(
            lambda c: claim_store(c, chain_id=chain_id, recipient=RECIPIENT, entropy=bytes, now_s=0)
        )

    claim(42161)
    with pytest.raises(ConfigError, match="chain 42161, and the node is on chain 1"):
        claim(1)
    claim(42161)
    await store.close()


async def test_a_nonce_that_is_on_disk_cannot_be_written_again(tmp_path: Path) -> None:
    async with opened(tmp_path / "payments.db") as store:
        await store.write(lambda c: add_nonces(c, RAND_HASH, 140, [1, 2]))
        with pytest.raises(StorageFailed, match="nonce"):
            await store.write(lambda c: add_nonces(c, RAND_HASH, 140, [3, 2]))
        (row,) = await store.write(load_nonces)
    assert row.nonces == {1, 2}


async def test_nonces_of_an_older_release_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "payments.db"
    connection = sqlite3.connect(path)
    for statement in MIGRATIONS[0]:
        connection.execute(statement)
    for params_id, rand_hash in enumerate((RAND_HASH, b"\x06" * 32), 1):
        connection.execute("INSERT INTO params VALUES (?, ?, 140)", (params_id, rand_hash))
    connection.executemany("INSERT INTO nonces VALUES (1, ?)", [(0,), (2**32 - 1,)])
    connection.execute("PRAGMA user_version = 1")
    connection.commit()
    connection.close()
    async with opened(path) as store:
        with pytest.raises(StorageFailed, match="nonce"):
            await store.write(lambda c: add_nonces(c, RAND_HASH, 140, [2**32 - 1]))
        await store.write(lambda c: add_nonces(c, RAND_HASH, 140, [7]))
        rows = await store.write(load_nonces)
    assert {row.rand_hash: row.nonces for row in rows} == {
        RAND_HASH: {0, 7, 2**32 - 1},
        b"\x06" * 32: frozenset(),
    }


async def test_what_is_committed_moves_into_the_file_while_nobody_waits(tmp_path: Path) -> None:
    path = tmp_path / "payments.db"
    async with opened(path) as store:
        for number in range(600):
            await store.write(fact(f"n{number}"))
        # A copy without the write-ahead log: what of it is in the file itself.
        copy = tmp_path / "copy.db"
        copy.write_bytes(path.read_bytes())
    connection = sqlite3.connect(copy)
    assert count(connection) >= 256
    connection.close()


async def test_evicted_nonces_stay_refused_if_the_head_goes_back(tmp_path: Path) -> None:
    path = tmp_path / "payments.db"
    async with opened(path) as store:
        await store.write(lambda c: add_nonces(c, RAND_HASH, 140, [1]))
        await store.write(lambda c: evict_nonces(c, 140))
        await store.write(lambda c: evict_nonces(c, 130))
        assert await store.write(load_nonces) == []
    store = PaymentStore(path)
    facts = store.read(
        lambda c: claim_store(c, chain_id=1, recipient=RECIPIENT, entropy=bytes, now_s=0)
    )
    await store.close()
    nonces = Nonces([], evicted_l1_block=facts.evicted_l1_block)
    assert nonces.has_expired(140, last_l1_block=120)
    assert not nonces.has_expired(141, last_l1_block=120)


async def test_the_ledger_adds_a_jobs_work_up_by_day(tmp_path: Path) -> None:
    job = ledger.Job(key=KEY, capability=35, model_id="noop", price=Fraction(1200))
    day_s = 86_400
    async with opened(tmp_path / "payments.db") as store:
        job_id = await store.write(lambda c: ledger.open_job(c, job, 0))
        for now_s in (1.0, 2.0, day_s + 1.0):
            await store.write(lambda c, s=now_s: ledger.add_debit(c, job_id, 10, Fraction(1, 3), s))
        await store.write(lambda c: ledger.close_lost_jobs(c, 3.0))
        await store.write(lambda c: ledger.close_job(c, job_id, "again", 4.0))
        rows = await store.write(
            lambda c: c.execute("SELECT day, units, fee FROM debits ORDER BY day").fetchall()
        )
        closed = await store.write(
            lambda c: c.execute("SELECT closed_at, close_reason FROM jobs").fetchone()
        )
    assert rows == [("1970-01-01", 20, "2/3"), ("1970-01-02", 10, "1/3")]
    assert closed == (3.0, "the node was restarted")


async def test_a_forfeited_balance_leaves_a_note(tmp_path: Path) -> None:
    saved = SavedBalance(KEY, Fraction(7), 1.0)
    async with opened(tmp_path / "payments.db") as store:
        await store.write(lambda c: ledger.change_balance(c, KEY, Fraction(7), 1.0))
        await store.write(lambda c: ledger.forfeit_balance(c, saved, 9.0))
        assert await store.write(ledger.load_balances) == []
        rows = await store.write(lambda c: c.execute("SELECT * FROM forfeits").fetchall())
    assert rows == [(9.0, *KEY, "7")]


def test_a_nonce_is_new_once_and_a_recipient_rand_has_600() -> None:
    """R5."""
    nonces = Nonces()
    order = [0, 2**32 - 1, *range(600, 2, -1)]
    assert nonces.claim(RAND_HASH, 140, order) == [NonceVerdict.NEW] * 600
    assert nonces.claim(RAND_HASH, 140, [601, 0]) == [NonceVerdict.TOO_MANY, NonceVerdict.SEEN]
    assert nonces.claim(b"\x05" * 32, 140, [601, 601]) == [NonceVerdict.NEW, NonceVerdict.SEEN]


def test_nonces_that_could_not_be_written_are_free_again() -> None:
    nonces = Nonces()
    nonces.claim(RAND_HASH, 140, [1])
    nonces.release(RAND_HASH, [1])
    assert len(nonces) == 0
    assert nonces.claim(RAND_HASH, 140, [1]) == [NonceVerdict.NEW]


def test_nonces_of_expired_parameters_take_no_memory() -> None:
    nonces = Nonces()
    for block in range(1000):
        nonces.claim(block.to_bytes(32), block + 40, [1])
        nonces.evict(block)
        assert len(nonces) <= 41
