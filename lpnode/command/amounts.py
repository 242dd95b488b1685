"""Amounts and times as operators read them. Exact to the wei where they say wei."""

from datetime import UTC, datetime
from fractions import Fraction

_WEI_PER_GWEI = 10**9


def eth_text(amount_wei: Fraction | int) -> str:
    """ETH with nine decimals, cut to whole gwei; less than a gwei is shown as such."""
    sign = "-" if amount_wei < 0 else ""
    gwei = abs(int(amount_wei)) // _WEI_PER_GWEI
    if not gwei and amount_wei:
        return f"{sign}<0.000000001"
    return f"{sign}{gwei // _WEI_PER_GWEI:,}.{gwei % _WEI_PER_GWEI:09d}"


def wei_text(amount_wei: Fraction | int) -> str:
    """Whole wei in groups of three digits; a part of a wei is cut off."""
    return f"{int(amount_wei):,}"


def time_text(moment_s: float) -> str:
    """Date and time in UTC, to the second. ``moment_s``: since the epoch."""
    return f"{datetime.fromtimestamp(moment_s, UTC):%Y-%m-%d %H:%M:%S}"


def iso_text(moment_s: float) -> str:
    """The same for programs: ISO 8601 with milliseconds."""
    return datetime.fromtimestamp(moment_s, UTC).isoformat(timespec="milliseconds")


def hash_text(raw: bytes) -> str:
    """``0x`` and hex digits."""
    return f"0x{raw.hex()}"
