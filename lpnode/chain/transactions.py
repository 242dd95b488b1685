"""Sends the transactions of one account: one nonce each, watched until the chain has settled them.

Every attempt is on disk before the network sees it, so a restart goes on with what was under way.
Unlike the reference, reading the nonce and sending are one step that no other submission can
divide, several transactions may be under way at once, and every attempt is watched, not the last
alone (payments.md 4.6).
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace

from lpnode.chain.eth import Eth, Receipt
from lpnode.chain.gas_price import Fees, GasPrice
from lpnode.chain.signer import Signer, Transaction
from lpnode.chain.submission import Attempt, StoredAttempt, Submission, SubmissionStore
from lpnode.errors import (
    ChainError,
    ConfigError,
    GasPriceTooHigh,
    LpnodeError,
    RpcRefused,
    TransactionLost,
    TransactionReverted,
    TransactionTimedOut,
)
from lpnode.protocol.ethereum import Address

_MISSING_POLLS = 5
_NONCE_TRIES = 3
_KNOWN = ("already known", "known transaction", "already imported", "alreadyknown")
_NONCE_USED = ("nonce too low", "already been used", "nonce is too low", "oldnonce")

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class TransactionsConfig:
    """How long to wait and what to do then. Times in seconds."""

    timeout_s: float = 300.0
    """For each attempt."""
    max_replacements: int = 1
    bump_percent: int = 11
    gas_limit: int | None = None
    """For every transaction; None: what the node estimates and a fifth more."""
    poll_s: float = 2.0
    resend_s: float = 30.0

    def __post_init__(self) -> None:
        if self.timeout_s <= 0 or self.poll_s <= 0 or self.resend_s <= 0:
            raise ConfigError(
                f"-transactionTimeout must be positive, got {self.timeout_s} s (polled every "
                f"{self.poll_s} s, sent again every {self.resend_s} s)"
            )
        if self.max_replacements < 0:
            raise ConfigError(
                f"-maxTransactionReplacements must not be negative, got {self.max_replacements}"
            )
        if self.bump_percent < 10:
            raise ConfigError(
                f"nodes take replacements that pay 10 % more, got {self.bump_percent} %"
            )
        if self.gas_limit is not None and self.gas_limit <= 0:
            raise ConfigError(f"-gasLimit must be positive, got {self.gas_limit}")


class Transactions:
    """Submits for the signer's account. ``run`` watches; its owner starts it.

    There must be one object for an account, in one process.
    """

    def __init__(
        self,
        eth: Eth,
        signer: Signer,
        gas_price: GasPrice,
        store: SubmissionStore,
        config: TransactionsConfig,
        *,
        chain_id: int,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """``clock``: monotonic seconds."""
        self._eth = eth
        self._signer = signer
        self._gas_price = gas_price
        self._store = store
        self._config = config
        self._chain_id = chain_id
        self._clock = clock
        self._sleep = sleep
        self._serial = asyncio.Lock()
        self._under_way: dict[int, Submission] = {}
        self._next_resend_s = clock()

    @property
    def address(self) -> Address:
        """The account."""
        return self._signer.address

    @property
    def under_way(self) -> tuple[Submission, ...]:
        """What is not settled, in the order of nonces."""
        return tuple(self._under_way[nonce] for nonce in sorted(self._under_way))

    async def resume(self) -> tuple[Submission, ...]:
        """Takes over what the store kept from before; call it once, before ``submit``.

        ``run`` sends it again and finds out what became of it.
        """
        for stored in await self._store.attempts(self.address):
            attempt = Attempt.from_record(stored.hash, stored.record)
            known = self._under_way.get(stored.nonce)
            if known is None:
                deadline_s = self._clock() + self._config.timeout_s
                self._under_way[stored.nonce] = Submission([attempt], deadline_s)
            else:
                known.attempts.append(attempt)
                known.attempts.sort(key=lambda attempt: attempt.fees.fee_cap_wei)
                known.num_replacements += 1
        return self.under_way

    async def submit(
        self, to: Address, calldata: bytes, value_wei: int = 0, *, gas: int | None = None
    ) -> Submission:
        """Signs and sends a transaction; ``receipt()`` of what it returns waits for the chain.

        ``gas``: its limit, before the configured one and before an estimate.
        Raises:
            CallReverted: the contract would decline now; nothing was sent.
            GasPriceTooHigh: nothing was sent.
            ChainError: nothing was sent, and the nonce is free.
        """
        async with self._serial:
            fees = await self._gas_price.fees()
            gas = gas or self._config.gas_limit
            estimate = await self._eth.estimate_gas(self.address, to, calldata, value_wei)
            if gas is None:
                # What the chain charges may grow until the transaction is mined; what is not used
                # is not paid.
                gas = estimate + estimate // 5
            nonce = 0
            for _ in range(_NONCE_TRIES):
                nonce = await self._free_nonce(nonce)
                transaction = Transaction(
                    chain_id=self._chain_id,
                    nonce=nonce,
                    to=to,
                    value_wei=value_wei,
                    calldata=calldata,
                    gas=gas,
                    fee_cap_wei=fees.fee_cap_wei,
                    tip_wei=fees.tip_wei,
                )
                submission = await self._send_first(transaction)
                if submission is not None:
                    return submission
                nonce += 1
        raise ChainError(
            f"{_NONCE_TRIES} nonces in a row were used before the transaction arrived: "
            "another process sends from this account"
        )

    async def receipt(self, transaction_hash: bytes) -> Receipt | None:
        """What became of a transaction, or of one that replaces it while that is under way; None
        while it is not mined. Raises: ChainError."""
        for submission in self.under_way:
            if transaction_hash in submission.hashes:
                return await self._mined(submission)
        return await self._eth.receipt(transaction_hash)

    async def run(self) -> None:
        """Watches what is under way, replaces what is late, for ever."""
        while True:
            await self.poll()
            await self._sleep(self._config.poll_s)

    async def poll(self) -> None:
        """Looks once at everything under way. An unreachable chain leaves it as it is."""
        if not self._under_way:
            return
        is_resending = self._clock() >= self._next_resend_s
        if is_resending:
            self._next_resend_s = self._clock() + self._config.resend_s
        try:
            used = await self._eth.transaction_count(self.address)
        except ChainError as exc:
            _log.warning("transactions cannot be watched: %s", exc)
            return
        for submission in self.under_way:
            try:
                if submission.nonce < used:
                    await self._conclude(submission)
                else:
                    submission.num_missing = 0
                    await self._hurry(submission, is_resending)
            except LpnodeError as exc:  # one transaction's trouble must not hide the others
                name = _name(submission.attempts[-1])
                _log.warning("transaction %s cannot be dealt with now: %s", name, exc)

    async def _free_nonce(self, lowest: int) -> int:
        # Nothing is remembered of what was mined: a reorganisation may have freed its nonce, and
        # with a gap before them no later transactions are ever mined.
        nonce = max(lowest, await self._eth.transaction_count(self.address, "pending"))
        while nonce in self._under_way:
            nonce += 1
        return nonce

    async def _send_first(self, transaction: Transaction) -> Submission | None:
        """Returns None if the nonce turned out to be used."""
        attempt = await self._signed(transaction)
        submission = Submission([attempt], self._clock() + self._config.timeout_s)
        self._under_way[transaction.nonce] = submission
        try:
            await self._eth.send(attempt.signed.raw)
        except RpcRefused as exc:
            if _says(exc, _KNOWN):
                return submission
            # An endpoint that failed after it had passed it on may be why another refuses it.
            if await self._may_have_arrived(attempt):
                return submission
            is_nonce_used = _says(exc, _NONCE_USED)
            del self._under_way[transaction.nonce]
            await self._store.forget_nonce(self.address, transaction.nonce)
            if not is_nonce_used:
                raise
            return None
        except ChainError as exc:
            # It may have arrived; polling sends it again and finds out.
            _log.warning("transaction %s may not have arrived: %s", _name(attempt), exc)
        return submission

    async def _may_have_arrived(self, attempt: Attempt) -> bool:
        try:
            return await self._eth.is_known(attempt.signed.hash)
        except ChainError:
            return True

    async def _signed(self, transaction: Transaction) -> Attempt:
        signed = await self._signer.sign_transaction(transaction)
        attempt = Attempt(transaction, signed)
        await self._store.save_attempt(
            StoredAttempt(self.address, transaction.nonce, signed.hash, attempt.to_record())
        )
        return attempt

    async def _mined(self, submission: Submission) -> Receipt | None:
        for attempt in reversed(submission.attempts):
            receipt = await self._eth.receipt(attempt.signed.hash)
            if receipt is not None:
                return receipt
        return None

    async def _conclude(self, submission: Submission) -> None:
        """The chain has used the nonce: for one of the attempts, or for a stranger."""
        receipt = await self._mined(submission)
        if receipt is None:
            # Endpoints may disagree for a moment, so one look is not enough.
            submission.num_missing += 1
        if receipt is not None or submission.num_missing >= _MISSING_POLLS:
            await self._settle(submission, receipt)

    async def _settle(self, submission: Submission, receipt: Receipt | None) -> None:
        await self._store.forget_nonce(self.address, submission.nonce)
        del self._under_way[submission.nonce]
        name = _name(submission.attempts[-1])
        if receipt is None:
            submission.fail(
                TransactionLost(
                    f"nonce {submission.nonce} of transaction {name} was used by another"
                )
            )
        elif not receipt.is_success:
            submission.fail(
                TransactionReverted(f"transaction failed: 0x{receipt.transaction_hash.hex()}")
            )
        elif not submission.outcome.done():
            submission.outcome.set_result(receipt)

    async def _hurry(self, submission: Submission, is_resending: bool) -> None:
        if is_resending:
            await self._send_again(submission.attempts[-1])
        if self._clock() < submission.next_step_s:
            return
        try:
            market = await self._gas_price.fees()
            fees = submission.attempts[-1].fees.bumped(self._config.bump_percent)
            # With no attempt left it still holds back every later nonce: follow the market then,
            # no further.
            has_attempt = submission.num_replacements < self._config.max_replacements
            if not has_attempt:
                self._give_up(submission)
            if has_attempt or market.fee_cap_wei >= fees.fee_cap_wei:
                await self._replace(submission, fees.at_least(market))
        except GasPriceTooHigh as exc:
            _log.warning("transaction %s is late: %s", _name(submission.attempts[-1]), exc)
            self._give_up(submission)
        submission.next_step_s = self._clock() + self._config.timeout_s

    async def _replace(self, submission: Submission, fees: Fees) -> None:
        self._gas_price.check(fees)
        late = submission.attempts[-1]
        attempt = await self._signed(
            replace(late.transaction, fee_cap_wei=fees.fee_cap_wei, tip_wei=fees.tip_wei)
        )
        submission.attempts.append(attempt)
        submission.num_replacements += 1
        submission.next_step_s = self._clock() + self._config.timeout_s
        _log.info("transaction %s replaces %s, which is late", _name(attempt), _name(late))
        await self._send_again(attempt)

    async def _send_again(self, attempt: Attempt) -> None:
        try:
            await self._eth.send(attempt.signed.raw)
        except RpcRefused as exc:
            if not _says(exc, _KNOWN + _NONCE_USED):
                _log.warning("transaction %s is refused: %s", _name(attempt), exc)

    def _give_up(self, submission: Submission) -> None:
        waited_s = self._config.timeout_s * (submission.num_replacements + 1)
        submission.fail(
            TransactionTimedOut(
                f"transaction {_name(submission.attempts[-1])} was not mined in {waited_s:g} s"
            )
        )


def _name(attempt: Attempt) -> str:
    return "0x" + attempt.signed.hash.hex()


def _says(refusal: RpcRefused, texts: tuple[str, ...]) -> bool:
    said = str(refusal).lower()
    return any(text in said for text in texts)
