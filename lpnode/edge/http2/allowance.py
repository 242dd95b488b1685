"""How much nonsense one connection may send."""

from collections.abc import Callable

from lpnode.edge.http2.frames import ConnectionFault, ErrorCode

_CAPACITY = 5000.0
_REFILL_PER_S = 500.0


class Allowance:
    """A token bucket over frames that cost us work and carry no request.

    Ordinary peers never come near the end of it. Pings and settings floods, empty frames and
    rapid resets (CVE-2023-44487, CVE-2019-9512, -9515, -9518) do.
    """

    __slots__ = ("_clock", "_left", "_since")

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._left = _CAPACITY
        self._since = clock()

    def spend(self, cost: int) -> None:
        """Takes ``cost`` tokens: 1 for an idle frame, 10 for a stream opened for nothing.

        Raises: ConnectionFault: the bucket is empty.
        """
        self._left -= cost
        if self._left < 0:
            now = self._clock()
            self._left = min(_CAPACITY, self._left + (now - self._since) * _REFILL_PER_S)
            self._since = now
            if self._left < 0:
                raise ConnectionFault(ErrorCode.ENHANCE_YOUR_CALM, "too many idle frames")
