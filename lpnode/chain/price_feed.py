"""The exchange rate of ether from an aggregator of the Chainlink kind.

Source: payments.md 5.6; discovery.md 6.2.
"""

from dataclasses import dataclass
from fractions import Fraction

from lpnode.chain.abi import Function
from lpnode.chain.contract import Contract
from lpnode.errors import ChainError
from lpnode.protocol.ethereum import parse_address

DEFAULT_PRICE_FEED = parse_address("0x639Fe6ab55C921f74e7fac1ee960C0B6293ba612")
"""ETH / USD on Arbitrum One."""

LATEST_ROUND_DATA = Function(
    "latestRoundData()", "uint80", "int256", "uint256", "uint256", "uint80"
)
DECIMALS = Function("decimals()", "uint8")
DESCRIPTION = Function("description()", "string")


@dataclass(frozen=True, slots=True)
class Rate:
    """One unit of ``base`` costs ``price`` units of ``quote``."""

    base: str
    quote: str
    price: Fraction
    updated_s: int
    """Seconds since the epoch when the oracle last changed it."""


class PriceFeed(Contract):
    """Reads an aggregator."""

    async def rate(self) -> Rate:
        """Returns the newest rate.

        Raises: ChainError: no answer, a description that is not ``BASE / QUOTE``, or a price that
            is not positive.
        """
        description = str(await self.read(DESCRIPTION))
        base, separator, quote = description.partition("/")
        if not separator or not base.strip() or not quote.strip() or "/" in quote:
            raise ChainError(
                f"a price feed describes itself as BASE / QUOTE, got {description!r:.100}"
            )
        decimals = int(await self.read(DECIMALS))
        _, answer, _, updated_s, _ = await self.read_all(LATEST_ROUND_DATA)
        if answer <= 0:
            raise ChainError(f"the price feed {description} must be positive, got {answer}")
        return Rate(base.strip(), quote.strip(), Fraction(answer, 10**decimals), updated_s)
