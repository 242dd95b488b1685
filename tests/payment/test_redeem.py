"""Won tickets on their way to the chain. Source: payments.md section 4."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import pytest
from paying_gateway import GATEWAY, OTHER_GATEWAY, PRICE, ChainInMemory, Funds, PaymentBench, pay

from lpnode.errors import (
    ChainError,
    TransactionLost,
    TransactionReverted,
    TransactionTimedOut,
)
from lpnode.payment.params import PricingConfig
from lpnode.payment.payments import Payments
from lpnode.payment.redeem import Redemption, RedemptionConfig
from lpnode.payment.ticket import SignedTicket, TicketHash
from lpnode.payment.winning import Winner, WinnerState
from lpnode.protocol.ethereum import Account, Address

OFTEN_WON = PricingConfig(ev_wei=5 * 10**14)
FACE_VALUE = 12 * 10**14


@dataclass
class RoundsInMemory(ChainInMemory):
    """Satisfies ``RoundsView`` too."""

    is_round_initialized: bool = True
    num_round_blocks_left: int = 5000
    ticket_validity_rounds: int = 2
    num_rounds_ahead: int = 0

    @property
    def current_round(self) -> int:
        return self.last_initialized_round + self.num_rounds_ahead


@dataclass
class Broker:
    """The contract as far as redeeming goes, with transactions that fail when told to."""

    chain: RoundsInMemory
    used: set[bytes] = field(default_factory=set)
    final: set[bytes] = field(default_factory=set)
    under_way: set[bytes] = field(default_factory=set)
    sent: list[bytes] = field(default_factory=list)
    failures: dict[bytes, list[Exception]] = field(default_factory=dict)
    may_mine: asyncio.Event = field(default_factory=asyncio.Event)
    has_sent: asyncio.Event = field(default_factory=asyncio.Event)
    paid_wei: int = 0

    def __post_init__(self) -> None:
        self.may_mine.set()

    async def is_used(self, ticket_hash: TicketHash, *, is_final: bool = False) -> bool:
        return ticket_hash in (self.final if is_final else self.used)

    async def claimable_reserve_wei(self, sender: Address) -> int:
        return self.chain.funds.get(sender, Funds()).reserve_wei // self.chain.pool_size

    def is_under_way(self, tx_hash: bytes) -> bool:
        return tx_hash in self.under_way

    async def redeem(self, ticket: SignedTicket) -> "Sent":
        failures = self.failures.get(ticket.ticket.hash, [])
        if failures and not isinstance(
            failures[0], TransactionReverted | TransactionTimedOut | TransactionLost
        ):
            raise failures.pop(0)
        tx_hash = bytes([len(self.sent)]) * 32
        self.sent.append(ticket.ticket.hash)
        self.has_sent.set()
        return Sent(self, ticket, tx_hash)

    async def wait_sent(self, number: int) -> None:
        async with asyncio.timeout(20):
            while len(self.sent) < number:
                self.has_sent.clear()
                await self.has_sent.wait()


@dataclass
class Sent:
    broker: Broker
    ticket: SignedTicket
    tx_hash: bytes

    async def payout_wei(self) -> int:
        await self.broker.may_mine.wait()
        ticket_hash = self.ticket.ticket.hash
        failures = self.broker.failures.get(ticket_hash)
        if failures:
            raise failures.pop(0)
        assert ticket_hash not in self.broker.used
        self.broker.used.add(ticket_hash)
        sender = self.ticket.ticket.sender
        funds = self.broker.chain.funds.get(sender, Funds())
        face_value_wei = self.ticket.ticket.params.face_value_wei
        from_deposit = min(face_value_wei, funds.deposit_wei)
        from_reserve = min(
            face_value_wei - from_deposit, funds.reserve_wei // self.broker.chain.pool_size
        )
        self.broker.chain.funds[sender] = Funds(
            deposit_wei=funds.deposit_wei - from_deposit,
            reserve_wei=funds.reserve_wei - from_reserve,
        )
        self.broker.paid_wei += from_deposit + from_reserve
        return from_deposit + from_reserve


@dataclass
class RedeemBench:
    """Payments with winners, and what redeems them."""

    payments: Payments
    redemption: Redemption
    broker: Broker
    chain: RoundsInMemory
    bench: PaymentBench

    async def win(self, num_tickets: int, account: Account = GATEWAY) -> list[Winner]:
        """Has at least ``num_tickets`` more winners made, and their parameters expire."""
        before = len(self.payments.winners)
        nonce = 0
        params = await self.payments.recipient.ticket_params(account.address, PRICE)
        while len(self.payments.winners) < before + num_tickets:
            nonce += 1
            await self.payments.recipient.receive(pay(params, [nonce], account=account), "m")
        self.chain.last_l1_block = params.expiration_block
        return self.payments.winners.open()[before:]

    async def settle(self, rounds: int = 1) -> None:
        """Lets the loop look at everything ``rounds`` times, each after the retry time."""
        for _ in range(rounds):
            async with asyncio.TaskGroup() as tasks:
                self.redemption.begin_due(tasks)
            self.bench.now_s += 10_000

    async def rows(self) -> dict[bytes, tuple[str, str]]:
        """State and reason on disk, by hash."""
        rows = await self.payments.store.write(
            lambda c: c.execute("SELECT ticket_hash, state, reason FROM winners").fetchall()
        )
        return {row[0]: (row[1], row[2]) for row in rows}


@asynccontextmanager
async def running(
    folder: Path, chain: RoundsInMemory | None = None, broker: Broker | None = None
) -> AsyncIterator[RedeemBench]:
    chain = chain or RoundsInMemory()
    broker = broker or Broker(chain)
    bench = PaymentBench(folder, chain=chain, pricing=OFTEN_WON)
    async with bench.running() as payments:
        redemption = Redemption(
            RedemptionConfig(),
            chain=chain,
            redeemer=broker,
            senders=payments.senders,
            winners=payments.winners,
            store=payments.store,
            now_s=lambda: bench.now_s,
        )
        yield RedeemBench(payments, redemption, broker, chain, bench)


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
