"""Everything that payments are made of, put together over one store, and its upkeep."""

import asyncio
import logging
import os
import secrets
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from fractions import Fraction
from functools import partial
from pathlib import Path

from lpnode.errors import ConfigError, StorageFailed
from lpnode.payment.balance import BalanceKey, Balances, BalancesConfig, SavedBalance
from lpnode.payment.chain_view import ChainView, SenderReader
from lpnode.payment.facts import claim_store
from lpnode.payment.ledger import (
    Job,
    add_debit,
    change_balance,
    close_job,
    close_lost_jobs,
    forfeit_balance,
    load_balances,
    open_job,
)
from lpnode.payment.meter import Meter, MeterConfig
from lpnode.payment.nonce_rows import evict_nonces, load_nonces
from lpnode.payment.nonces import Nonces
from lpnode.payment.pruning import PruneStep, prune
from lpnode.payment.recipient import Recipient, RecipientConfig
from lpnode.payment.redeem import Redemption, RedemptionConfig, RoundsView, TicketRedeemer
from lpnode.payment.senders import Senders, SendersConfig
from lpnode.payment.store import PaymentStore
from lpnode.payment.summary import PaymentSummary, PaymentTally
from lpnode.payment.verifier import TicketVerifier, TicketVerifierConfig
from lpnode.payment.winning import WinningTickets, count_closed_winners, load_open_winners

_log = logging.getLogger(__name__)

_MIN_RETENTION_S = 7 * 86_400
_MAX_PRUNE_STEPS = 20
_NEVER_BEGUN = "its gateway left before it began"


@dataclass(frozen=True, slots=True, kw_only=True)
class PaymentsConfig:
    """How the node is paid. ``path``: the store, made with its folder if it is not there.

    ``upkeep_s``: how often what is not needed any more is forgotten. ``retention_s``: rows of the
    ledger that are older are kept as daily totals only.
    """

    path: Path
    chain_id: int
    recipient: RecipientConfig
    balances: BalancesConfig = field(default_factory=BalancesConfig)
    senders: SendersConfig = field(default_factory=SendersConfig)
    meter: MeterConfig = field(default_factory=MeterConfig)
    verifier: TicketVerifierConfig = field(default_factory=TicketVerifierConfig)
    num_threads: int = os.cpu_count() or 1
    upkeep_s: float = 5.0
    retention_s: float = 400 * 86_400.0

    def __post_init__(self) -> None:
        if self.num_threads <= 0 or self.upkeep_s <= 0:
            raise ConfigError("num_threads and upkeep_s must be positive")
        if self.retention_s < _MIN_RETENTION_S:
            raise ConfigError(
                f"-ledgerRetention must be at least {_MIN_RETENTION_S // 3600}h, in which every "
                f"ticket is settled, got {self.retention_s:g} s"
            )


