"""Ledgers with everything in them that a node may write, made at random."""

import random
import sqlite3
from dataclasses import replace
from fractions import Fraction

from paying_gateway import GATEWAY, OTHER_GATEWAY, RECIPIENT

from lpnode.payment import ledger
from lpnode.payment.balance import BalanceKey, SavedBalance
from lpnode.payment.schema import migrate
from lpnode.payment.ticket import (
    MAX_WIN_PROB,
    SignedTicket,
    Ticket,
    TicketHash,
    TicketParams,
    expected_value,
)
from lpnode.payment.wei_functions import add_wei_functions
from lpnode.payment.winner_state import WinnerState
from lpnode.payment.winning import Winner, add_winner, change_winner
from lpnode.protocol.ethereum import Address, Signature

DAY_S = 86_400
START_S = 1_800_000_000.0
SENDERS = (GATEWAY.address, OTHER_GATEWAY.address, Address(b"\x11" * 20))
MODELS = ("passthrough", "edge-style", "stabilityai/sd-turbo")
_SETTLED = [WinnerState.REDEEMED, WinnerState.EXPIRED, WinnerState.VOID]
REASONS = (
    "",
    "round 7 can no longer be redeemed in 9",
    "round 7 can no longer be redeemed in 9; the sender is unlocked",
    "round 7 can no longer be redeemed in 9; execution reverted",
)


def won_ticket(number: int, sender: Address, manifest_id: str, won_at_s: float) -> Winner:
    """Number ``number``, as it is stored first. Nobody looks at its signature again."""
    params = TicketParams(
        recipient=RECIPIENT,
        face_value_wei=10**15 + number,
        win_prob=MAX_WIN_PROB // 1000,
        recipient_rand_hash=bytes(32),
        seed=0,
        expiration_block=140,
        creation_round=7,
        creation_round_block_hash=b"\x35" * 32,
    )
    ticket = Ticket(params, sender, number)
    return Winner(
        signed=SignedTicket(ticket, Signature(bytes(65)), bytes(32)),
        hash=TicketHash(number.to_bytes(32)),
        manifest_id=manifest_id,
        won_at_s=won_at_s,
    )


def new_ledger() -> sqlite3.Connection:
    """A store's tables, in memory."""
    connection = sqlite3.connect(":memory:", isolation_level=None)
    add_wei_functions(connection)
    migrate(connection)
    return connection


def fill(connection: sqlite3.Connection, seed: int, *, num_days: int, num_steps: int) -> None:
    """Writes ``num_steps`` things that happen one after the other in ``num_days`` days."""
    dice = random.Random(seed)
    open_jobs: list[int] = []
    for number in range(num_steps):
        now_s = START_S + number * num_days * DAY_S / num_steps
        key = BalanceKey(dice.choice(SENDERS), f"manifest {dice.randrange(number // 8 + 2)}")
        kind = dice.random()
        if kind < 0.15:
            price = Fraction(dice.randrange(1, 3000), dice.choice((1, 7, 10**6)))
            model_id = dice.choice(MODELS)
            job = ledger.Job(key=key, capability=35, model_id=model_id, price=price)
            open_jobs.append(ledger.open_job(connection, job, now_s))
        elif kind < 0.5 and open_jobs:
            units = dice.randrange(10**9)
            fee_wei = units * Fraction(dice.randrange(1, 1000), 7)
            ledger.add_debit(connection, dice.choice(open_jobs[-5:]), units, fee_wei, now_s)
        elif kind < 0.64 and len(open_jobs) > 5:
            ledger.close_job(connection, open_jobs.pop(0), "the input ended", now_s)
        elif kind < 0.67:
            balance = SavedBalance(key, Fraction(dice.randrange(10**12), 3), now_s)
            ledger.forfeit_balance(connection, balance, now_s)
        else:
            _pay(connection, dice, number, key, now_s)


def _pay(
    connection: sqlite3.Connection, dice: random.Random, number: int, key: BalanceKey, now_s: float
) -> None:
    num_credited = dice.randrange(20)
    ev_wei = expected_value(dice.randrange(10**15), dice.randrange(MAX_WIN_PROB))
    payment = ledger.PaymentRow(
        key=key,
        rand_hash=dice.randbytes(32),
        num_tickets=num_credited + dice.randrange(3),
        num_credited=num_credited,
        credit_wei=num_credited * ev_wei,
    )
    payment_id = ledger.add_payment(connection, payment, now_s)
    if dice.random() < 0.5:
        return
    winner = won_ticket(number, *key, now_s)
    add_winner(connection, winner, payment_id)
    state = dice.choice([*WinnerState, *(2 * _SETTLED)])
    if state is not WinnerState.STORED:
        winner = replace(
            winner,
            state=state,
            reason=dice.choice(REASONS) if state.is_lost else "",
            payout_wei=dice.randrange(10**15) if state.is_paid and dice.random() < 0.9 else None,
            tx_hash=dice.randbytes(32) if state.is_paid else None,
        )
        change_winner(connection, winner, now_s + dice.randrange(2 * DAY_S))
