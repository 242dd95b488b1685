"""A store of submissions that lasts as long as the test."""

from collections.abc import Sequence

from lpnode.chain.submission import StoredAttempt
from lpnode.errors import LpnodeError
from lpnode.protocol.ethereum import Address


class Submissions:
    """Keeps attempts in memory; ``rows`` may be handed to another one, as after a restart."""

    def __init__(self) -> None:
        self.rows: list[StoredAttempt] = []
        self.is_failing = False

    async def save_attempt(self, attempt: StoredAttempt) -> None:
        if self.is_failing:
            raise LpnodeError("the disk is full")
        if attempt not in self.rows:
            self.rows.append(attempt)

    async def forget_nonce(self, account: Address, nonce: int) -> None:
        self.rows = [row for row in self.rows if (row.account, row.nonce) != (account, nonce)]

    async def attempts(self, account: Address) -> Sequence[StoredAttempt]:
        return [row for row in self.rows if row.account == account]
