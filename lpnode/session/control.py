"""Parameter updates from the control channel. Source: live.md section 5."""

from collections.abc import Callable, Mapping
from typing import Any, Protocol

import msgspec

from lpnode.errors import BadParameters, EndOfChannel, LpnodeError, TooLarge
from lpnode.pipeline.params import BaseParams
from lpnode.session.clock import Clock
from lpnode.session.mailbox import LatestMailbox
from lpnode.session.vitals import Vitals
from lpnode.trickle.local import LocalSubscriber

_KEEP_ALIVE = {"keep": "alive"}


def parse_control(message: bytes) -> Mapping[str, Any] | None:
    """Reads one control message, which a gateway forwards from its client unchecked.

    Returns: a full parameter set, not yet validated; None for a keep-alive.
    Raises: BadParameters: not a JSON object.
    """
    try:
        value = msgspec.json.decode(message)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
        raise BadParameters(f"control message is not JSON: {error}") from error
    if value == _KEEP_ALIVE:
        return None
    if not isinstance(value, dict):
        raise BadParameters(f"control message must be a JSON object, got {type(value).__name__}")
    return value


class Updatable(Protocol):
    """What takes parameters: a session's place on a model."""

    async def update(self, params: BaseParams) -> None:
        """Replaces the whole set between two frames. Raises: LpnodeError: the old one stays."""


class Control:
    """Follows the control channel of one session and has its updates applied.

    ``read`` and ``apply`` are two tasks, so that a model that takes long over an update delays no
    reading: of the updates that pile up meanwhile only the newest is applied.
    """

    def __init__(
        self,
        subscriber: LocalSubscriber,
        *,
        max_bytes: int,
        parse: Callable[[Mapping[str, Any]], BaseParams],
        stream: Updatable,
        vitals: Vitals,
        clock: Clock,
    ) -> None:
        self._subscriber = subscriber
        self._max_bytes = max_bytes
        self._parse = parse
        self._stream = stream
        self._vitals = vitals
        self._clock = clock
        self._updates = LatestMailbox[Mapping[str, Any]]()

    async def read(self) -> None:
        """Reads messages until the channel ends. What is no update becomes an error event."""
        try:
            while True:
                segment = await self._subscriber.next_segment()
                try:
                    # A whole message is joined from its pieces once: it must be parsed at its end.
                    message = await segment.read_all(self._max_bytes)
                    # A publisher that leaves completes its preconnected segment without a byte.
                    update = parse_control(message) if message else None
                except (BadParameters, TooLarge) as error:
                    self._report(error)
                else:
                    if update is not None:
                        self._updates.put(update)
        except EndOfChannel:
            self._updates.close()

    async def apply(self) -> None:
        """Applies updates one after the other until ``read`` has ended.

        Whatever is wrong with one is an error event: clients send them, and a stream goes on.
        """
        async for update in self._updates:
            try:
                await self._stream.update(self._parse(update))
            except LpnodeError as error:
                self._report(error)
            else:
                self._vitals.saw_params(update, self._clock.now())

    def _report(self, error: Exception) -> None:
        self._vitals.saw_error(f"Error updating params: {error}", self._clock.now())
