"""What the tests of a recipient share."""

import sqlite3
from collections.abc import Awaitable
from fractions import Fraction
from typing import Any

import pytest
from paying_gateway import (
    GATEWAY,
    PRICE,
)

from lpnode.errors import TicketRejected
from lpnode.payment.balance import BalanceKey
from lpnode.payment.nonce_rows import load_nonces
from lpnode.payment.params import PricingConfig
from lpnode.payment.payments import Payments
from lpnode.payment.ticket import TicketParams

MANIFEST = "8badf00d8badf00d"
KEY = BalanceKey(GATEWAY.address, MANIFEST)
OFTEN_WON = PricingConfig(ev_wei=5 * 10**14)
"""Face value 1.2e15 wei at the bench's gas price: five tickets in twelve win."""


async def params_for(payments: Payments, price: Fraction = PRICE) -> TicketParams:
    return await payments.recipient.ticket_params(GATEWAY.address, price)


async def refused(receiving: Awaitable[object]) -> str:
    with pytest.raises(TicketRejected) as caught:
        await receiving
    return str(caught.value)


async def assert_nothing_changed(payments: Payments) -> None:
    assert len(payments.balances) == 0
    assert len(payments.winners) == 0

    def count(connection: sqlite3.Connection) -> list[int]:
        return [
            connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0]
            for table in ("payments", "params", "balances", "winners")
        ]

    assert await payments.store.write(count) == [0, 0, 0, 0]


async def everything(payments: Payments) -> dict[str, Any]:
    """All that payments change: what memory holds, and each row of each table."""

    def rows(connection: sqlite3.Connection) -> dict[str, list[Any]]:
        tables = connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")
        return {name: connection.execute(f"SELECT * FROM {name}").fetchall() for (name,) in tables}

    def nonces_on_disk(connection: sqlite3.Connection) -> list[int]:
        return [nonce for saved in load_nonces(connection) for nonce in saved.nonces]

    nonces = payments.recipient._nonces._seen
    return {
        "nonces on disk": await payments.store.write(nonces_on_disk),
        "balances": {key: entry.amount_wei for key, entry in payments.balances._entries.items()},
        "nonces": {rand_hash: set(seen.nonces) for rand_hash, seen in nonces.items()},
        "winners": payments.winners.open(),
        "pending": payments.winners.total_pending_wei,
        "rows": await payments.store.write(rows),
    }
