"""What the tests of a recipient share."""

import sqlite3
from collections.abc import Awaitable
from fractions import Fraction

import pytest
from paying_gateway import (
    GATEWAY,
    PRICE,
)

from lpnode.errors import TicketRejected
from lpnode.payment.balance import BalanceKey
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
