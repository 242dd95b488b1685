"""Tickets that won: kept from before they are acknowledged until the chain has settled them.

Source: payments.md sections 4.1 and 4.2.
"""

import sqlite3
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from lpnode.errors import NotRetried
from lpnode.payment.reason_classes import RETRIED, LossReason, loss_reason
from lpnode.payment.ticket import SignedTicket, Ticket, TicketHash, TicketParams
from lpnode.payment.winner_state import WinnerState
from lpnode.payment.winner_totals import TicketSum, WinnerRow, WinnerTotals
from lpnode.protocol.ethereum import Address, Signature

_COLUMNS = """recipient, sender, face_value, win_prob, sender_nonce, recipient_rand, rand_hash,
    signature, creation_round, creation_round_block_hash, expiration_block, ticket_hash,
    manifest_id, won_at, state, reason, tx_hash, payout"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Winner:
    """A ticket that won, and what became of it. Times in seconds since the epoch.

    Attributes:
        reason: why it is in its state, for operators.
        tx_hash: of the newest transaction that redeems it; None before there is one.
        payout_wei: what the chain paid; None before it did, or when somebody else redeemed it.
    """

    signed: SignedTicket
    hash: TicketHash
    manifest_id: str
    won_at_s: float
    state: WinnerState = WinnerState.STORED
    reason: str = ""
    tx_hash: bytes | None = None
    payout_wei: int | None = None

    @property
    def sender(self) -> Address:
        """Whose funds pay it."""
        return self.signed.ticket.sender

    @property
    def face_value_wei(self) -> int:
        """What it pays when the sender has as much."""
        return self.signed.ticket.params.face_value_wei

    @property
    def expiration_block(self) -> int:
        """L1 block from which on the recipient rand may be revealed."""
        return self.signed.ticket.params.expiration_block


class WinningTickets:
    """The open winners in memory. Used from the event loop only; the store is the truth."""

    def __init__(self, saved: Iterable[Winner] = (), closed: Iterable[WinnerRow] = ()) -> None:
        """``saved``: the open ones; ``closed``: all others, which are only counted."""
        self.totals = WinnerTotals(closed)
        self._open: dict[TicketHash, Winner] = {}
        self._pending_wei: defaultdict[Address, int] = defaultdict(int)
        for winner in saved:
            self.put_recorded(winner)

    def __len__(self) -> int:
        return len(self._open)

    def pending_wei(self, sender: Address) -> int:
        """Face values that the sender's funds have still to pay."""
        return self._pending_wei.get(sender, 0)

    def expect(self, sender: Address, change_wei: int) -> None:
        """Has winners that are just being written count as pending; less than 0: no more."""
        self._count(sender, change_wei)

    @property
    def total_pending_wei(self) -> int:
        """The same, of all senders."""
        return sum(self._pending_wei.values())

    def get(self, ticket_hash: TicketHash) -> Winner | None:
        """The open winner of that hash, or None."""
        return self._open.get(ticket_hash)

    def open(self) -> list[Winner]:
        """Every open winner, oldest first."""
        return list(self._open.values())

    def put_recorded(self, winner: Winner, *, closed: Winner | None = None) -> None:
        """Takes over what is on disk: a new winner, or a new state of one.

        ``closed``: what it was, when it was not open.
        """
        before = self._open.get(winner.hash, closed)
        if before is not None:
            self.totals.remove(_row_of(before))
        self.totals.add(_row_of(winner))
        self._count(winner.sender, -_pending(before) + _pending(winner))
        if winner.state.is_open:
            self._open[winner.hash] = winner
        else:
            self._open.pop(winner.hash, None)

    def _count(self, sender: Address, change_wei: int) -> None:
        self._pending_wei[sender] += change_wei
        if not self._pending_wei[sender]:
            del self._pending_wei[sender]


def _pending(winner: Winner | None) -> int:
    return winner.face_value_wei if winner is not None and winner.state.is_pending else 0


def _row_of(winner: Winner) -> WinnerRow:
    return WinnerRow(
        state=winner.state,
        tickets=TicketSum(1, winner.face_value_wei),
        payout_wei=winner.payout_wei or 0,
        loss=loss_reason(winner.reason) if winner.state.is_lost else None,
    )


def is_recorded(connection: sqlite3.Connection, ticket_hash: TicketHash) -> bool:
    """Whether the ticket is kept, open or not, or was kept once."""
    row = connection.execute(
        """SELECT 1 FROM winners WHERE ticket_hash = :hash
        UNION ALL SELECT 1 FROM settled_tickets WHERE ticket_hash = :hash""",
        {"hash": ticket_hash},
    )
    return row.fetchone() is not None


def add_winner(connection: sqlite3.Connection, winner: Winner, payment_id: int) -> None:
    """Writes a winner that is new."""
    ticket = winner.signed.ticket
    params = ticket.params
    connection.execute(
        """INSERT INTO winners
        (ticket_hash, payment_id, manifest_id, recipient, sender, face_value, win_prob,
         sender_nonce, recipient_rand, rand_hash, signature, creation_round,
         creation_round_block_hash, expiration_block, won_at, state, reason, changed_at)
        VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)""",
        (
            winner.hash,
            payment_id,
            winner.manifest_id,
            params.recipient,
            ticket.sender,
            params.face_value_wei.to_bytes(32),
            params.win_prob.to_bytes(32),
            ticket.nonce,
            winner.signed.recipient_rand,
            params.recipient_rand_hash,
            winner.signed.signature,
            params.creation_round,
            params.creation_round_block_hash,
            params.expiration_block,
            winner.won_at_s,
            winner.state,
            winner.reason,
            winner.won_at_s,
        ),
    )


