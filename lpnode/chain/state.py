"""The chain's newest state as payments need it, kept by polling.

Source: payments.md sections 3.3, 5.3 to 5.5 and 9.5.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from lpnode.chain.bonding import (
    TRANSCODER_ACTIVATED,
    TRANSCODER_DEACTIVATED,
    BondingManager,
    Transcoder,
)
from lpnode.chain.controller import Deployment
from lpnode.chain.eth import Eth, Header, Log
from lpnode.chain.events import Changes, FollowerConfig, LogFollower
from lpnode.chain.gas_price import GasPrice
from lpnode.chain.rounds import NEW_ROUND, RoundsManager, RoundState
from lpnode.chain.ticket_broker import (
    PARAMETER_UPDATE,
    SENDER_EVENTS,
    TICKET_REDEEMED,
    SenderFunds,
    TicketBroker,
)
from lpnode.errors import ChainError, ConfigError
from lpnode.protocol.ethereum import ADDRESS_BYTES, Address

_NO_HASH = bytes(32)
_SENDER_TOPICS = frozenset(event.topic for event in SENDER_EVENTS)
_TOPICS = (
    *(event.topic for event in SENDER_EVENTS),
    TICKET_REDEEMED.topic,
    PARAMETER_UPDATE.topic,
    NEW_ROUND.topic,
    TRANSCODER_ACTIVATED.topic,
    TRANSCODER_DEACTIVATED.topic,
)
# A round's hash may still change while its block is young, and nobody says so.
_POLLS_AFTER_NEW_ROUND = 12
_POLLS_BETWEEN_CHECKS = 60
# More L1 blocks than these between two polls are believed only if the contracts agree.
_MAX_L1_STEP = 10

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class ChainStateConfig:
    """How the chain is watched. Times in seconds."""

    poll_s: float = 5.0
    stale_s: float = 300.0
    """What was read longer ago is no longer quoted from."""
    follower: FollowerConfig = FollowerConfig()  # noqa: RUF009  frozen, so sharing it is safe

    def __post_init__(self) -> None:
        if not 0 < self.poll_s < self.stale_s:
            raise ConfigError(
                f"-blockPollingInterval must be positive and below {self.stale_s} s, "
                f"got {self.poll_s} s"
            )


@dataclass(frozen=True, slots=True)
class _Protocol:
    """What the contracts said at one block."""

    round: RoundState
    pool_size: int
    recipient: Transcoder
    ticket_validity_rounds: int


Listener = Callable[[Changes], None]


class ChainState:
    """What was read last. Call ``start`` once, then let the owner run ``run``.

    It is what ``payment.chain_view`` asks for. Nothing but ``start``, ``poll`` and
    ``sender_funds`` waits for the chain.
    """

    def __init__(
        self,
        eth: Eth,
        deployment: Deployment,
        recipient: Address,
        gas_price: GasPrice,
        config: ChainStateConfig,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """``recipient``: the orchestrator that tickets pay. ``clock``: monotonic seconds."""
        self.broker = TicketBroker(eth, deployment.ticket_broker)
        self.rounds = RoundsManager(eth, deployment.rounds_manager)
        self.bonding = BondingManager(eth, deployment.bonding_manager)
        self._recipient = recipient
        self._gas_price = gas_price
        self._config = config
        self._clock = clock
        self._sleep = sleep
        self._follower = LogFollower(
            eth,
            (
                deployment.ticket_broker,
                deployment.rounds_manager,
                deployment.bonding_manager,
            ),
            _TOPICS,
            config.follower,
        )
        self._listeners: list[Listener] = []
        self._undelivered: list[Changes] = []
        self._head: Header | None = None
        self._protocol: _Protocol | None = None
        self._last_l1_block = 0
        self._read_at_s = 0.0
        self._is_read_due = True
        self._is_in_doubt = True
        """What the contracts said may have been taken back."""
        self._polls_to_check = 0
        self._num_polls = 0

    @property
    def head(self) -> Header:
        """The newest block that everything was read up to."""
        assert self._head is not None, "start it first"
        return self._head

    @property
    def last_l1_block(self) -> int:
        """An L1 block number, also on an L2. Never decreases."""
        return self._last_l1_block

    @property
    def last_initialized_round(self) -> int:
        """The round in which tickets are created now."""
        return self._known.round.number

    @property
    def round(self) -> RoundState:
        """The newest initialised round."""
        return self._known.round

    @property
    def current_round(self) -> int:
        """As of the newest block; moves on without a transaction."""
        read = self._known.round
        return read.current_number + self._blocks_into(read) // read.length_l1_blocks

    @property
    def is_round_initialized(self) -> bool:
        """Whether the current round has begun; until then no ticket can be redeemed."""
        return self.current_round == self.last_initialized_round

    @property
    def num_round_blocks_left(self) -> int:
        """L1 blocks until the current round ends."""
        read = self._known.round
        return read.length_l1_blocks - self._blocks_into(read) % read.length_l1_blocks

    @property
    def ticket_validity_rounds(self) -> int:
        """How many rounds, counted from its own, a ticket can be redeemed in."""
        return self._known.ticket_validity_rounds

    @property
    def gas_price_wei(self) -> int:
        """Per unit of gas; 0 when it is not known."""
        return self._gas_price.price_wei

    @property
    def pool_size(self) -> int:
        """How many orchestrators share each sender's reserve."""
        return self._known.pool_size

    @property
    def is_recipient_active(self) -> bool:
        """Whether our recipient is an active orchestrator in the last initialised round."""
        return self._known.recipient.is_active(self.last_initialized_round)

    @property
    def last_reward_round(self) -> int:
        """The newest round whose reward the recipient had claimed when its record was read."""
        return self._known.recipient.last_reward_round

    @property
    def is_current(self) -> bool:
        """Whether the chain was read lately and what was read agrees with it."""
        age_s = self._clock() - self._read_at_s
        return not self._is_in_doubt and age_s <= self._config.stale_s

    def round_block_hash(self, number: int) -> bytes:
        """32 bytes that RoundsManager keeps for a round; zeros when it has none, or when the
        node's copy is in doubt."""
        if not self.is_current:
            return _NO_HASH
        last = self._known.round
        if number == last.number:
            return last.block_hash
        return last.previous_block_hash if number == last.number - 1 else _NO_HASH

    def subscribe(self, listener: Listener) -> None:
        """``listener`` is called at each new block, after the state has changed."""
        self._listeners.append(listener)

    async def sender_funds(self, sender: Address) -> SenderFunds:
        """Reads a sender's funds at ``head``. Raises: ChainError."""
        return await self.broker.sender_funds(sender, self._recipient, self.head.hash)

    async def start(self) -> None:
        """Reads everything once. Raises: ChainError."""
        await self._gas_price.poll()
        await self.poll()

    async def run(self) -> None:
        """Polls for ever. A chain that cannot be read leaves what is known to grow old."""
        while True:
            await self._sleep(self._config.poll_s)
            try:
                await self.poll()
            except ChainError as exc:
                # What happened meanwhile is not known, so the next answer is not taken on trust.
                self._polls_to_check = max(self._polls_to_check, 1)
                _log.warning("the chain cannot be read: %s", exc)

    async def poll(self) -> None:
        """Reads up to the newest block once. Raises: ChainError."""
        changes = await self._follower.advance()
        # They come once: should reading fail now, listeners get them with the next block.
        self._undelivered.append(changes)
        self._num_polls += 1
        if changes.is_gap or any(log.topics[0] == NEW_ROUND.topic for log in changes.removed):
            self._is_in_doubt = True
        self._is_read_due |= self._must_read(changes)
        self._is_read_due |= changes.head.l1_number > self._last_l1_block + _MAX_L1_STEP
        if self._is_read_due:
            read = await self._read(changes.head)
            _check_l1_number(changes.head, read.round)
            self._protocol = read
            self._is_read_due = self._is_in_doubt = False
        # After everything: a listener or a quote never sees a block of which half is known.
        self._head = changes.head
        self._last_l1_block = max(self._last_l1_block, changes.head.l1_number)
        self._read_at_s = self._clock()
        delivered, self._undelivered = self._undelivered, []
        for found in delivered:
            for listener in self._listeners:
                listener(found)

    @property
    def _known(self) -> _Protocol:
        assert self._protocol is not None, "start it first"
        return self._protocol

    def _blocks_into(self, read: RoundState) -> int:
        """L1 blocks since the start of the round that was current when it was read."""
        return max(0, self._last_l1_block - read.start_l1_block)

    def _must_read(self, changes: Changes) -> bool:
        logs = (*changes.removed, *changes.added)
        if any(log.topics[0] == NEW_ROUND.topic for log in logs):
            self._polls_to_check = _POLLS_AFTER_NEW_ROUND
        is_due = self._polls_to_check > 0 or self._num_polls % _POLLS_BETWEEN_CHECKS == 0
        self._polls_to_check = max(self._polls_to_check - 1, 0)
        return is_due or changes.is_gap or any(map(self._is_ours, logs))

    def _is_ours(self, log: Log) -> bool:
        if log.topics[0] in (TRANSCODER_ACTIVATED.topic, TRANSCODER_DEACTIVATED.topic):
            return sender_of(log) == self._recipient
        return log.topics[0] in (NEW_ROUND.topic, PARAMETER_UPDATE.topic)

    async def _read(self, head: Header) -> _Protocol:
        return _Protocol(
            round=await self.rounds.state(head.hash),
            pool_size=await self.bonding.pool_size(head.hash),
            recipient=await self.bonding.transcoder(self._recipient, head.hash),
            ticket_validity_rounds=await self.broker.ticket_validity_period(head.hash),
        )


