"""How many streams of a group one call has memory for, which is known only by trying."""

FIRST_PATIENCE = 1000
"""Calls with as many streams as are allowed that must go well before one more is tried."""
MOST_PATIENCE = 64_000
"""It doubles with each failure, as one costs every stream in the call its frames in flight."""


class CallLimit:
    """Fewer streams a call after one that ran out of memory, and more again one by one.

    What took the memory may be gone after a while, such as a model that was being loaded.

    Args:
        most: never more than these.
    """

    def __init__(self, most: int) -> None:
        self.num_streams = most
        """Most streams in the next call."""
        self._most = most
        self._patience = FIRST_PATIENCE
        self._num_good = 0
        self._trial: int | None = None
        """A number of streams that was allowed again, and has not been seen to work."""

    def saw_success(self, num_streams: int) -> None:
        """A call with so many streams went well."""
        if num_streams < self.num_streams:
            return
        self._trial = None
        if self.num_streams == self._most:
            return
        self._num_good += 1
        if self._num_good >= self._patience:
            self._num_good = 0
            self.num_streams += 1
            self._trial = self.num_streams

    def saw_failure(self, num_streams: int) -> None:
        """A call with so many streams, two at the least, ran out of memory."""
        if num_streams == self._trial:
            self.num_streams = num_streams - 1
        else:
            self.num_streams = num_streams // 2
        self._trial = None
        self._num_good = 0
        self._patience = min(2 * self._patience, MOST_PATIENCE)
