"""BondingManager: who is an active orchestrator and what it earned. Source: payments.md 5.4."""

from dataclasses import dataclass

from lpnode.chain.abi import Event, Function
from lpnode.chain.contract import Contract
from lpnode.chain.eth import Block
from lpnode.protocol.ethereum import Address

IS_ACTIVE = Function("isActiveTranscoder(address)", "bool")
IS_REGISTERED = Function("isRegisteredTranscoder(address)", "bool")
GET_TRANSCODER = Function("getTranscoder(address)", *["uint256"] * 10)
POOL_SIZE = Function("getTranscoderPoolSize()", "uint256")
PENDING_FEES = Function("pendingFees(address,uint256)", "uint256")
TOTAL_STAKE = Function("transcoderTotalStake(address)", "uint256")
REWARD = Function("reward()")
REWARD_WITH_HINT = Function("rewardWithHint(address,address)")
WITHDRAW_FEES = Function("withdrawFees(address,uint256)")

TRANSCODER_ACTIVATED = Event(
    "TranscoderActivated", "address indexed transcoder", "uint256 activationRound"
)
TRANSCODER_DEACTIVATED = Event(
    "TranscoderDeactivated", "address indexed transcoder", "uint256 deactivationRound"
)

_NO_ROUND = 2**256 - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Transcoder:
    """An orchestrator's record."""

    last_reward_round: int
    reward_cut: int
    """Share of rewards it keeps, in parts per million."""
    fee_share: int
    """Share of fees its delegators get, in parts per million."""
    activation_round: int
    deactivation_round: int

    def is_active(self, round_number: int) -> bool:
        """Whether it can be paid from reserves in this round."""
        return self.activation_round <= round_number < self.deactivation_round


class BondingManager(Contract):
    """Reads BondingManager. Every method may raise ``ChainError``."""

    async def transcoder(self, address: Address, block: Block = "latest") -> Transcoder:
        """Returns an orchestrator's record; all zero if it was never registered."""
        words = await self.read_all(GET_TRANSCODER, address, block=block)
        return Transcoder(
            last_reward_round=words[0],
            reward_cut=words[1],
            fee_share=words[2],
            activation_round=words[4],
            deactivation_round=words[5],
        )

    async def is_active(self, address: Address, block: Block = "latest") -> bool:
        """Whether the orchestrator is active in the current round."""
        return bool(await self.read(IS_ACTIVE, address, block=block))

    async def is_registered(self, address: Address, block: Block = "latest") -> bool:
        """Whether the orchestrator can be paid from deposits."""
        return bool(await self.read(IS_REGISTERED, address, block=block))

    async def pool_size(self, block: Block = "latest") -> int:
        """How many orchestrators share each sender's reserve."""
        return int(await self.read(POOL_SIZE, block=block))

    async def pending_fees(self, address: Address, block: Block = "latest") -> int:
        """Wei that redeemed tickets have earned and that were not withdrawn."""
        return int(await self.read(PENDING_FEES, address, _NO_ROUND, block=block))

    async def total_stake(self, address: Address) -> int:
        """Smallest units of the token bonded to the orchestrator."""
        return int(await self.read(TOTAL_STAKE, address))
