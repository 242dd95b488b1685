"""Signed transactions on disk: what ``chain.transactions`` asks of a store."""

import sqlite3
from collections.abc import Sequence

from lpnode.chain.submission import StoredAttempt
from lpnode.payment.store import PaymentStore
from lpnode.protocol.ethereum import Address


class Attempts:
    """Satisfies ``lpnode.chain.submission.SubmissionStore``. Each may raise StorageFailed."""

    def __init__(self, store: PaymentStore) -> None:
        self._store = store

    async def save_attempt(self, attempt: StoredAttempt) -> None:
        """Keeps an attempt; the same one may come again."""

        def save(connection: sqlite3.Connection) -> None:
            connection.execute(
                "INSERT OR IGNORE INTO attempts VALUES (?, ?, ?, ?)",
                (attempt.account, attempt.nonce, attempt.hash, attempt.record),
            )

        await self._store.write(save)

    async def forget_nonce(self, account: Address, nonce: int) -> None:
        """Removes every attempt with this nonce."""

        def forget(connection: sqlite3.Connection) -> None:
            connection.execute(
                "DELETE FROM attempts WHERE account = ? AND nonce = ?", (account, nonce)
            )

        await self._store.write(forget)

    async def attempts(self, account: Address) -> Sequence[StoredAttempt]:
        """What is kept, in the order it came."""

        def load(connection: sqlite3.Connection) -> list[StoredAttempt]:
            return [
                StoredAttempt(account, nonce, bytes(transaction_hash), bytes(record))
                for nonce, transaction_hash, record in connection.execute(
                    "SELECT nonce, hash, record FROM attempts WHERE account = ? ORDER BY rowid",
                    (account,),
                )
            ]

        return await self._store.write(load)
