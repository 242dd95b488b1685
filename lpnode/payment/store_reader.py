"""The payment store for those who only look: beside a running node, or when none runs."""

import sqlite3
from pathlib import Path
from typing import Self, TypeVar
from urllib.parse import quote

from lpnode.errors import ConfigError, StorageFailed
from lpnode.payment.schema import MIGRATIONS
from lpnode.payment.store import Change
from lpnode.payment.wei_functions import add_wei_functions

T = TypeVar("T")


class StoreReader:
    """One consistent view of the store, as it was when the ``with`` block began. Takes no lock."""

    def __init__(self, path: Path) -> None:
        """``path``: of the store; nothing is opened yet."""
        self.path = path
        self._connection: sqlite3.Connection | None = None

    def __enter__(self) -> Self:
        """Raises: ConfigError: there is no store, or it is not one of this release."""
        if not self.path.is_file():
            raise ConfigError(
                f"there is no payment store {self.path}; give -dataDir or -network as the node has "
                "it (a node that is not paid keeps none)"
            )
        try:
            connection = sqlite3.connect(
                f"file:{quote(str(self.path))}?mode=ro", uri=True, isolation_level=None
            )
            try:
                self._begin(connection)
            except BaseException:  # nobody else closes the connection
                connection.close()
                raise
        except sqlite3.Error as error:
            raise ConfigError(f"the payment store {self.path} cannot be read: {error}") from error
        self._connection = connection
        return self

    def __exit__(self, *_: object) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def read(self, query: Change[T]) -> T:
        """Runs ``query`` at once. Raises: StorageFailed."""
        assert self._connection is not None, "reads are made inside the with block"
        try:
            return query(self._connection)
        except sqlite3.Error as error:
            raise StorageFailed(f"payment store: {error}") from error

    def _begin(self, connection: sqlite3.Connection) -> None:
        connection.execute("PRAGMA busy_timeout = 5000")
        add_wei_functions(connection)
        connection.execute("BEGIN")
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        if version > len(MIGRATIONS):
            raise ConfigError(
                f"the payment store {self.path} has version {version} and this release reads "
                f"{len(MIGRATIONS)}; use the release that wrote it, or a newer one"
            )
        if 0 < version < len(MIGRATIONS):
            raise ConfigError(
                f"the payment store {self.path} has version {version} and this release reads "
                f"{len(MIGRATIONS)}; start the node of this release once, which brings it up"
            )
        if version == 0:
            raise ConfigError(f"{self.path} is not a payment store, or an empty one")