class Payments:
    """Owns the store and the threads that verify. Used from the event loop only.

    ``opened`` must surround every use but reading the attributes.
    """

    def __init__(
        self,
        config: PaymentsConfig,
        *,
        chain: ChainView,
        reader: SenderReader,
        entropy: Callable[[int], bytes] = secrets.token_bytes,
        now_s: Callable[[], float] = time.time,
        now_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        """Opens the store and reads what it remembers.

        ``entropy``: n → n random bytes; ``now_s``: seconds since the epoch; ``now_ns``: monotonic.
        Raises: ConfigError: the store is of another chain, or in use.
        """
        self.config = config
        self._chain = chain
        self._now_s = now_s
        self._now_ns = now_ns
        self.store = PaymentStore(config.path)
        facts = self.store.read(
            lambda connection: claim_store(
                connection,
                chain_id=config.chain_id,
                recipient=config.recipient.recipient,
                entropy=entropy,
                now_s=now_s(),
            )
        )
        self.store.read(lambda connection: close_lost_jobs(connection, now_s()))
        self._evicted_l1_block = facts.evicted_l1_block
        self._nonces = Nonces(self.store.read(load_nonces), evicted_l1_block=facts.evicted_l1_block)
        self.winners = WinningTickets(
            self.store.read(load_open_winners), self.store.read(count_closed_winners)
        )
        self._tally = PaymentTally()
        self._prune_step = PruneStep()
        self.balances = Balances(
            config.balances,
            saved=self.store.read(load_balances),
            record=self._record_change,
            now_s=now_s,
        )
        self.senders = Senders(config.senders, reader, now_s=lambda: now_ns() / 1e9)
        self._verifier = TicketVerifier(config.verifier, entropy)
        self._threads = ThreadPoolExecutor(config.num_threads, "ticket verifier")
        self.recipient = Recipient(
            config.recipient,
            params_key=facts.params_key,
            chain=chain,
            senders=self.senders,
            store=self.store,
            balances=self.balances,
            nonces=self._nonces,
            winners=self.winners,
            verifier=self._verifier,
            threads=self._threads,
            entropy=entropy,
            now_s=now_s,
            tally=self._tally,
        )

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[None]:
        """Takes payments inside; everything is on the disk when it is left."""
        self.store.start()
        try:
            yield
        finally:
            # A few milliseconds at most: what is being verified is finished, the rest is not begun.
            self._threads.shutdown(wait=True, cancel_futures=True)
            self._verifier.close()
            await self.store.close()

    async def run(self) -> None:
        """Forgets what has expired, until cancelled."""
        while True:
            try:
                await self.forget_expired()
            except StorageFailed:
                # Tried again with the next block; until then the store is a little larger.
                _log.exception("what has expired could not be deleted")
            await asyncio.sleep(self.config.upkeep_s)

    async def forget_expired(self) -> None:
        """Drops nonces of expired parameters and balances nobody has used for long, and rolls
        up what is older than the retention time.

        Raises: StorageFailed.
        """
        block = self._chain.last_l1_block
        if block > self._evicted_l1_block:
            # Refused in memory before they are gone from the disk, never the other way round.
            self._nonces.evict(block)
            self._evicted_l1_block = block
            await self.store.write(lambda connection: evict_nonces(connection, block))
        now_s = self._now_s()
        for balance in self.balances.sweep():
            self._forfeit(balance, now_s)
        await self._prune(now_s - self.config.retention_s)

    async def _prune(self, before_s: float) -> None:
        """Never so much at once that payments would wait for it; the rest comes next time."""
        for _ in range(_MAX_PRUNE_STEPS):
            step = partial(prune, before_s=before_s, last=self._prune_step)
            self._prune_step = await self.store.write(step)
            if not self._prune_step.num_rows:
                return

    def redemption(
        self, config: RedemptionConfig, *, chain: RoundsView, redeemer: TicketRedeemer
    ) -> Redemption:
        """What takes the winners to the chain; its owner runs it inside ``opened``."""
        return Redemption(
            config,
            chain=chain,
            redeemer=redeemer,
            senders=self.senders,
            winners=self.winners,
            store=self.store,
            now_s=self._now_s,
            tally=self._tally,
        )

    def summary(self) -> PaymentSummary:
        """How payments stand now; takes no look at the disk."""
        tally, totals = self._tally, self.winners.totals
        return PaymentSummary(
            num_payments=tally.num_payments,
            num_tickets=tally.num_tickets,
            num_credited=tally.num_credited,
            credit_wei=tally.credit_wei,
            num_won=tally.num_won,
            refused_payments=tally.refused_payments,
            refused_tickets=tally.refused_tickets,
            winners=totals.by_state,
            losses=totals.by_loss,
            payout_wei=totals.payout_wei,
            num_redemption_errors=tally.num_redemption_errors,
            pending_wei=self.winners.total_pending_wei,
            num_senders=self.balances.num_senders,
            balance_wei=self.balances.whole_wei,
            gas_price_wei=self._chain.gas_price_wei,
            offers=tally.offers,
        )

    async def open_job(self, job: Job) -> "PaidJob":
        """Notes the beginning of work that will be debited; of none if the caller is cancelled.

        Raises: StorageFailed.
        """
        now_s = self._now_s()
        opened: list[PaidJob] = []
        is_wanted = True

        def made(job_id: int) -> None:
            opened.append(PaidJob(job_id, job, self.balances, self.store, self._now_s))
            if not is_wanted:
                opened[0].close(_NEVER_BEGUN)

        try:
            await self.store.write(lambda connection: open_job(connection, job, now_s), made=made)
        except asyncio.CancelledError:
            is_wanted = False
            for unwanted in opened:
                unwanted.close(_NEVER_BEGUN)
            raise
        return opened[0]

    async def open_meter(self, job: Job) -> Meter:
        """Begins to bill live work now. Raises: StorageFailed."""
        purse = await self.open_job(job)
        return Meter(self.config.meter, purse, price=job.price, now_ns=self._now_ns)

    def _forfeit(self, balance: SavedBalance, now_s: float) -> None:
        self.store.post(lambda connection: forfeit_balance(connection, balance, now_s))

    def _record_change(self, key: BalanceKey, amount_wei: Fraction, used_at_s: float) -> None:
        self.store.post(lambda connection: change_balance(connection, key, amount_wei, used_at_s))


class PaidJob:
    """Work that is debited from one balance and noted in the ledger; a meter's purse."""

    def __init__(
        self,
        job_id: int,
        job: Job,
        balances: Balances,
        store: PaymentStore,
        now_s: Callable[[], float],
    ) -> None:
        self.job = job
        self._id = job_id
        self._balances = balances
        self._store = store
        self._now_s = now_s

    @property
    def manifest_id(self) -> str:
        """Under which the sender's payments are credited."""
        return self.job.key.manifest_id

    @property
    def balance_wei(self) -> Fraction:
        """What is left; 0 when there is no balance."""
        return self._balances.get(self.job.key) or Fraction(0)

    def debit(self, units: int, fee_wei: Fraction) -> bool:
        """Takes ``fee_wei`` for ``units`` of work if there is as much."""
        if not self._balances.try_debit(self.job.key, fee_wei):
            return False
        self.note_work(units, fee_wei)
        return True

    def note_work(self, units: int, fee_wei: Fraction) -> None:
        """Notes work that was debited elsewhere, as of a reservation."""
        now_s = self._now_s()
        self._store.post(lambda connection: add_debit(connection, self._id, units, fee_wei, now_s))

    def close(self, reason: str) -> None:
        """Notes the end of the work."""
        now_s = self._now_s()
        self._store.post(lambda connection: close_job(connection, self._id, reason, now_s))
