"""Payments with winners, a contract in memory, and the loop that redeems."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from paying_gateway import GATEWAY, PRICE, ChainInMemory, Funds, PaymentBench, pay

from lpnode.errors import TransactionLost, TransactionReverted, TransactionTimedOut
from lpnode.payment.params import PricingConfig
from lpnode.payment.payments import Payments
from lpnode.payment.redeem import Redemption, RedemptionConfig
from lpnode.payment.ticket import SignedTicket, TicketHash
from lpnode.payment.winning import Winner
from lpnode.protocol.ethereum import Account, Address

OFTEN_WON = PricingConfig(ev_wei=5 * 10**14)
FACE_VALUE = 12 * 10**14


@dataclass
class RoundsInMemory(ChainInMemory):
    """Satisfies ``RoundsView`` too."""

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
    payouts: dict[tuple[bytes, bytes | None], tuple[bytes, int]] = field(default_factory=dict)
    """By ticket and the transaction that was first sent for it."""

    def __post_init__(self) -> None:
        self.may_mine.set()

    async def is_used(self, ticket_hash: TicketHash, *, is_final: bool = False) -> bool:
        return ticket_hash in (self.final if is_final else self.used)

    async def claimable_reserve_wei(self, sender: Address) -> int:
        return self.chain.funds.get(sender, Funds()).reserve_wei // self.chain.pool_size

    async def payout(self, ticket: SignedTicket, tx_hash: bytes | None) -> tuple[bytes, int] | None:
        return self.payouts.get((ticket.ticket.hash, tx_hash))

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
        redemption = payments.redemption(RedemptionConfig(), chain=chain, redeemer=broker)
        yield RedeemBench(payments, redemption, broker, chain, bench)
