"""The exchange rate of ether from an aggregator of the Chainlink kind.

Source: payments.md 5.6; discovery.md 6.2.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from fractions import Fraction

from lpnode.chain.abi import Function
from lpnode.chain.contract import Contract
from lpnode.errors import ChainError
from lpnode.protocol.ethereum import parse_address

DEFAULT_PRICE_FEED = parse_address("0x639Fe6ab55C921f74e7fac1ee960C0B6293ba612")
"""ETH / USD on Arbitrum One."""

_UPDATE_S = 3600.0
_NUM_ATTEMPTS = 5
_FIRST_RETRY_S = 30.0

_log = logging.getLogger(__name__)

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


class CurrentRate:
    """The rate as of the last full hour. Call ``start`` once, then let the owner run ``run``."""

    def __init__(
        self,
        feed: PriceFeed,
        *,
        wall_s: Callable[[], float] = time.time,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """``wall_s``: seconds since the epoch."""
        self._feed = feed
        self._wall_s = wall_s
        self._sleep = sleep
        self._rate: Rate | None = None
        self._listeners: list[Callable[[Rate], None]] = []

    @property
    def rate(self) -> Rate:
        """What was read last."""
        assert self._rate is not None, "start it first"
        return self._rate

    def subscribe(self, listener: Callable[[Rate], None]) -> None:
        """``listener`` is called whenever the rate was read again."""
        self._listeners.append(listener)

    async def start(self) -> None:
        """Reads the rate. Raises: ChainError."""
        self._rate = await self._feed.rate()

    async def run(self) -> None:
        """Reads it at each full hour of UTC, for ever."""
        while True:
            await self._sleep(_UPDATE_S - self._wall_s() % _UPDATE_S)
            await self._update()

    async def _update(self) -> None:
        for attempt in range(_NUM_ATTEMPTS):
            try:
                self._rate = await self._feed.rate()
            except ChainError as exc:
                _log.warning("the price feed cannot be read (attempt %d): %s", attempt + 1, exc)
                if attempt < _NUM_ATTEMPTS - 1:
                    await self._sleep(_FIRST_RETRY_S * 2**attempt)
            else:
                for listener in self._listeners:
                    listener(self._rate)
                return
        _log.error("the rate stays that of %d s since the epoch", self.rate.updated_s)
