"""Takes won tickets to the chain, each on its own, until that is final.

Every open winner is looked at again and again, also after a restart and without its sender; one
that is stuck holds up no other. Each change of state is on disk before the next step. A
transaction that fails leads to a new decision and never to a lost ticket.

Source: payments.md section 4; the differences from the reference are those marked [HARD].
"""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol

from lpnode.errors import ChainError, ConfigError, TransactionTimedOut
from lpnode.payment.chain_view import ChainView
from lpnode.payment.redemption import (
    Action,
    FundsNow,
    RoundsNow,
    decide_by_funds,
    decide_by_time,
)
from lpnode.payment.senders import Senders
from lpnode.payment.store import PaymentStore
from lpnode.payment.summary import PaymentTally
from lpnode.payment.ticket import SignedTicket, TicketHash
from lpnode.payment.winner_state import WinnerState
from lpnode.payment.winning import Winner, WinningTickets, change_winner, reopen_winners
from lpnode.protocol.ethereum import Address

_log = logging.getLogger(__name__)


class RoundsView(ChainView, Protocol):
    """What redeeming needs to know beyond what receiving does."""

    @property
    def current_round(self) -> int:
        """As of the newest block; moves on without a transaction."""

    @property
    def ticket_validity_rounds(self) -> int:
        """In how many rounds a ticket can be redeemed, its own being the first."""


class Redeeming(Protocol):
    """A redemption that the network has been told of."""

    @property
    def tx_hash(self) -> bytes:
        """Of its newest transaction."""

    async def payout_wei(self) -> int:
        """Waits until it is mined; returns what was paid for this ticket.

        Raises: TransactionTimedOut: it may still be mined. ChainError: it did nothing.
        """


