"""How many tickets won, what they promise, and what became of them; kept up change by change."""

from collections.abc import Iterable
from dataclasses import dataclass

from lpnode.payment.reason_classes import LossReason
from lpnode.payment.winner_state import WinnerState


@dataclass(frozen=True, slots=True)
class TicketSum:
    """Tickets of one kind. ``face_value_wei``: of all together."""

    num: int = 0
    face_value_wei: int = 0

    def __add__(self, other: "TicketSum") -> "TicketSum":
        return TicketSum(self.num + other.num, self.face_value_wei + other.face_value_wei)

    def __sub__(self, other: "TicketSum") -> "TicketSum":
        return TicketSum(self.num - other.num, self.face_value_wei - other.face_value_wei)


@dataclass(frozen=True, slots=True, kw_only=True)
class WinnerRow:
    """Winners that are alike, as the totals see them.

    ``loss``: why they were given up; None for all others. ``payout_wei``: paid for all together.
    """

    state: WinnerState
    tickets: TicketSum
    payout_wei: int = 0
    loss: LossReason | None = None


class WinnerTotals:
    """Every winner since the store began, those that were rolled up included."""

    def __init__(self, rows: Iterable[WinnerRow] = ()) -> None:
        self._by_state = dict.fromkeys(WinnerState, TicketSum())
        self._by_loss = dict.fromkeys(LossReason, TicketSum())
        self.payout_wei = 0
        for row in rows:
            self.add(row)

    @property
    def by_state(self) -> dict[WinnerState, TicketSum]:
        """A copy, with every state."""
        return dict(self._by_state)

    @property
    def by_loss(self) -> dict[LossReason, TicketSum]:
        """A copy, with every reason that a ticket can be lost for."""
        return dict(self._by_loss)

    def add(self, row: WinnerRow) -> None:
        """Counts winners that are new, or have come to this state."""
        self._by_state[row.state] += row.tickets
        self.payout_wei += row.payout_wei
        if row.loss is not None:
            self._by_loss[row.loss] += row.tickets

    def remove(self, row: WinnerRow) -> None:
        """Takes winners out that have left this state."""
        self._by_state[row.state] -= row.tickets
        self.payout_wei -= row.payout_wei
        if row.loss is not None:
            self._by_loss[row.loss] -= row.tickets
