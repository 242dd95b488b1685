"""Amounts of money for people."""

from decimal import Decimal, localcontext
from fractions import Fraction

from lpnode.payment.work_units import LIVE_UNITS_PER_S

_WEI_PER_ETH = 10**18
_ETH_DIGITS = 4
_PRICE_DIGITS = 9


def amount_text(amount_wei: Fraction | int) -> str:
    """Whole wei, and the same in ETH to four digits."""
    whole_wei = amount_wei.numerator // amount_wei.denominator
    return f"{whole_wei} wei ({_rounded(Fraction(amount_wei) / _WEI_PER_ETH, _ETH_DIGITS)} ETH)"


def price_text(price: Fraction) -> str:
    """A price in wei per unit, and what it makes of an hour of live video."""
    per_hour = amount_text(price * LIVE_UNITS_PER_S * 3600)
    return f"{_rounded(price, _PRICE_DIGITS)} wei per unit, {per_hour} an hour of live video"


def _rounded(amount: Fraction, num_digits: int) -> str:
    with localcontext() as context:
        context.prec = num_digits
        rounded = +(Decimal(amount.numerator) / Decimal(amount.denominator))
    if rounded == rounded.to_integral_value():
        return f"{int(rounded)}"
    return f"{rounded.normalize():f}"