def load_open_winners(connection: sqlite3.Connection) -> list[Winner]:
    """Every winner that may still be paid, oldest first."""
    return load_winners(connection, [state for state in WinnerState if state.is_open])


def load_winners(connection: sqlite3.Connection, states: Sequence[WinnerState]) -> list[Winner]:
    """The winners in any of ``states``, oldest first."""
    marks = ", ".join("?" * len(states))
    rows = connection.execute(
        f"SELECT {_COLUMNS} FROM winners WHERE state IN ({marks}) ORDER BY won_at, ticket_hash",
        states,
    )
    return [_winner(row) for row in rows]


def load_winner(connection: sqlite3.Connection, ticket_hash: TicketHash) -> Winner | None:
    """The winner of that hash, open or not; None when none is kept."""
    row = connection.execute(
        f"SELECT {_COLUMNS} FROM winners WHERE ticket_hash = ?", (ticket_hash,)
    ).fetchone()
    return None if row is None else _winner(row)


def count_closed_winners(connection: sqlite3.Connection) -> list[WinnerRow]:
    """Those that nothing will come of any more: one row each, or for all that were rolled up."""
    closed = [state for state in WinnerState if not state.is_open]
    marks = ", ".join("?" * len(closed))
    rows = connection.execute(
        f"SELECT state, reason, face_value, payout FROM winners WHERE state IN ({marks})", closed
    )
    kept = [
        WinnerRow(
            state=WinnerState(state),
            tickets=TicketSum(1, int.from_bytes(face_value)),
            payout_wei=int.from_bytes(payout or b""),
            loss=loss_reason(reason) if WinnerState(state).is_lost else None,
        )
        for state, reason, face_value, payout in rows
    ]
    return [*kept, *_load_settled_totals(connection)]


def _load_settled_totals(connection: sqlite3.Connection) -> list[WinnerRow]:
    return [
        WinnerRow(
            state=WinnerState(state),
            tickets=TicketSum(num, int(face_value)),
            payout_wei=int(payout),
            loss=LossReason(loss) if loss else None,
        )
        for state, loss, num, face_value, payout in connection.execute(
            "SELECT state, loss, num, face_value, payout FROM settled_totals"
        )
    ]


def change_winner(connection: sqlite3.Connection, winner: Winner, now_s: float) -> None:
    """Writes what became of ``winner``, and adds it to the ticket's history."""
    payout = None if winner.payout_wei is None else winner.payout_wei.to_bytes(32)
    connection.execute(
        "UPDATE winners SET state = ?, reason = ?, tx_hash = ?, payout = ?, changed_at = ? "
        "WHERE ticket_hash = ?",
        (winner.state, winner.reason, winner.tx_hash, payout, now_s, winner.hash),
    )
    connection.execute(
        "INSERT INTO redemptions (ticket_hash, tx_hash, at, state, reason) VALUES (?, ?, ?, ?, ?)",
        (winner.hash, winner.tx_hash, now_s, winner.state, winner.reason),
    )


def reopen_winners(
    connection: sqlite3.Connection, ticket_hash: TicketHash | None, now_s: float
) -> list[tuple[Winner, Winner]]:
    """Has a winner, or with None every one that is not paid, decided on afresh.

    Returns each as it was and as it is; those that were not given up are as they were.
    Raises: NotRetried: there is no such winner, or it is redeemed.
    """
    if ticket_hash is None:
        unpaid = [state for state in WinnerState if not state.is_paid]
        winners = load_winners(connection, unpaid)
    else:
        winner = load_winner(connection, ticket_hash)
        if winner is None:
            raise NotRetried(f"no ticket 0x{ticket_hash.hex()} that won is kept here")
        if winner.state.is_paid:
            raise NotRetried(
                f"ticket 0x{ticket_hash.hex()} is {winner.state}: the chain has paid it, and "
                "would refuse it a second time"
            )
        winners = [winner]
    changes = []
    for before in winners:
        winner = before
        if before.state.is_lost:
            winner = replace(before, state=WinnerState.STORED, reason=RETRIED)
            change_winner(connection, winner, now_s)
        changes.append((before, winner))
    return changes


def _winner(row: tuple[object, ...]) -> Winner:
    (
        recipient,
        sender,
        face_value,
        win_prob,
        nonce,
        recipient_rand,
        rand_hash,
        signature,
        creation_round,
        block_hash,
        expiration_block,
        ticket_hash,
        manifest_id,
        won_at,
        state,
        reason,
        tx_hash,
        payout,
    ) = row
    params = TicketParams(
        recipient=Address(_bytes(recipient)),
        face_value_wei=int.from_bytes(_bytes(face_value)),
        win_prob=int.from_bytes(_bytes(win_prob)),
        recipient_rand_hash=_bytes(rand_hash),
        # Known to whoever made the parameters; redeeming does not need it.
        seed=0,
        expiration_block=_int(expiration_block),
        creation_round=_int(creation_round),
        creation_round_block_hash=_bytes(block_hash),
    )
    return Winner(
        signed=SignedTicket(
            ticket=Ticket(params, Address(_bytes(sender)), _int(nonce)),
            signature=Signature(_bytes(signature)),
            recipient_rand=_bytes(recipient_rand),
        ),
        hash=TicketHash(_bytes(ticket_hash)),
        manifest_id=str(manifest_id),
        won_at_s=_float(won_at),
        state=WinnerState(str(state)),
        reason=str(reason),
        tx_hash=None if tx_hash is None else _bytes(tx_hash),
        payout_wei=None if payout is None else int.from_bytes(_bytes(payout)),
    )


def _bytes(value: object) -> bytes:
    assert isinstance(value, bytes)
    return value


def _int(value: object) -> int:
    assert isinstance(value, int)
    return value


def _float(value: object) -> float:
    assert isinstance(value, float | int)
    return float(value)
