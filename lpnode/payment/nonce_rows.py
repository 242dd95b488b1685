"""Nonces on disk. Each function is a change, or part of one, for ``PaymentStore.write``."""

import sqlite3
from collections import defaultdict
from collections.abc import Iterable

from lpnode.errors import StorageFailed
from lpnode.payment.facts import get_fact, set_fact
from lpnode.payment.nonces import SavedNonces

_EVICTED = "evicted_l1_block"


def add_nonces(
    connection: sqlite3.Connection, rand_hash: bytes, expiration_block: int, nonces: Iterable[int]
) -> None:
    """Writes nonces that are new. Raises: StorageFailed: one is there already."""
    connection.execute(
        "INSERT OR IGNORE INTO params (rand_hash, expiration_block) VALUES (?, ?)",
        (rand_hash, expiration_block),
    )
    (params_id,) = connection.execute(
        "SELECT id FROM params WHERE rand_hash = ?", (rand_hash,)
    ).fetchone()
    try:
        connection.executemany(
            "INSERT INTO nonces VALUES (?, ?)", ((params_id, nonce) for nonce in nonces)
        )
    except sqlite3.IntegrityError as error:
        raise StorageFailed("payment store: a nonce is there already") from error


def load_nonces(connection: sqlite3.Connection) -> list[SavedNonces]:
    """Everything that has not been evicted."""
    nonces: defaultdict[int, set[int]] = defaultdict(set)
    for params_id, nonce in connection.execute("SELECT params_id, nonce FROM nonces"):
        nonces[params_id].add(nonce)
    return [
        SavedNonces(bytes(rand_hash), expiration_block, frozenset(nonces[params_id]))
        for params_id, rand_hash, expiration_block in connection.execute(
            "SELECT id, rand_hash, expiration_block FROM params"
        )
    ]


def evict_nonces(connection: sqlite3.Connection, last_l1_block: int) -> None:
    """Deletes those of expired parameters, and notes in the same step up to which block."""
    connection.execute("DELETE FROM params WHERE expiration_block <= ?", (last_l1_block,))
    before = int(get_fact(connection, _EVICTED) or 0)
    set_fact(connection, _EVICTED, max(before, last_l1_block))
