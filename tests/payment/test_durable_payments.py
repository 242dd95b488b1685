"""What outlives crashes, restarts and peers that leave. Source: payments.md section 9.4."""

import asyncio
import sqlite3
import threading
from fractions import Fraction

import pytest
from node_bench import until
from paying_gateway import (
    GATEWAY,
    PaymentBench,
    pay,
)
from payment.receiving import KEY, MANIFEST, OFTEN_WON, params_for, refused

from lpnode.errors import StorageFailed
from lpnode.payment.balance import BalanceKey
from lpnode.payment.ledger import Job
from lpnode.payment.nonce_rows import load_nonces
from lpnode.payment.payments import Payments
from lpnode.payment.recipient import Receipt


async def test_a_ticket_is_credited_once_however_it_is_sent_again(bench: PaymentBench) -> None:
    """R6: concurrently, to two manifests, in pieces of another payment, and after a restart."""
    async with bench.running() as payments:
        params = await params_for(payments)
        payment = pay(params, range(1, 31))
        receive = payments.recipient.receive
        outcomes = await asyncio.gather(
            *(receive(payment, f"manifest {number % 2}") for number in range(10)),
            return_exceptions=True,
        )
        assert sum(not isinstance(outcome, Exception) for outcome in outcomes) == 1
    async with bench.running() as payments:
        text = await refused(payments.recipient.receive(payment, "manifest 3"))
        assert "invalid ticket senderNonce: already seen" in text
        total = sum(
            payments.balances.get(BalanceKey(GATEWAY.address, f"manifest {number}")) or 0
            for number in range(4)
        )
        assert total == 30 * params.expected_value


async def test_winners_are_on_disk_before_the_answer_and_known_after_a_restart(
    bench: PaymentBench,
) -> None:
    """D1, D4, A6."""
    bench.pricing = OFTEN_WON
    async with bench.running() as payments:
        params = await params_for(payments)
        receipt = await payments.recipient.receive(pay(params, range(50)), MANIFEST)
        winners = payments.winners.open()
        assert len(winners) == receipt.num_won > 5
        assert all(w.signed.is_winning and w.signed.is_signed_by_sender for w in winners)
        assert winners[0].signed.recipient_rand.hex() not in repr(winners)
        rows = await payments.store.write(
            lambda c: c.execute("SELECT ticket_hash FROM winners").fetchall()
        )
        assert {row[0] for row in rows} == {winner.hash for winner in winners}
    async with bench.running() as payments:
        again = {w.hash: w for w in payments.winners.open()}
        assert again.keys() == {winner.hash for winner in winners}
        for winner in winners:
            found = again[winner.hash]
            assert found.signed.is_winning
            assert found.signed.is_signed_by_sender
        assert payments.winners.pending_wei(GATEWAY.address) == len(winners) * (
            params.face_value_wei
        )


async def test_a_running_session_goes_on_over_a_restart(bench: PaymentBench) -> None:
    """A6: parameters, nonces and balances are those of before."""
    async with bench.running() as payments:
        params = await params_for(payments)
        await payments.recipient.receive(pay(params, [1, 2]), MANIFEST)
        payments.balances.try_debit(KEY, params.expected_value)
    async with bench.running() as payments:
        assert payments.balances.get(KEY) == params.expected_value
        assert (await payments.recipient.receive(pay(params, [3]), MANIFEST)).num_credited == 1
        assert "already seen" in await refused(
            payments.recipient.receive(pay(params, [2]), MANIFEST)
        )


async def test_a_payment_that_cannot_be_written_is_not_credited_and_may_come_again(
    bench: PaymentBench,
) -> None:
    async with bench.running() as payments:
        params = await params_for(payments)
        payment = pay(params, [1, 2])
        await payments.store.write(
            lambda c: c.execute(
                "CREATE TRIGGER broken BEFORE INSERT ON params "
                "BEGIN SELECT RAISE(ABORT, 'the disk failed'); END"
            )
        )
        with pytest.raises(StorageFailed):
            await payments.recipient.receive(payment, MANIFEST)
        assert len(payments.balances) == 0
        await payments.store.write(lambda c: c.execute("DROP TRIGGER broken"))
        assert (await payments.recipient.receive(payment, MANIFEST)).num_credited == 2


def claimed(payments: Payments) -> set[int]:
    """Every nonce in memory."""
    return {nonce for seen in payments.recipient._nonces._seen.values() for nonce in seen.nonces}


