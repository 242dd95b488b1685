"""All channels of a node: making, finding, closing and sweeping them."""

import asyncio
import json
import time
from collections.abc import Callable
from dataclasses import dataclass

from lpnode.errors import ConfigError, NoCapacity, NoSuchChannel, TooLarge
from lpnode.trickle.channel import Channel
from lpnode.trickle.local import LocalPublisher

CHANGES = "_changes"
MIB = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class TrickleConfig:
    """What trickle.md sections 2 and 21 leave to the operator.

    ``idle_keep_alive_s`` is how long a connection may have no request, ``head_timeout_s`` how long
    a request head may take from its first byte. ``linger_s`` is how long a connection is read on
    after an early answer, so that the peer sees the answer and not a reset.
    """

    base_path: str = "/ai/trickle/"
    autocreate: bool = False
    changefeed: bool = False
    idle_timeout_s: float = 300.0
    sweep_interval_s: float = 60.0
    first_byte_timeout_s: float = 10.0
    ring_slots: int = 5
    max_segment_bytes: int = 64 * MIB
    max_buffered_bytes: int = 4096 * MIB
    max_subscribers: int = 64
    max_channels: int = 10_000
    max_head_bytes: int = MIB
    idle_keep_alive_s: float = 600.0
    head_timeout_s: float = 30.0
    linger_s: float = 0.5

    def __post_init__(self) -> None:
        if not (self.base_path.startswith("/") and self.base_path.endswith("/")):
            raise ConfigError(
                f"trickle base path must start and end with '/', got {self.base_path!r}"
            )
        if self.ring_slots < 2:
            raise ConfigError(f"a trickle ring needs 2 slots or more, got {self.ring_slots}")
        for name in (
            "idle_timeout_s",
            "sweep_interval_s",
            "first_byte_timeout_s",
            "idle_keep_alive_s",
            "head_timeout_s",
            "linger_s",
            "max_segment_bytes",
            "max_buffered_bytes",
            "max_subscribers",
            "max_channels",
            "max_head_bytes",
        ):
            if getattr(self, name) <= 0:
                raise ConfigError(f"trickle {name} must be positive, got {getattr(self, name)}")


Hook = Callable[[str], None]
"""Called with a channel's name before a peer's create or delete takes effect; raises to stop it."""


class Channels:
    """The channels of one node, by name.

    Runs on one event loop; only ``run`` waits. Hooks see what peers ask for over the network, not
    what the node does itself.
    """

    def __init__(
        self,
        config: TrickleConfig,
        clock: Callable[[], float] = time.monotonic,
        *,
        before_create: Hook | None = None,
        before_delete: Hook | None = None,
    ) -> None:
        self.config = config
        self._clock = clock
        self._before_create = before_create
        self._before_delete = before_delete
        self._by_name: dict[str, Channel] = {}
        self._buffered_bytes = 0
        self._changes: LocalPublisher | None = None
        if config.changefeed:
            self._changes = LocalPublisher(self._add(CHANGES, "application/json", None))
            self._announce("added", CHANGES)

    def __len__(self) -> int:
        return len(self._by_name)

    def __contains__(self, name: str) -> bool:
        return name in self._by_name

    @property
    def buffered_bytes(self) -> int:
        """Bytes in all rings. Readers may keep evicted segments beyond that."""
        return self._buffered_bytes

    def create(self, name: str, mime: str, *, max_segment_bytes: int | None = None) -> Channel:
        """Returns the open channel of that name, made if need be; the first MIME type stays."""
        channel = self._by_name.get(name)
        if channel is None:
            channel = self._add(name, mime, max_segment_bytes)
            self._announce("added", name)
        return channel

    def create_for_peer(self, name: str, mime: str) -> Channel:
        """What ``create`` is for a peer: only if autocreate is on, after the hook.

        Raises:
            NoSuchChannel: it does not exist and peers may not create any.
            NoCapacity: there are too many.
        """
        channel = self._by_name.get(name)
        if channel is not None:
            return channel
        if not self.config.autocreate:
            raise NoSuchChannel(f"no channel {name}")
        if len(self._by_name) >= self.config.max_channels:
            raise NoCapacity("too many channels")
        if self._before_create is not None:
            self._before_create(name)
        return self.create(name, mime)

    def find(self, name: str) -> Channel:
        """Raises: NoSuchChannel: it was never created, or is closed."""
        channel = self._by_name.get(name)
        if channel is None:
            raise NoSuchChannel(f"no channel {name}")
        return channel

    def close(self, name: str) -> None:
        """Closes and forgets a channel. Raises: NoSuchChannel."""
        self.find(name).close()

    def close_for_peer(self, name: str) -> None:
        """What ``close`` is for a peer: after the hook."""
        channel = self.find(name)
        if self._before_delete is not None:
            self._before_delete(name)
        channel.close()

    def close_all(self) -> None:
        """Closes every channel, the change feed last, so that it tells of the others."""
        for channel in list(self._by_name.values()):
            if channel.name != CHANGES:
                channel.close()
        for channel in list(self._by_name.values()):
            channel.close()

    def sweep(self) -> list[str]:
        """Closes the channels that nobody wrote to for the idle timeout. Returns their names."""
        oldest_s = self._clock() - self.config.idle_timeout_s
        idle = [
            channel
            for channel in self._by_name.values()
            if channel.last_write_s < oldest_s and not channel.name.startswith("_")
        ]
        for channel in idle:
            channel.close()
        return [channel.name for channel in idle]

    async def run(self) -> None:
        """Sweeps until cancelled, then closes every channel."""
        try:
            while True:
                await asyncio.sleep(self.config.sweep_interval_s)
                self.sweep()
        finally:
            self.close_all()

    def take(self, num_bytes: int) -> None:
        """Counts buffered bytes, making room from complete segments, longest unwritten first.

        Raises: TooLarge: the segments being written alone are over the process's limit.
        """
        self._buffered_bytes += num_bytes
        excess = self._buffered_bytes - self.config.max_buffered_bytes
        if excess <= 0:
            return
        for channel in sorted(self._by_name.values(), key=lambda each: each.last_write_s):
            excess -= channel.drop_closed_segments()
            if excess <= 0:
                return
        self._buffered_bytes -= num_bytes
        raise TooLarge(f"all channels together may keep {self.config.max_buffered_bytes} bytes")

    def give_back(self, num_bytes: int) -> None:
        """Counts bytes that left a ring."""
        self._buffered_bytes -= num_bytes

    def _add(self, name: str, mime: str, max_segment_bytes: int | None) -> Channel:
        channel = Channel(
            name,
            mime,
            ring_slots=self.config.ring_slots,
            max_segment_bytes=max_segment_bytes or self.config.max_segment_bytes,
            clock=self._clock,
            budget=self,
            forget=self._forget,
        )
        self._by_name[name] = channel
        return channel

    def _forget(self, channel: Channel) -> None:
        del self._by_name[channel.name]
        if channel.name != CHANGES:
            self._announce("removed", channel.name)

    def _announce(self, change: str, name: str) -> None:
        if self._changes is not None and CHANGES in self._by_name:
            self._changes.publish(json.dumps({change: [name]}, separators=(",", ":")).encode())
