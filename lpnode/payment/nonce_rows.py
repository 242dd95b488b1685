"""Nonces on disk. Each function is a change, or part of one, for ``PaymentStore.write``.

A recipient rand has one row, with its nonces as a JSON list: a payment of 100 tickets changes one
row and not a hundred.
"""

import json
import sqlite3
from collections.abc import Collection

from lpnode.errors import StorageFailed
from lpnode.payment.facts import get_fact, set_fact
from lpnode.payment.nonces import SavedNonces

_EVICTED = "evicted_l1_block"


def add_nonces(
    connection: sqlite3.Connection, rand_hash: bytes, expiration_block: int, nonces: Collection[int]
) -> None:
    """Writes nonces that are new. Raises: StorageFailed: one is there already."""
    row = connection.execute(
        "SELECT nonces FROM params WHERE rand_hash = ?", (rand_hash,)
    ).fetchone()
    kept: list[int] = [*(json.loads(row[0]) if row else ()), *nonces]
    if len(set(kept)) < len(kept):
        raise StorageFailed("payment store: a nonce is there already")
    connection.execute(
        """INSERT INTO params (rand_hash, expiration_block, nonces) VALUES (?, ?, ?)
        ON CONFLICT (rand_hash) DO UPDATE SET nonces = excluded.nonces""",
        (rand_hash, expiration_block, json.dumps(kept, separators=(",", ":"))),
    )


def load_nonces(connection: sqlite3.Connection) -> list[SavedNonces]:
    """Everything that has not been evicted."""
    return [
        SavedNonces(bytes(rand_hash), expiration_block, frozenset(json.loads(nonces)))
        for rand_hash, expiration_block, nonces in connection.execute(
            "SELECT rand_hash, expiration_block, nonces FROM params"
        )
    ]


def evict_nonces(connection: sqlite3.Connection, last_l1_block: int) -> None:
    """Deletes those of expired parameters, and notes in the same step up to which block."""
    connection.execute("DELETE FROM params WHERE expiration_block <= ?", (last_l1_block,))
    before = int(get_fact(connection, _EVICTED) or 0)
    set_fact(connection, _EVICTED, max(before, last_l1_block))