async def test_a_payment_that_fails_gives_its_own_nonces_back_and_no_others(
    bench: PaymentBench,
) -> None:
    """Of the same recipient rand, written in one group with one that does not fail."""
    bench.pricing = OFTEN_WON
    may_write = threading.Event()
    async with bench.running() as payments:
        params = await params_for(payments)
        receive = payments.recipient.receive
        await payments.store.write(
            lambda c: c.execute(
                "CREATE TRIGGER broken BEFORE INSERT ON payments WHEN NEW.manifest_id = 'broken' "
                "BEGIN SELECT RAISE(ABORT, 'the disk failed'); END"
            )
        )
        payments.store.post(lambda _: may_write.wait() and None)
        good, broken = pay(params, range(0, 40, 2)), pay(params, range(1, 40, 2))
        writing = [
            asyncio.create_task(receive(good, MANIFEST)),
            asyncio.create_task(receive(broken, "broken")),
        ]
        await until(lambda: len(claimed(payments)) == 40)
        # Claimed by the one that will fail, so nobody else has it meanwhile. It waits for the disk
        # like the others if it has won.
        asking = asyncio.create_task(receive(pay(params, [1]), MANIFEST))
        await asyncio.sleep(0)
        may_write.set()
        assert "already seen" in await refused(asking)
        outcomes = await asyncio.gather(*writing, return_exceptions=True)
        assert [type(outcome) for outcome in outcomes] == [Receipt, StorageFailed]
        won = {winner.signed.ticket.nonce for winner in payments.winners.open()}
        assert won <= {1, *range(0, 40, 2)}
        assert payments.winners.total_pending_wei == len(won) * params.face_value_wei
        assert "already seen" in await refused(receive(good, MANIFEST))
        assert (await receive(broken, MANIFEST)).num_credited == 20
        assert payments.balances.get(KEY) == 40 * params.expected_value


async def test_a_gateway_that_leaves_in_the_middle_is_credited_all_the_same(
    bench: PaymentBench,
) -> None:
    async with bench.running() as payments:
        params = await params_for(payments)
        task = asyncio.create_task(payments.recipient.receive(pay(params, [1]), MANIFEST))
        await asyncio.sleep(0)
        assert len(payments.recipient._nonces) == 1
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()
        await payments.store.write(lambda c: None)
        assert payments.balances.get(KEY) == params.expected_value


@pytest.mark.parametrize("is_on_disk", [False, True])
async def test_a_gateway_that_leaves_before_its_work_begins_leaves_no_open_job(
    bench: PaymentBench, is_on_disk: bool
) -> None:
    """An open job is never rolled up, so each would be kept until the next restart."""
    may_write = threading.Event()
    async with bench.running() as payments:
        payments.store.post(lambda _: may_write.wait() and None)
        job = Job(key=KEY, capability=35, model_id="noop", price=Fraction(1))
        task = asyncio.create_task(payments.open_job(job))
        await asyncio.sleep(0)
        if not is_on_disk:
            task.cancel()
        # Of the same group: cancels what has been told of its outcome but has not run since.
        telling = asyncio.create_task(
            payments.store.write(lambda c: None, made=lambda _: task.cancel() and None)
        )
        await asyncio.sleep(0)
        may_write.set()
        await asyncio.wait([task, telling])
        assert task.cancelled()
        rows = await payments.store.write(
            lambda c: c.execute("SELECT close_reason FROM jobs").fetchall()
        )
        assert rows == [("its gateway left before it began",)]


async def test_expired_nonces_are_forgotten_and_their_tickets_stay_refused(
    bench: PaymentBench,
) -> None:
    async with bench.running() as payments:
        params = await params_for(payments)
        payment = pay(params, [1])
        await payments.recipient.receive(payment, MANIFEST)
        bench.chain.last_l1_block = 140
        await payments.forget_expired()
        rows = await payments.store.write(load_nonces)
        assert (rows, len(payments.recipient._nonces)) == ([], 0)
        bench.chain.last_l1_block = 120  # an endpoint that lags behind
        assert (
            await refused(payments.recipient.receive(payment, MANIFEST)) == "TicketParams expired"
        )
    async with bench.running() as payments:
        assert (
            await refused(payments.recipient.receive(payment, MANIFEST)) == "TicketParams expired"
        )


async def test_live_work_is_debited_from_payments_and_noted(bench: PaymentBench) -> None:
    async with bench.running() as payments:
        params = await params_for(payments)
        await payments.recipient.receive(pay(params, range(100)), MANIFEST)
        before = payments.balances.get(KEY) or Fraction(0)
        meter = await payments.open_meter(
            Job(key=KEY, capability=35, model_id="noop", price=Fraction(1))
        )
        bench.now_ns += 5 * 10**9
        meter.work_arrived()
        meter.close("the input channel was closed")
        fee = 5 * 27_648_000
        assert payments.balances.get(KEY) == before - fee
        row = await payments.store.write(
            lambda c: c.execute(
                "SELECT units, fee, close_reason FROM debits JOIN jobs ON jobs.id = job_id"
            ).fetchone()
        )
        assert row == (fee, str(fee), "the input channel was closed")
    async with bench.running() as payments:
        assert payments.balances.get(KEY) == before - fee


async def test_a_replay_leaves_no_trace_even_when_it_holds_a_winner(bench: PaymentBench) -> None:
    bench.pricing = OFTEN_WON

    def count(connection: sqlite3.Connection) -> list[int]:
        num_rows = [
            connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0]
            for table in ("payments", "params", "winners")
        ]
        return [*num_rows, sum(len(row.nonces) for row in load_nonces(connection))]

    async with bench.running() as payments:
        params = await params_for(payments)
        payment = pay(params, range(30))
        await payments.recipient.receive(payment, MANIFEST)
        before = await payments.store.write(count)
        assert before[2] == len(payments.winners) > 0
        for _ in range(3):
            await refused(payments.recipient.receive(payment, MANIFEST))
        assert await payments.store.write(count) == before
        payments.winners._open.clear()  # as if they were redeemed long ago
        bench.chain.last_l1_block = 140
        await refused(payments.recipient.receive(payment, MANIFEST))
        assert await payments.store.write(count) == before
        assert len(payments.winners) == 0