class TicketRedeemer(Protocol):
    """TicketBroker and the account that pays the gas. Every method may raise ``ChainError``."""

    async def is_used(self, ticket_hash: TicketHash, *, is_final: bool = False) -> bool:
        """Whether the ticket was redeemed, as of the newest or the newest final block."""

    async def claimable_reserve_wei(self, sender: Address) -> int:
        """What we could take of the sender's reserve now."""

    async def payout(self, ticket: SignedTicket, tx_hash: bytes | None) -> tuple[bytes, int] | None:
        """The transaction of ours that redeemed the ticket and the wei that it paid; None if that
        with ``tx_hash``, or one that replaced it, did not. Without a hash it may have been sent by
        a process that was killed before it wrote that down."""

    def is_under_way(self, tx_hash: bytes) -> bool:
        """Whether that transaction is still being watched."""

    async def redeem(self, ticket: SignedTicket) -> Redeeming:
        """Sends the redemption. For a ticket whose redemption is under way, returns that one.

        Raises: ChainError: nothing was sent.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class RedemptionConfig:
    """When tickets are looked at. Times in seconds.

    Attributes:
        redeem_gas: gas that redeeming one takes.
        poll_s: between two looks at what can go on.
        retry_s: before a ticket that had to wait, or whose transaction failed, is tried again.
        settle_s: how long funds may be read that do not show a redemption of ours yet.
        final_s: before a redemption is looked at again to see whether it is final.
        last_blocks: L1 blocks before a ticket's end in which a short payout is taken.
        max_under_way: how many tickets are worked on at once.
    """

    redeem_gas: int = 1_200_000
    poll_s: float = 1.0
    retry_s: float = 30.0
    settle_s: float = 60.0
    final_s: float = 300.0
    last_blocks: int = 576
    max_under_way: int = 16

    def __post_init__(self) -> None:
        for name in ("redeem_gas", "poll_s", "retry_s", "final_s", "max_under_way"):
            if getattr(self, name) <= 0:
                raise ConfigError(f"redemption {name} must be positive, got {getattr(self, name)}")


class Redemption:
    """The loop. Used from the event loop only; ``run`` is its owner's to start."""

    def __init__(
        self,
        config: RedemptionConfig,
        *,
        chain: RoundsView,
        redeemer: TicketRedeemer,
        senders: Senders,
        winners: WinningTickets,
        store: PaymentStore,
        now_s: Callable[[], float],
        tally: PaymentTally,
    ) -> None:
        """``now_s``: seconds since the epoch."""
        self._config = config
        self._chain = chain
        self._redeemer = redeemer
        self._senders = senders
        self._winners = winners
        self._store = store
        self._now_s = now_s
        self._tally = tally
        self._next_look_s: dict[TicketHash, float] = {}
        self._confirmed_at_s: dict[TicketHash, float] = {}
        self._at_work: set[TicketHash] = set()

    async def run(self) -> None:
        """Redeems until cancelled. What is under way then is taken up again after a restart."""
        async with asyncio.TaskGroup() as tasks:
            while True:
                self.begin_due(tasks)
                await asyncio.sleep(self._config.poll_s)

    def begin_due(self, tasks: asyncio.TaskGroup) -> None:
        """Starts work on every ticket whose time has come, as far as there is room."""
        now_s = self._now_s()
        for winner in self._winners.open():
            if len(self._at_work) >= self._config.max_under_way:
                return
            is_due = self._next_look_s.get(winner.hash, 0.0) <= now_s
            if is_due and winner.hash not in self._at_work and not self._must_wait(winner):
                self._at_work.add(winner.hash)
                tasks.create_task(self._work(winner), name=f"redeem {winner.hash.hex()}")

    async def retry(self, ticket_hash: TicketHash | None = None) -> list[Winner]:
        """Has a ticket looked at again now, or with None every one that is not paid.

        One that was given up is decided on afresh; that it is out of its rounds or redeemed by
        somebody else is found again. Returns the tickets as they are on disk now.
        Raises: NotRetried: there is no such ticket, or it is redeemed. StorageFailed.
        """
        now_s = self._now_s()
        reopened = await self._store.write(
            lambda connection: reopen_winners(connection, ticket_hash, now_s), made=self._reopened
        )
        return [winner for _, winner in reopened]

    def _reopened(self, changes: list[tuple[Winner, Winner]]) -> None:
        for before, winner in changes:
            self._next_look_s.pop(winner.hash, None)
            if before.state.is_lost:
                self._winners.put_recorded(winner, closed=before)

    async def advance(self, winner: Winner) -> Winner:
        """Takes one ticket one step on, and waits for its transaction if it sends one.

        Returns the ticket in its new state, which is on disk.
        Raises: ChainError: the chain cannot be asked; nothing changed. StorageFailed.
        """
        if winner.state is WinnerState.CONFIRMED:
            return await self._look_for_finality(winner)
        if await self._redeemer.is_used(winner.hash):
            return await self._confirm_used(winner)
        if winner.state is WinnerState.SUBMITTED:
            if winner.tx_hash is not None and self._redeemer.is_under_way(winner.tx_hash):
                return winner
            winner = await self._move(winner, WinnerState.STORED, "its transaction came to nothing")
        return await self._decide(winner)

    async def _confirm_used(self, winner: Winner) -> Winner:
        """Of a transaction that was mined while nobody waited for it, after a restart or when it
        was late; or somebody else's, and then what it paid is not known."""
        self._senders.doubt(winner.sender)
        found = await self._redeemer.payout(winner.signed, winner.tx_hash)
        if found is None:
            return await self._move(winner, WinnerState.CONFIRMED, "found redeemed on the chain")
        tx_hash, payout_wei = found
        return await self._move(
            replace(winner, tx_hash=tx_hash, payout_wei=payout_wei), WinnerState.CONFIRMED
        )

    def _must_wait(self, winner: Winner) -> bool:
        """Cheaply, for those that nobody need ask the chain about."""
        if winner.state is not WinnerState.STORED:
            return False
        decision = decide_by_time(winner, self._rounds(winner))
        return decision is not None and decision.action is Action.WAIT

    async def _work(self, winner: Winner) -> None:
        delay_s = self._config.retry_s
        try:
            after = await self.advance(winner)
            if after.state is WinnerState.CONFIRMED:
                delay_s = self._config.final_s
        except ChainError as error:
            _log.info("ticket %s is not redeemed yet: %s", winner.hash.hex(), error)
        except Exception:  # noqa: BLE001 - one ticket must not stop the others
            _log.exception("ticket %s could not be worked on", winner.hash.hex())
        finally:
            self._at_work.discard(winner.hash)
            self._next_look_s[winner.hash] = self._now_s() + delay_s
            if self._winners.get(winner.hash) is None:
                del self._next_look_s[winner.hash]
                self._confirmed_at_s.pop(winner.hash, None)

    async def _look_for_finality(self, winner: Winner) -> Winner:
        if await self._redeemer.is_used(winner.hash, is_final=True):
            return await self._move(winner, WinnerState.REDEEMED, winner.reason)
        if not await self._redeemer.is_used(winner.hash):
            # A reorganisation took the redemption back.
            winner = replace(winner, payout_wei=None)
            return await self._move(winner, WinnerState.STORED, "the redemption was reverted")
        return winner

    async def _decide(self, winner: Winner) -> Winner:
        decision = decide_by_time(winner, self._rounds(winner))
        if decision is None:
            funds = await self._funds(winner)
            decision = decide_by_funds(
                winner, self._rounds(winner), funds, last_blocks=self._config.last_blocks
            )
        if decision.action is Action.EXPIRE:
            _log.warning(
                "ticket %s of %d wei is lost: %s (%s)",
                winner.hash.hex(),
                winner.face_value_wei,
                decision.reason,
                winner.reason or "it was never tried",
            )
            reason = "; ".join(filter(None, (decision.reason, winner.reason)))
            return await self._move(winner, WinnerState.EXPIRED, reason)
        if decision.action is Action.WAIT:
            if decision.reason != winner.reason:
                winner = await self._move(winner, WinnerState.STORED, decision.reason)
            return winner
        return await self._redeem(winner)

    async def _redeem(self, winner: Winner) -> Winner:
        # Counts against the sender's funds from here on, so that another ticket of the sender
        # that is decided on in the meantime does not count on the same wei.
        self._winners.put_recorded(replace(winner, state=WinnerState.SUBMITTED))
        try:
            redeeming = await self._redeemer.redeem(winner.signed)
        except BaseException as error:
            self._winners.put_recorded(winner)
            if isinstance(error, ChainError):
                self._tally.num_redemption_errors += 1
                if str(error) != winner.reason:
                    await self._move(winner, WinnerState.STORED, str(error))
            raise
        winner = replace(winner, tx_hash=redeeming.tx_hash)
        winner = await self._move(winner, WinnerState.SUBMITTED)
        try:
            payout_wei = await redeeming.payout_wei()
        except TransactionTimedOut as error:
            self._tally.num_redemption_errors += 1
            winner = replace(winner, tx_hash=redeeming.tx_hash)
            return await self._move(winner, WinnerState.SUBMITTED, str(error))
        except ChainError as error:
            self._tally.num_redemption_errors += 1
            _log.warning("redeeming ticket %s failed: %s", winner.hash.hex(), error)
            return await self._move(winner, WinnerState.STORED, str(error))
        finally:
            self._senders.doubt(winner.sender)
        _log.info("ticket %s is redeemed: %d wei", winner.hash.hex(), payout_wei)
        winner = replace(winner, tx_hash=redeeming.tx_hash, payout_wei=payout_wei)
        self._confirmed_at_s[winner.hash] = self._now_s()
        return await self._move(winner, WinnerState.CONFIRMED)

    async def _funds(self, winner: Winner) -> FundsNow:
        claims = self._claims_on(winner.sender)
        funds = await self._senders.funds(winner.sender)
        reserve_wei = await self._redeemer.claimable_reserve_wei(winner.sender)
        # What was under way when the reading began may or may not be in what was read.
        claims |= self._claims_on(winner.sender)
        return FundsNow(
            available_wei=funds.deposit_wei + reserve_wei - sum(claims.values()),
            withdraw_round=funds.withdraw_round,
            tx_cost_wei=self._config.redeem_gas * self._chain.gas_price_wei,
        )

    def _claims_on(self, sender: Address) -> dict[TicketHash, int]:
        """What our other tickets take of the sender's funds, in wei, and those may not show yet."""
        since_s = self._now_s() - self._config.settle_s
        return {
            other.hash: other.face_value_wei
            for other in self._winners.open()
            if other.sender == sender
            and (
                other.state is WinnerState.SUBMITTED
                or self._confirmed_at_s.get(other.hash, since_s) > since_s
            )
        }

    def _rounds(self, winner: Winner) -> RoundsNow:
        chain = self._chain
        return RoundsNow(
            last_l1_block=chain.last_l1_block,
            current_round=chain.current_round,
            is_initialized=chain.is_round_initialized,
            num_blocks_left=chain.num_round_blocks_left,
            validity_rounds=chain.ticket_validity_rounds,
            round_block_hash=chain.round_block_hash(winner.signed.ticket.params.creation_round),
        )

    async def _move(self, winner: Winner, state: WinnerState, reason: str = "") -> Winner:
        """Writes the new state, and has memory follow even if nobody waits any more."""
        moved = replace(winner, state=state, reason=reason)
        now_s = self._now_s()
        await self._store.write(
            lambda connection: change_winner(connection, moved, now_s),
            made=lambda _: self._winners.put_recorded(moved),
        )
        return moved
