"""The ledger stays bounded, and what was earned stays exact."""

import sqlite3
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import pytest
from paying_gateway import RECIPIENT, PaymentBench, pay
from payment.ledgers import DAY_S, START_S, fill, new_ledger
from payment.receiving import KEY, MANIFEST, OFTEN_WON, params_for, refused

from lpnode.errors import ConfigError
from lpnode.payment.earnings import Grouping, earnings_by, total_earnings
from lpnode.payment.ledger import Job
from lpnode.payment.params import PricingConfig
from lpnode.payment.payments import PaymentsConfig
from lpnode.payment.pruning import MAX_ROWS, PruneStep, prune
from lpnode.payment.recipient import RecipientConfig
from lpnode.payment.ticket import TicketHash
from lpnode.payment.winner_totals import WinnerTotals
from lpnode.payment.winning import count_closed_winners, is_recorded

LEDGER = ("payments", "winners", "redemptions", "jobs", "debits", "forfeits")


def counts(connection: sqlite3.Connection) -> dict[str, int]:
    return {
        table: connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in LEDGER
    }


def everything(connection: sqlite3.Connection) -> tuple[object, ...]:
    """What operators see: earnings however they are grouped, and the totals of the winners."""
    totals = WinnerTotals(count_closed_winners(connection))
    return (
        total_earnings(connection),
        *(earnings_by(connection, grouping) for grouping in Grouping),
        totals.by_state,
        totals.by_loss,
        totals.payout_wei,
    )


def prune_all(connection: sqlite3.Connection, before_s: float) -> int:
    """Returns how many steps it took."""
    step, num_idle, num_steps = PruneStep(), 0, 0
    while num_idle < 20:
        step = prune(connection, before_s, step)
        num_idle = 0 if step.num_rows else num_idle + 1
        num_steps += 1
    return num_steps - 20


@pytest.fixture
def connection() -> Iterator[sqlite3.Connection]:
    connection = new_ledger()
    yield connection
    connection.close()


@pytest.mark.parametrize("seed", range(5))
def test_no_sum_changes_by_a_wei_however_much_is_pruned(
    connection: sqlite3.Connection, seed: int
) -> None:
    fill(connection, seed, num_days=40, num_steps=3000)
    before, rows = everything(connection), counts(connection)
    for day in (5, 17, 18, 36):
        prune_all(connection, START_S + day * DAY_S + 1234.5)
        assert everything(connection) == before
    after = counts(connection)
    assert all(after[table] < rows[table] / 2 for table in LEDGER), (rows, after)


def test_what_may_still_change_is_kept_however_old(connection: sqlite3.Connection) -> None:
    unsettled = "state IN ('stored', 'submitted', 'confirmed')"
    queries = (
        f"SELECT ticket_hash FROM winners WHERE {unsettled}",
        "SELECT payments.id FROM payments JOIN winners ON payments.id = payment_id "
        f"WHERE {unsettled}",
        "SELECT id FROM jobs WHERE closed_at IS NULL",
    )
    fill(connection, 0, num_days=40, num_steps=3000)
    kept = [set(connection.execute(query)) for query in queries]
    prune_all(connection, START_S + 1000 * DAY_S)
    assert [set(connection.execute(query)) for query in queries] == kept
    after = counts(connection)
    assert (after["winners"], after["payments"]) == (len(kept[0]), len(kept[1]))
    assert (after["debits"], after["forfeits"]) == (0, 0)


def test_a_step_is_bounded_and_rolls_up_only_what_is_old(connection: sqlite3.Connection) -> None:
    fill(connection, 1, num_days=40, num_steps=3000)
    before = counts(connection)
    assert prune(connection, START_S, PruneStep()).num_rows == 0
    assert counts(connection) == before
    assert prune(connection, START_S + 30 * DAY_S, PruneStep()).num_rows > 0
    after = counts(connection)
    assert all(before[t] - after[t] <= MAX_ROWS for t in ("payments", "winners", "jobs"))
    prune_all(connection, START_S + 30 * DAY_S)
    (oldest,) = connection.execute("SELECT min(day) FROM debits").fetchone()
    assert oldest == "2027-02-14"


async def test_a_node_prunes_by_itself_and_its_figures_stay(bench: PaymentBench) -> None:
    bench.pricing = OFTEN_WON
    async with bench.running() as payments:
        params = await params_for(payments)
        payment = pay(params, range(60))
        receipt = await payments.recipient.receive(payment, MANIFEST)
        purse = await payments.open_job(
            Job(key=KEY, capability=35, model_id="noop", price=Fraction(1))
        )
        assert purse.debit(1000, Fraction(1000))
        purse.close("the input ended")
        hashes = [winner.hash for winner in payments.winners.open()]
        assert len(hashes) == receipt.num_won > 5
        await payments.store.write(
            lambda c: (
                c.execute("UPDATE winners SET state = 'redeemed', payout = face_value") and None
            )
        )
        before = await payments.store.write(everything)
        bench.now_s += 399 * DAY_S
        await payments.forget_expired()
        assert (await payments.store.write(counts))["payments"] == 1
        forfeited = await payments.store.write(everything)
        bench.now_s += 2 * DAY_S
        await payments.forget_expired()
        rows = await payments.store.write(counts)
        assert rows == {**dict.fromkeys(LEDGER, 0), "forfeits": 1, "jobs": 1}
        assert await payments.store.write(everything) == forfeited != before
        bench.now_s += 400 * DAY_S
        await payments.forget_expired()
        await payments.forget_expired()
        assert await payments.store.write(counts) == dict.fromkeys(LEDGER, 0)
        assert await payments.store.write(everything) == forfeited
    async with bench.running() as payments:
        assert payments.summary().payout_wei == receipt.num_won * params.face_value_wei
        # The same payment once more: every nonce is forgotten, and no ticket wins twice.
        await refused(payments.recipient.receive(payment, MANIFEST))
        assert len(payments.winners) == 0
        assert await payments.store.write(
            lambda c: all(is_recorded(c, ticket_hash) for ticket_hash in hashes)
        )
        assert not await payments.store.write(lambda c: is_recorded(c, TicketHash(bytes(32))))


def test_a_retention_in_which_tickets_may_still_change_is_refused(tmp_path: Path) -> None:
    recipient = RecipientConfig(recipient=RECIPIENT, pricing=PricingConfig())
    with pytest.raises(ConfigError, match="-ledgerRetention must be at least 168h"):
        PaymentsConfig(path=tmp_path / "p", chain_id=1, recipient=recipient, retention_s=3600)
