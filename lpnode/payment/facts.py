"""What the store knows about itself: for which chain and recipient, and its secret keys."""

import sqlite3
from collections.abc import Callable
from dataclasses import dataclass, field

from lpnode.errors import ConfigError
from lpnode.payment.params import KEY_BYTES
from lpnode.protocol.ethereum import Address, checksum_text

_PARAMS_KEY = "recipient rand"


@dataclass(frozen=True, slots=True)
class Facts:
    """Read at start.

    Attributes:
        params_key: what binds our parameters to their secret numbers, 32 bytes.
        evicted_l1_block: nonces of parameters that expired by then are gone, so those parameters
            are refused even if the chain's head seems to be before it.
    """

    params_key: bytes = field(repr=False)
    evicted_l1_block: int


def claim_store(
    connection: sqlite3.Connection,
    *,
    chain_id: int,
    recipient: Address,
    entropy: Callable[[int], bytes],
    now_s: float,
) -> Facts:
    """Ties a new store to a chain and a recipient, or checks that it is theirs; returns its facts.

    ``entropy``: n → n random bytes that nobody can guess.
    Raises: ConfigError: the store is of another chain.
    """
    connection.execute("BEGIN IMMEDIATE")
    try:
        known = get_fact(connection, "chain_id")
        if known is None:
            set_fact(connection, "chain_id", chain_id)
        elif known != chain_id:
            raise ConfigError(
                f"the payment store is of chain {known}, and the node is on chain {chain_id}; "
                "give it another -dataDir"
            )
        set_fact(connection, "recipient", checksum_text(recipient))
        row = connection.execute(
            "SELECT value FROM secrets WHERE name = ? ORDER BY id DESC LIMIT 1", (_PARAMS_KEY,)
        ).fetchone()
        if row is None:
            key = entropy(KEY_BYTES)
            connection.execute(
                "INSERT INTO secrets (name, value, created_at) VALUES (?, ?, ?)",
                (_PARAMS_KEY, key, now_s),
            )
        else:
            key = bytes(row[0])
        evicted = get_fact(connection, "evicted_l1_block")
        connection.execute("COMMIT")
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
    return Facts(params_key=key, evicted_l1_block=int(evicted or 0))


def get_fact(connection: sqlite3.Connection, name: str) -> int | str | None:
    """The value of ``name``, or None."""
    row = connection.execute("SELECT value FROM facts WHERE name = ?", (name,)).fetchone()
    value: int | str | None = row[0] if row else None
    return value


def set_fact(connection: sqlite3.Connection, name: str, value: int | str) -> None:
    """Replaces the value of ``name``."""
    connection.execute(
        "INSERT INTO facts VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value",
        (name, value),
    )
