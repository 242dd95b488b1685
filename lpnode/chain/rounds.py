"""RoundsManager: the protocol's clock. Source: payments.md 5.3."""

from dataclasses import dataclass

from lpnode.chain.abi import Event, Function
from lpnode.chain.contract import Contract
from lpnode.chain.eth import Block
from lpnode.errors import ChainError

CURRENT_ROUND = Function("currentRound()", "uint256")
CURRENT_ROUND_INITIALIZED = Function("currentRoundInitialized()", "bool")
CURRENT_ROUND_LOCKED = Function("currentRoundLocked()", "bool")
CURRENT_ROUND_START_BLOCK = Function("currentRoundStartBlock()", "uint256")
LAST_INITIALIZED_ROUND = Function("lastInitializedRound()", "uint256")
BLOCK_HASH_FOR_ROUND = Function("blockHashForRound(uint256)", "bytes32")
ROUND_LENGTH = Function("roundLength()", "uint256")
ROUND_LOCK_AMOUNT = Function("roundLockAmount()", "uint256")
INITIALIZE_ROUND = Function("initializeRound()")

NEW_ROUND = Event("NewRound", "uint256 indexed round", "bytes32 blockHash")


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundState:
    """The newest initialised round, all read at one block. Hashes have 32 bytes."""

    number: int
    block_hash: bytes
    """All zero for some rounds of the real chain."""
    previous_block_hash: bytes
    current_number: int
    """Moves on without a transaction; above ``number`` until somebody initialises it."""
    start_l1_block: int
    length_l1_blocks: int


class RoundsManager(Contract):
    """Reads RoundsManager. Every method may raise ``ChainError``."""

    async def state(self, block: Block) -> RoundState:
        """Reads the round at ``block``, which must name one block, not a tag."""
        number = int(await self.read(LAST_INITIALIZED_ROUND, block=block))
        length = int(await self.read(ROUND_LENGTH, block=block))
        if length <= 0:
            raise ChainError(f"roundLength must be positive, got {length}")
        return RoundState(
            number=number,
            block_hash=await self.block_hash(number, block),
            previous_block_hash=(
                await self.block_hash(number - 1, block) if number > 0 else bytes(32)
            ),
            current_number=int(await self.read(CURRENT_ROUND, block=block)),
            start_l1_block=int(await self.read(CURRENT_ROUND_START_BLOCK, block=block)),
            length_l1_blocks=length,
        )

    async def current(self) -> int:
        """The round as of now, begun or not."""
        return int(await self.read(CURRENT_ROUND))

    async def block_hash(self, number: int, block: Block = "latest") -> bytes:
        """Returns the 32 bytes kept for a round; zeros: none."""
        return bytes(await self.read(BLOCK_HASH_FOR_ROUND, number, block=block))

    async def is_initialized(self, block: Block = "latest") -> bool:
        """Whether the current round is initialised; until then no ticket can be redeemed."""
        return bool(await self.read(CURRENT_ROUND_INITIALIZED, block=block))

    async def is_locked(self) -> bool:
        """Whether the current round is so near its end that transcoders cannot change terms."""
        return bool(await self.read(CURRENT_ROUND_LOCKED))
