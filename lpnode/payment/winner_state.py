"""The stations of a won ticket. Source: payments.md section 4.1."""

from enum import StrEnum


class WinnerState(StrEnum):
    """Where a won ticket is on its way. Open ones are those that may still be paid."""

    STORED = "stored"
    SUBMITTED = "submitted"
    CONFIRMED = "confirmed"
    REDEEMED = "redeemed"
    EXPIRED = "expired"
    VOID = "void"

    @property
    def is_open(self) -> bool:
        """Whether it has to be looked at again; confirmed ones until that is final."""
        return self in (WinnerState.STORED, WinnerState.SUBMITTED, WinnerState.CONFIRMED)

    @property
    def is_pending(self) -> bool:
        """Whether it has still to be paid."""
        return self in (WinnerState.STORED, WinnerState.SUBMITTED)

    @property
    def is_paid(self) -> bool:
        """Whether the chain has paid it, final or not."""
        return self in (WinnerState.CONFIRMED, WinnerState.REDEEMED)

    @property
    def is_lost(self) -> bool:
        """Whether it was given up."""
        return self in (WinnerState.EXPIRED, WinnerState.VOID)