def _check_l1_number(head: Header, read: RoundState) -> None:
    """An L1 number never goes back here, so one that is far off would stay for good: every
    payment would be refused as expired, and won tickets given up. An endpoint of an L2 that
    leaves the field out is enough.

    Raises: ChainError: it is more than a round away from the one that the contracts are in.
    """
    length = read.length_l1_blocks
    if not -length <= head.l1_number - read.start_l1_block < 2 * length:
        raise ChainError(
            f"the endpoint says that L1 is at block {head.l1_number}, but round "
            f"{read.current_number} began at {read.start_l1_block} and has {length} blocks"
        )


def sender_of(log: Log) -> Address:
    """Returns the first indexed parameter of an event that begins with an address.

    Raises: ChainError: it has none.
    """
    if len(log.topics) < 2:
        raise ChainError("an event of an account must name it")
    return Address(log.topics[1][-ADDRESS_BYTES:])


def changed_senders(changes: Changes) -> frozenset[Address] | None:
    """Returns the senders whose funds must be read again; None: those of all."""
    logs = (*changes.removed, *changes.added)
    if changes.is_gap or any(log.topics[0] == NEW_ROUND.topic for log in logs):
        return None
    return frozenset(sender_of(log) for log in logs if log.topics[0] in _SENDER_TOPICS)
