"""Won tickets on their way to the chain. Source: payments.md section 4."""

import asyncio
from fractions import Fraction
from pathlib import Path

import pytest
from paying_gateway import GATEWAY, OTHER_GATEWAY, Funds
from payment.redeeming import FACE_VALUE, OFTEN_WON, Broker, running

from lpnode.errors import (
    ChainError,
    TransactionLost,
    TransactionReverted,
    TransactionTimedOut,
)
from lpnode.payment.winner_state import WinnerState


async def test_a_won_ticket_is_redeemed_and_followed_until_that_is_final(tmp_path: Path) -> None:
    async with running(tmp_path) as bench:
        (winner,) = await bench.win(1)
        assert bench.payments.winners.pending_wei(GATEWAY.address) == FACE_VALUE
        await bench.settle()
        assert bench.broker.sent == [winner.hash]
        assert await bench.rows() == {winner.hash: ("confirmed", "")}
        assert bench.payments.winners.pending_wei(GATEWAY.address) == 0
        await bench.settle()
        bench.broker.final.add(winner.hash)
        await bench.settle()
        assert await bench.rows() == {winner.hash: ("redeemed", "")}
        assert len(bench.payments.winners) == 0
        history = await bench.payments.store.write(
            lambda c: c.execute("SELECT state FROM redemptions ORDER BY id").fetchall()
        )
        assert history == [("submitted",), ("confirmed",), ("redeemed",)]
        payout = await bench.payments.store.write(
            lambda c: c.execute("SELECT payout, tx_hash FROM winners").fetchone()
        )
        assert (int.from_bytes(payout[0]), payout[1]) == (FACE_VALUE, bytes(32))


async def test_no_ticket_is_sent_while_its_parameters_are_in_use(tmp_path: Path) -> None:
    """D2."""
    async with running(tmp_path) as bench:
        (winner,) = await bench.win(1)
        bench.chain.last_l1_block = winner.expiration_block - 1
        await bench.settle()
        assert bench.broker.sent == []


async def test_a_ticket_out_of_its_rounds_is_given_up_with_a_reason(tmp_path: Path) -> None:
    """D2."""
    async with running(tmp_path) as bench:
        (winner,) = await bench.win(1)
        bench.chain.num_rounds_ahead = 2
        await bench.settle()
        state, reason = (await bench.rows())[winner.hash]
        assert state == "expired"
        assert "round 3500 can no longer be redeemed in 3502" in reason
        assert (bench.broker.sent, len(bench.payments.winners)) == ([], 0)


async def test_tickets_of_before_a_restart_are_redeemed_without_their_sender(
    tmp_path: Path,
) -> None:
    """D4."""
    async with running(tmp_path) as bench:
        winners = await bench.win(3)
    async with running(tmp_path, bench.chain) as again:
        await again.settle()
        assert sorted(again.broker.sent) == sorted(winner.hash for winner in winners)


async def test_a_stuck_ticket_holds_up_no_other(tmp_path: Path) -> None:
    """D5: the transaction of one never ends, another cannot even be sent."""
    async with running(tmp_path) as bench:
        first, second, third = (await bench.win(3))[:3]
        other = (await bench.win(1, OTHER_GATEWAY))[0]
        stuck = asyncio.Event()
        bench.broker.failures[second.hash] = [ChainError("no endpoint answers")]

        async with asyncio.TaskGroup() as tasks:
            bench.broker.may_mine = stuck
            bench.redemption.begin_due(tasks)
            await bench.broker.wait_sent(3)
            assert set(bench.broker.sent) >= {first.hash, third.hash, other.hash}
            stuck.set()
        rows = await bench.rows()
        assert rows[second.hash] == ("stored", "no endpoint answers")
        assert {rows[w.hash][0] for w in (first, third, other)} == {"confirmed"}
        bench.bench.now_s += 10_000
        await bench.settle()
        assert (await bench.rows())[second.hash][0] == "confirmed"


