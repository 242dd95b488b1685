"""What an operator may have tried again, and what may be asked of the store without a node."""

import contextlib
from collections.abc import Callable
from pathlib import Path

import pytest
from paying_gateway import GATEWAY, Funds
from payment.redeeming import FACE_VALUE, RedeemBench, running

from lpnode.errors import ChainError, NotRetried
from lpnode.payment.reason_classes import LossReason, RefusalReason, loss_reason, refusal_reason
from lpnode.payment.ticket import TicketHash
from lpnode.payment.winner_state import WinnerState
from lpnode.payment.winner_totals import TicketSum


async def history(bench: RedeemBench) -> list[tuple[str, str]]:
    return await bench.payments.store.write(
        lambda c: c.execute("SELECT state, reason FROM redemptions ORDER BY id").fetchall()
    )


async def test_a_waiting_ticket_is_tried_at_once_when_an_operator_asks(tmp_path: Path) -> None:
    async with running(tmp_path) as bench:
        (winner,) = await bench.win(1)
        bench.broker.failures[winner.hash] = [ChainError("no endpoint answers")]
        await bench.settle()
        bench.bench.now_s -= 10_000  # the moment of the failure
        await bench.settle()
        bench.bench.now_s -= 10_000
        assert bench.broker.sent == []
        (found,) = await bench.redemption.retry(winner.hash)
        assert (found.state, found.reason) == (WinnerState.STORED, "no endpoint answers")
        await bench.settle()
        assert bench.broker.sent == [winner.hash]


async def test_an_expired_ticket_is_put_back_and_decided_on_afresh(tmp_path: Path) -> None:
    async with running(tmp_path) as bench:
        (winner,) = await bench.win(1)
        bench.chain.num_rounds_ahead = 2
        await bench.settle()
        assert len(bench.payments.winners) == 0
        (found,) = await bench.redemption.retry()
        assert found.state is WinnerState.STORED
        assert bench.payments.winners.total_pending_wei == FACE_VALUE
        await bench.settle()
        assert bench.payments.winners.total_pending_wei == 0
        bench.chain.num_rounds_ahead = 0  # the round had been counted by a wrong endpoint
        await bench.redemption.retry(winner.hash)
        await bench.settle()
        assert bench.broker.sent == [winner.hash]
        assert [state for state, _ in await history(bench)] == [
            *("expired", "stored", "expired", "stored", "submitted", "confirmed"),
        ]
        assert bench.payments.winners.totals.by_state[WinnerState.EXPIRED] == TicketSum()


async def test_a_redeemed_ticket_is_not_tried_again(tmp_path: Path) -> None:
    async with running(tmp_path) as bench:
        (winner,) = await bench.win(1)
        await bench.settle()
        with pytest.raises(NotRetried, match="is confirmed: the chain has paid it"):
            await bench.redemption.retry(winner.hash)
        bench.broker.final.add(winner.hash)
        await bench.settle()
        with pytest.raises(NotRetried, match="is redeemed: the chain has paid it"):
            await bench.redemption.retry(winner.hash)
        assert await bench.redemption.retry() == []
        with pytest.raises(NotRetried, match="no ticket 0x0000"):
            await bench.redemption.retry(TicketHash(bytes(32)))


def empty(bench: RedeemBench) -> None:
    bench.chain.funds[GATEWAY.address] = Funds(deposit_wei=0, reserve_wei=0)


def unlock(bench: RedeemBench) -> None:
    bench.chain.funds[GATEWAY.address] = Funds(withdraw_round=1)


def make_gas_dear(bench: RedeemBench) -> None:
    bench.chain.gas_price_wei = 10**15


def lose_rounds(bench: RedeemBench) -> None:
    bench.chain.round_hashes.clear()


def fail(bench: RedeemBench) -> None:
    (winner,) = bench.payments.winners.open()
    bench.broker.failures[winner.hash] = [ChainError("execution reverted")]


@pytest.mark.parametrize(
    ("hinder", "expected"),
    [
        (make_gas_dear, LossReason.GAS_COST),
        (empty, LossReason.SENDER_FUNDS),
        (unlock, LossReason.SENDER_UNLOCKED),
        (lose_rounds, LossReason.ROUND),
        (fail, LossReason.TRANSACTION),
        (None, LossReason.NEVER_TRIED),
    ],
)
async def test_a_lost_ticket_is_counted_by_what_had_kept_it(
    tmp_path: Path, hinder: Callable[[RedeemBench], None] | None, expected: LossReason
) -> None:
    async with running(tmp_path) as bench:
        (winner,) = await bench.win(1)
        if hinder is not None:
            hinder(bench)
            bench.payments.senders.doubt_all()
            with contextlib.suppress(ChainError):
                await bench.redemption.advance(winner)
        bench.chain.num_rounds_ahead = 2
        await bench.settle()
        losses = bench.payments.summary().losses
        assert {reason: total for reason, total in losses.items() if total.num} == {
            expected: TicketSum(1, FACE_VALUE)
        }
    async with running(tmp_path) as again:
        assert again.payments.summary().losses == losses


def test_texts_that_nobody_knows_have_a_class_too() -> None:
    assert refusal_reason("whatever") is RefusalReason.MALFORMED
    assert loss_reason("round 1 can no longer be redeemed in 9; whatever") is LossReason.TRANSACTION
