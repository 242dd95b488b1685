"""The four channels of a live session. Source: live.md section 3."""

from lpnode.protocol.live_job import JSON, MPEG_TS, channel_names
from lpnode.trickle.channel import Channel
from lpnode.trickle.channels import Channels


class LiveChannels:
    """Made together before the job is answered, closed together when the session stops.

    The names are from the gateway's point of view: it publishes input to ``publish`` and reads
    output from ``subscribe``.
    """

    __slots__ = ("control", "events", "manifest_id", "publish", "subscribe")

    def __init__(self, channels: Channels, manifest_id: str, *, max_control_bytes: int) -> None:
        names = channel_names(manifest_id)
        self.manifest_id = manifest_id
        self.publish: Channel = channels.create(names.publish, MPEG_TS)
        self.subscribe: Channel = channels.create(names.subscribe, MPEG_TS)
        self.control: Channel = channels.create(
            names.control, JSON, max_segment_bytes=max_control_bytes
        )
        self.events: Channel = channels.create(names.events, JSON)

    def close(self) -> None:
        """Ends all four; those a peer has deleted already stay as they are.

        Output and events first: their end is what makes a gateway move on.
        """
        for channel in (self.subscribe, self.events, self.publish, self.control):
            channel.close()
