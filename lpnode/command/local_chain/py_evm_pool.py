"""Transactions that wait to be mined, and how a node refuses a request."""

from collections.abc import Callable, Iterator
from typing import Any

_REFUSED = -32000
_BUMP_PERCENT = 10


class RequestRefused(Exception):
    """The node answers with an error. ``code`` and ``data`` are those of JSON-RPC."""

    def __init__(self, message: str, code: int = _REFUSED, data: str | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.data = data


class Pool:
    """At most one transaction for each nonce of an account, in the order they came."""

    def __init__(self) -> None:
        self._waiting: dict[tuple[bytes, int], Any] = {}

    def __iter__(self) -> Iterator[tuple[bytes, Any]]:
        """Senders and their transactions."""
        return ((sender, found) for (sender, _), found in self._waiting.items())

    def add(self, sender: bytes, transaction: Any) -> None:
        """Takes one in, in the place of one with its nonce that offers a tenth less.

        Raises: RequestRefused: it is here already, or offers too little more.
        """
        key = (sender, transaction.nonce)
        known = self._waiting.get(key)
        if known is not None:
            if known.hash == transaction.hash:
                raise RequestRefused("already known")
            if not (
                _is_bumped(known.max_fee_per_gas, transaction.max_fee_per_gas)
                and _is_bumped(known.max_priority_fee_per_gas, transaction.max_priority_fee_per_gas)
            ):
                raise RequestRefused("replacement transaction underpriced")
        self._waiting[key] = transaction

    def find(self, transaction_hash: bytes) -> tuple[bytes, Any] | None:
        """Returns the sender and the transaction with this hash."""
        return next((each for each in self if bytes(each[1].hash) == transaction_hash), None)

    def next_nonce(self, sender: bytes, nonce: int) -> int:
        """Returns the first nonce from ``nonce`` on that none of the sender's has."""
        while (sender, nonce) in self._waiting:
            nonce += 1
        return nonce

    def take(self, is_wanted: Callable[[bytes, Any], bool]) -> Any | None:
        """Removes and returns the first one that is wanted; None: there is none."""
        for (sender, nonce), transaction in self._waiting.items():
            if is_wanted(sender, transaction):
                return self._waiting.pop((sender, nonce))
        return None

    def clear(self) -> None:
        """Forgets all of them."""
        self._waiting.clear()


def _is_bumped(before_wei: int, after_wei: int) -> bool:
    return after_wei * 100 >= before_wei * (100 + _BUMP_PERCENT)
