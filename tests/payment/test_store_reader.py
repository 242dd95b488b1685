"""Looking at the store without owning it."""

import shutil
import sqlite3
from pathlib import Path

import pytest
from paying_gateway import PaymentBench, pay
from payment.receiving import MANIFEST, params_for

from lpnode.errors import ConfigError, StorageFailed
from lpnode.payment.earnings import total_earnings
from lpnode.payment.schema import MIGRATIONS
from lpnode.payment.store import PaymentStore
from lpnode.payment.store_reader import StoreReader


def num_credited(path: Path) -> int:
    with StoreReader(path) as reader:
        return reader.read(total_earnings).num_credited


async def test_a_reader_sees_what_is_committed_while_the_node_runs_and_after(
    bench: PaymentBench,
) -> None:
    async with bench.running() as payments:
        params = await params_for(payments)
        assert num_credited(bench.path) == 0
        await payments.recipient.receive(pay(params, range(5)), MANIFEST)
        with StoreReader(bench.path) as reader:
            assert reader.read(total_earnings).num_credited == 5
            await payments.recipient.receive(pay(params, range(5, 7)), MANIFEST)
            assert reader.read(total_earnings).num_credited == 5, "one view, as of its beginning"
        assert num_credited(bench.path) == 7
    assert num_credited(bench.path) == 7
    async with bench.running() as payments:  # what the reader left is no hindrance
        await payments.recipient.receive(pay(params, [8]), MANIFEST)
    assert num_credited(bench.path) == 8


async def test_a_store_that_was_never_closed_is_read_whole(
    bench: PaymentBench, tmp_path: Path
) -> None:
    killed = tmp_path / "killed"
    async with bench.running() as payments:
        params = await params_for(payments)
        await payments.recipient.receive(pay(params, range(5)), MANIFEST)
        killed.mkdir()
        # What kill -9 leaves: everything committed is in the log beside the file.
        for name in ("payments.db", "payments.db-wal"):
            shutil.copy(tmp_path / name, killed / name)
    assert num_credited(killed / "payments.db") == 5


async def test_a_reader_cannot_write(tmp_path: Path) -> None:
    path = tmp_path / "payments.db"
    await PaymentStore(path).close()
    with (
        StoreReader(path) as reader,
        pytest.raises(StorageFailed, match="readonly"),
    ):
        reader.read(lambda c: c.execute("DELETE FROM payments") and None)


@pytest.mark.parametrize(
    ("version", "message"),
    [
        (0, "is not a payment store"),
        (1, "version 1 and this release reads 2; start the node of this release once"),
        (99, "version 99 and this release reads 2; use the release that wrote it"),
    ],
)
def test_a_store_of_another_version_says_what_to_do(
    tmp_path: Path, version: int, message: str
) -> None:
    path = tmp_path / "payments.db"
    connection = sqlite3.connect(path)
    connection.execute(f"PRAGMA user_version = {version}")
    connection.close()
    with pytest.raises(ConfigError, match=message.replace("2;", f"{len(MIGRATIONS)};")):
        StoreReader(path).__enter__()


def test_no_store_and_no_database_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"there is no payment store .*; give -dataDir"):
        StoreReader(tmp_path / "payments.db").__enter__()
    (tmp_path / "payments.db").write_bytes(b"something else entirely" * 100)
    with pytest.raises(ConfigError, match="cannot be read: file is not a database"):
        StoreReader(tmp_path / "payments.db").__enter__()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["payments.db"]


async def test_a_store_of_the_first_release_is_brought_up_with_all_its_rows(tmp_path: Path) -> None:
    path = tmp_path / "payments.db"
    connection = sqlite3.connect(path)
    for step in MIGRATIONS[0]:
        connection.execute(step)
    connection.execute(
        "INSERT INTO payments (at, sender, manifest_id, rand_hash, num_tickets, num_credited, "
        "credit) VALUES (5.0, x'01', 'm', x'02', 3, 2, '7/3')"
    )
    connection.execute("PRAGMA user_version = 1")
    connection.commit()
    connection.close()
    store = PaymentStore(path)
    total = store.read(total_earnings)
    await store.close()
    assert (total.num_tickets, str(total.credit_wei)) == (3, "7/3")
    assert num_credited(path) == 2
