"""Segmented publish and subscribe: channels, and the clients inside and outside the process."""

from lpnode.trickle.channel import CURRENT, NEXT, Channel, SegmentWriter
from lpnode.trickle.channels import Channels, TrickleConfig
from lpnode.trickle.local import LocalPublisher, LocalSegment, LocalSubscriber, SegmentReader
from lpnode.trickle.remote import (
    RemotePublisher,
    RemoteSegment,
    RemoteSegmentReader,
    RemoteSubscriber,
)
from lpnode.trickle.segment import Segment, SegmentWatcher

__all__ = [
    "CURRENT",
    "NEXT",
    "Channel",
    "Channels",
    "LocalPublisher",
    "LocalSegment",
    "LocalSubscriber",
    "RemotePublisher",
    "RemoteSegment",
    "RemoteSegmentReader",
    "RemoteSubscriber",
    "Segment",
    "SegmentReader",
    "SegmentWatcher",
    "SegmentWriter",
    "TrickleConfig",
]
