"""What an orchestrator does once a round: it claims its reward and, if it likes, begins the round.

Source: payments.md sections 5.3 and 5.4.
"""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from lpnode.chain.bonding import REWARD_WITH_HINT
from lpnode.chain.rounds import INITIALIZE_ROUND
from lpnode.chain.state import ChainState
from lpnode.chain.transactions import Transactions
from lpnode.errors import CallReverted, ConfigError, LpnodeError
from lpnode.protocol.ethereum import ZERO_ADDRESS, Address

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class HousekeepingConfig:
    """What is done. Times in seconds."""

    is_rewarding: bool = False
    """Only the orchestrator's own account can."""
    is_initializing_rounds: bool = False
    max_delay_s: float = 30.0
    """A round is begun after a random time up to this, since anybody may and one has to pay."""
    poll_s: float = 5.0

    def __post_init__(self) -> None:
        if self.max_delay_s < 0 or self.poll_s <= 0:
            raise ConfigError(
                f"-initializeRoundMaxDelay must not be negative, got {self.max_delay_s} s "
                f"(polled every {self.poll_s} s)"
            )


class Housekeeping:
    """Sends at most one transaction of each kind in a round. ``run`` is its owner's to start."""

    def __init__(
        self,
        state: ChainState,
        transactions: Transactions,
        config: HousekeepingConfig,
        *,
        rounds_manager: Address,
        bonding_manager: Address,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._state = state
        self._transactions = transactions
        self._config = config
        self._rounds_manager = rounds_manager
        self._bonding_manager = bonding_manager
        self._sleep = sleep
        self._rewarded_round = -1

    async def run(self) -> None:
        """Looks for ever. A transaction that fails is tried again later."""
        while True:
            try:
                await self.step()
            except LpnodeError as exc:  # of the chain, or of the store that keeps transactions
                _log.warning("the round's upkeep has to wait: %s", exc)
            await self._sleep(self._config.poll_s)

    async def step(self) -> None:
        """Does what is due, and waits until the chain has it. Raises: ChainError."""
        if not self._state.is_round_initialized:
            if self._config.is_initializing_rounds:
                await self._initialize(self._state.current_round)
        elif self._config.is_rewarding:
            await self._reward(self._state.last_initialized_round)

    async def _initialize(self, number: int) -> None:
        await self._sleep(random.uniform(0, self._config.max_delay_s))
        if self._state.is_round_initialized or self._state.current_round != number:
            return
        await self._send(self._rounds_manager, INITIALIZE_ROUND.encode())
        _log.info("round %d is initialised", number)

    async def _reward(self, number: int) -> None:
        state = self._state
        last = max(state.last_reward_round, self._rewarded_round)
        if not state.is_recipient_active or last >= number:
            return
        # The places beside ours in the pool may be left out: finding them costs the contract gas.
        calldata = REWARD_WITH_HINT.encode(ZERO_ADDRESS, ZERO_ADDRESS)
        try:
            await self._send(self._bonding_manager, calldata)
        except CallReverted as exc:
            _log.warning("round %d brings no reward: %s", number, exc.reason)
        else:
            _log.info("the reward of round %d is claimed", number)
        self._rewarded_round = number

    async def _send(self, to: Address, calldata: bytes) -> None:
        submission = await self._transactions.submit(to, calldata)
        await submission.receipt()
