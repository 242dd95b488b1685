"""What gas costs now and what to offer for it. Amounts in wei for a unit of gas.

Source: payments.md 4.6.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from lpnode.chain.eth import Eth
from lpnode.errors import ChainError, ConfigError, GasPriceTooHigh

_BASE_FEE_FACTOR = 2

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class GasPriceConfig:
    """The operator's limits."""

    max_wei: int | None = None
    """Above it no transaction is sent; None: no limit."""
    min_wei: int = 0
    poll_s: float = 5.0

    def __post_init__(self) -> None:
        if self.min_wei < 0 or (self.max_wei is not None and self.max_wei < self.min_wei):
            raise ConfigError(
                f"-minGasPrice must not be negative nor above -maxGasPrice, got {self.min_wei} "
                f"and {self.max_wei} wei"
            )
        if self.poll_s <= 0:
            raise ConfigError(f"-blockPollingInterval must be positive, got {self.poll_s} s")


@dataclass(frozen=True, slots=True)
class Fees:
    """What a transaction offers."""

    fee_cap_wei: int
    tip_wei: int | None
    """None: a legacy transaction, whose gas price is the cap."""

    @property
    def effective_wei(self) -> int:
        """What is compared with the operator's maximum."""
        if self.tip_wei is None:
            return self.fee_cap_wei
        return effective_price(self.fee_cap_wei, self.tip_wei)

    def bumped(self, percent: int) -> "Fees":
        """Fees that replace a transaction with these."""
        tip_wei = None if self.tip_wei is None else bump(self.tip_wei, percent)
        return Fees(bump(self.fee_cap_wei, percent), tip_wei)

    def at_least(self, other: "Fees") -> "Fees":
        """The higher of both in each part."""
        if self.tip_wei is None or other.tip_wei is None:
            return Fees(max(self.fee_cap_wei, other.fee_cap_wei), self.tip_wei)
        return Fees(max(self.fee_cap_wei, other.fee_cap_wei), max(self.tip_wei, other.tip_wei))


def bump(value: int, percent: int) -> int:
    """Adds ``percent`` of ``value``, rounded up. Source: vectors ``tx_manager.price_bump``."""
    return -(-value * (100 + percent) // 100)


def effective_price(fee_cap_wei: int, tip_wei: int) -> int:
    """What a transaction is likely to pay: its cap has room for twice the base fee."""
    return (fee_cap_wei - tip_wei) // 2 + tip_wei


class GasPrice:
    """The newest gas price. ``run`` keeps it so."""

    def __init__(
        self,
        eth: Eth,
        config: GasPriceConfig,
        *,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._eth = eth
        self._config = config
        self._sleep = sleep
        self._price_wei: int | None = None

    @property
    def price_wei(self) -> int:
        """Never below the operator's minimum; 0 while it is not known."""
        return 0 if self._price_wei is None else max(self._price_wei, self._config.min_wei)

    async def poll(self) -> None:
        """Asks once. Raises: ChainError."""
        self._price_wei = await self._eth.gas_price()

    async def run(self) -> None:
        """Asks for ever. A chain that cannot be asked leaves the last price."""
        while True:
            try:
                await self.poll()
            except ChainError as exc:
                _log.warning("the gas price cannot be read: %s", exc)
            await self._sleep(self._config.poll_s)

    async def fees(self) -> Fees:
        """What to offer for a new transaction.

        Raises:
            GasPriceTooHigh: gas costs more than the operator allows.
            ChainError: the chain cannot be asked.
        """
        await self.poll()
        price_wei, max_wei = self.price_wei, self._config.max_wei
        if max_wei is not None and price_wei > max_wei:
            raise GasPriceTooHigh(f"gas costs {price_wei} wei, the maximum is {max_wei} wei")
        base_fee_wei = (await self._eth.head()).base_fee_wei
        if base_fee_wei is None:
            return Fees(price_wei, None)
        tip_wei = await self._eth.priority_fee()
        if tip_wei is None:
            tip_wei = max(price_wei - base_fee_wei, 0)
        if max_wei is None:
            return Fees(tip_wei + _BASE_FEE_FACTOR * base_fee_wei, tip_wei)
        fee_cap_wei = min(max_wei, _BASE_FEE_FACTOR * base_fee_wei)
        # A tip above the cap makes a transaction invalid.
        return Fees(fee_cap_wei, min(tip_wei, fee_cap_wei))

    def check(self, fees: Fees) -> None:
        """Raises: GasPriceTooHigh: ``fees`` would pay more than the operator allows."""
        max_wei = self._config.max_wei
        if max_wei is not None and fees.effective_wei > max_wei:
            raise GasPriceTooHigh(
                f"the transaction would pay {fees.effective_wei} wei for a unit of gas, "
                f"the maximum is {max_wei} wei"
            )
