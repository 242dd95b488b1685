"""What the node has earned, by model, gateway or day. Reads; each is a query of ``StoreReader``."""

import sqlite3
from collections import defaultdict
from enum import StrEnum

from lpnode.payment.ledger_sums import SOURCES, Earnings, Source, sum_rows
from lpnode.protocol.ethereum import Address, checksum_text


class Grouping(StrEnum):
    """What earnings are told apart by."""

    MODEL = "model"
    GATEWAY = "gateway"
    DAY = "day"

    def key(self, source: Source) -> str:
        """The SQL of it."""
        return {
            Grouping.MODEL: source.model,
            Grouping.GATEWAY: source.sender,
            Grouping.DAY: source.day,
        }[self]


def total_earnings(connection: sqlite3.Connection) -> Earnings:
    """Everything since the store began."""
    total = Earnings()
    for source in SOURCES:
        for _, earnings in sum_rows(connection, source, ()):
            total += earnings
    return total


def earnings_by(connection: sqlite3.Connection, grouping: Grouping) -> dict[str, Earnings]:
    """The same in groups, in the order of their names.

    Models have their id, or ``""`` where no work was done; gateways the address they pay from;
    days the form ``2027-01-15``. See Notes [Whose model] and [Whose day].
    """
    groups: defaultdict[str, Earnings] = defaultdict(Earnings)
    for source in SOURCES:
        for (key,), earnings in sum_rows(connection, source, (grouping.key(source),)):
            name = checksum_text(Address(key)) if isinstance(key, bytes) else str(key)
            groups[name] += earnings
    return dict(sorted(groups.items()))
