"""
MPEG-TS: an incremental demultiplexer and a muxer for live H.264 with AAC or Opus.
"""

import enum

from typing_extensions import Buffer


class Codec(enum.Enum):
    """How an access unit is coded."""

    H264 = 0
    """Annex B, parameter sets in band"""

    AAC = 1
    """one ADTS frame"""

    OPUS = 2
    """one packet, without control header"""

class AccessUnit:
    """One coded picture or audio packet; owns its bytes."""

    @property
    def codec(self) -> Codec: ...

    @property
    def pts_ticks(self) -> int:
        """1/90000 s, unwrapped past 33 bits."""

    @property
    def dts_ticks(self) -> int:
        """1/90000 s, unwrapped past 33 bits."""

    @property
    def is_random_access(self) -> bool:
        """Decoding may begin here."""

    @property
    def has_discontinuity(self) -> bool:
        """Data of this track was lost, or restarted, just before."""

    @property
    def payload(self) -> memoryview:
        """The coded bytes, read-only, in place; the view keeps the unit alive."""

class ElementaryStream:
    """One entry of the programme map."""

    @property
    def pid(self) -> int: ...

    @property
    def stream_type(self) -> int: ...

    @property
    def is_opus(self) -> bool: ...

    @property
    def opus_channels(self) -> int:
        """Channel configuration of the Opus descriptor; 0 if there is none."""

class DemuxerCounters:
    """What was skipped since the start."""

    @property
    def num_continuity_errors(self) -> int: ...

    @property
    def num_bad_sections(self) -> int: ...

    @property
    def num_lost_units(self) -> int: ...

    @property
    def discarded_bytes(self) -> int: ...

class Demuxer:
    """Splits a transport stream into access units as bytes arrive."""

    def __init__(self, max_unit_size: int = 8388608) -> None: ...

    def feed(self, data: Buffer) -> list[AccessUnit]:
        """
        Takes the next bytes, split anywhere; returns the units they complete. One thread at a time; releases the GIL.
        """

    def flush(self) -> list[AccessUnit]:
        """The input pauses or ends: returns units whose length was not stated."""

    @property
    def streams(self) -> list[ElementaryStream]: ...

    @property
    def map_changes(self) -> int:
        """Programme maps seen; 0 before the first."""

    @property
    def counters(self) -> DemuxerCounters: ...

class Muxer:
    """Writes access units as transport packets, time stamps unchanged."""

    def __init__(self, has_video: bool = True, opus_channels: int = 0) -> None: ...

    def set_streams(self, has_video: bool, opus_channels: int) -> None:
        """Changes the programme map from the next packet on."""

    def video(self, pts_ticks: int, dts_ticks: int, annexb: Buffer, is_key: bool) -> bytes:
        """
        One coded picture as packets; tables come first at a key frame. One copy.
        """

    def audio(self, pts_ticks: int, packet: Buffer) -> bytes:
        """One Opus packet as packets. One copy."""