async def test_a_short_payout_is_held_and_taken_at_the_last_moment(tmp_path: Path) -> None:
    """D6."""
    async with running(tmp_path) as bench:
        (winner,) = await bench.win(1)
        bench.chain.pool_size = 1
        bench.chain.funds[GATEWAY.address] = Funds(deposit_wei=0, reserve_wei=FACE_VALUE // 2)
        bench.payments.senders.doubt(GATEWAY.address)
        await bench.settle(2)
        assert bench.broker.sent == []
        assert "the sender could pay" in (await bench.rows())[winner.hash][1]
        bench.chain.num_rounds_ahead = 1
        bench.chain.num_round_blocks_left = 100
        await bench.settle()
        assert bench.broker.paid_wei == FACE_VALUE // 2
        assert (await bench.rows())[winner.hash] == ("confirmed", "")


async def test_two_tickets_do_not_count_on_the_same_funds(tmp_path: Path) -> None:
    async with running(tmp_path) as bench:
        await bench.win(2)
        bench.chain.funds[GATEWAY.address] = Funds(deposit_wei=FACE_VALUE, reserve_wei=0)
        bench.payments.senders.doubt(GATEWAY.address)
        await bench.settle(2)
        assert len(bench.broker.sent) == 1
        assert bench.broker.paid_wei == FACE_VALUE


async def test_a_ticket_that_is_used_already_costs_no_transaction(tmp_path: Path) -> None:
    """D7."""
    async with running(tmp_path) as bench:
        (winner,) = await bench.win(1)
        bench.broker.used.add(winner.hash)
        await bench.settle()
        assert bench.broker.sent == []
        assert await bench.rows() == {winner.hash: ("confirmed", "found redeemed on the chain")}


@pytest.mark.parametrize("failure", [TransactionReverted, TransactionLost])
async def test_a_transaction_that_failed_is_decided_on_again(
    tmp_path: Path, failure: type[ChainError]
) -> None:
    """D7: never dropped."""
    async with running(tmp_path) as bench:
        (winner,) = await bench.win(1)
        bench.broker.failures[winner.hash] = [failure("transaction failed")] * 3
        await bench.settle(3)
        assert await bench.rows() == {winner.hash: ("stored", "transaction failed")}
        await bench.settle()
        assert await bench.rows() == {winner.hash: ("confirmed", "")}
        assert len(bench.broker.sent) == 4


async def test_a_late_transaction_is_not_sent_twice(tmp_path: Path) -> None:
    async with running(tmp_path) as bench:
        (winner,) = await bench.win(1)
        bench.broker.failures[winner.hash] = [TransactionTimedOut("late")]
        bench.broker.under_way = {bytes(32)}
        await bench.settle(3)
        assert bench.broker.sent == [winner.hash]
        assert await bench.rows() == {winner.hash: ("submitted", "late")}
        assert bench.payments.winners.pending_wei(GATEWAY.address) == FACE_VALUE
        bench.broker.used.add(winner.hash)
        await bench.settle()
        assert (await bench.rows())[winner.hash][0] == "confirmed"


async def test_what_a_late_transaction_paid_is_known_all_the_same(tmp_path: Path) -> None:
    """And which one it was: the one that was sent first, or one that pays more for its gas."""
    async with running(tmp_path) as bench:
        (winner,) = await bench.win(1)
        bench.broker.failures[winner.hash] = [TransactionTimedOut("late")]
        bench.broker.under_way = {bytes(32)}
        await bench.settle()
        bench.broker.used.add(winner.hash)
        bench.broker.payouts[winner.hash, bytes(32)] = (b"\1" * 32, FACE_VALUE - 1)
        await bench.settle()
        assert await bench.rows() == {winner.hash: ("confirmed", "")}
        payout, tx_hash = await bench.payments.store.write(
            lambda c: c.execute("SELECT payout, tx_hash FROM winners").fetchone()
        )
        assert (int.from_bytes(payout), tx_hash) == (FACE_VALUE - 1, b"\1" * 32)


async def test_a_submitted_ticket_of_before_a_crash_is_watched_or_sent_again(
    tmp_path: Path,
) -> None:
    async with running(tmp_path) as bench:
        (winner,) = await bench.win(1)
        bench.broker.failures[winner.hash] = [TransactionTimedOut("late")]
        await bench.settle()
    broker = Broker(bench.chain, under_way={bytes(32)})
    async with running(tmp_path, bench.chain, broker) as again:
        (kept,) = again.payments.winners.open()
        assert (kept.state, kept.tx_hash) == (WinnerState.SUBMITTED, bytes(32))
        await again.settle()
        assert broker.sent == []
        broker.under_way.clear()
        await again.settle()
        assert broker.sent == [winner.hash]


async def test_a_redemption_that_a_reorganisation_took_back_is_sent_again(tmp_path: Path) -> None:
    async with running(tmp_path) as bench:
        (winner,) = await bench.win(1)
        await bench.settle()
        bench.broker.used.clear()
        await bench.settle()
        assert await bench.rows() == {winner.hash: ("stored", "the redemption was reverted")}
        await bench.settle()
        assert (await bench.rows())[winner.hash][0] == "confirmed"


async def test_the_loop_ends_when_it_is_cancelled(tmp_path: Path) -> None:
    async with running(tmp_path) as bench:
        (winner,) = await bench.win(1)
        bench.broker.may_mine.clear()
        loop = asyncio.create_task(bench.redemption.run())
        await bench.broker.wait_sent(1)
        loop.cancel()
        await asyncio.wait([loop])
        assert loop.cancelled()
        assert (await bench.rows())[winner.hash][0] == "submitted"


def test_expected_values_of_the_bench_are_as_it_says() -> None:
    assert Fraction(OFTEN_WON.ev_wei, FACE_VALUE) == Fraction(5, 12)
