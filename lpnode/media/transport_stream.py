"""MPEG-TS at both ends of a session: bytes to access units, and coded packets to bytes.

Note [Copies of coded data]
In: one copy from packet payloads into the access unit (``csrc/mpegts/demuxer.h``), one inside
libavcodec, which pads what it decodes. Out: one from the encoder's packet into the bytes object
that the channel then hands to every reader.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from lpnode._native.mpegts import AccessUnit, Codec, Demuxer, DemuxerCounters, Muxer
from lpnode.errors import DecodeError

if TYPE_CHECKING:
    from typing_extensions import Buffer

__all__ = ["AccessUnit", "Codec", "TransportStreamReader", "TransportStreamWriter"]

_log = logging.getLogger(__name__)

_H264 = 0x1B
_AAC = 0x0F
# Stream types that are video but not H.264. Source: ISO/IEC 13818-1, table 2-34.
_OTHER_VIDEO = {
    0x01: "MPEG-1",
    0x02: "MPEG-2",
    0x10: "MPEG-4 part 2",
    0x21: "JPEG 2000",
    0x24: "HEVC",
    0x33: "VVC",
    0x42: "AVS",
    0xD1: "Dirac",
    0xEA: "VC-1",
}


class TransportStreamReader:
    """Splits a live transport stream into access units while its bytes arrive.

    Segments are consecutive pieces of one stream: feed them one after another and call ``flush``
    where one ends. Tolerates restarting continuity counters, repeated tables, lost packets and
    garbage; a unit after a loss has ``has_discontinuity``. One thread at a time.
    Source: live.md 4.1.
    """

    def __init__(self, *, max_unit_size: int = 8 << 20) -> None:
        """``max_unit_size``: bytes after which one coded picture is given up."""
        self._demuxer = Demuxer(max_unit_size)
        self._map_changes = 0
        self.has_video: bool | None = None
        """Whether the programme map has H.264; None before the first map."""
        self.audio_codec: Codec | None = None
        """What the audio is coded with, if there is any that can be used."""
        self.opus_channels = 0
        """Channel configuration of the Opus descriptor; 0 if there is none."""

    def feed(self, data: Buffer) -> list[AccessUnit]:
        """Takes the next bytes, split anywhere; returns the units they complete, in order.

        Releases the GIL while it works.
        Raises: DecodeError: the programme has video of another codec, or nothing usable.
        """
        units = self._demuxer.feed(data)
        if self._demuxer.map_changes != self._map_changes:
            self._map_changes = self._demuxer.map_changes
            self._read_map()
        return units

    def flush(self) -> list[AccessUnit]:
        """Returns what a pause proves to be complete; call it where a segment ends."""
        return self._demuxer.flush()

    @property
    def counters(self) -> DemuxerCounters:
        """What was skipped since the start."""
        return self._demuxer.counters

    def _read_map(self) -> None:
        streams = self._demuxer.streams
        self.has_video = any(stream.stream_type == _H264 for stream in streams)
        self.audio_codec = None
        self.opus_channels = 0
        for stream in streams:
            if stream.stream_type == _AAC:
                self.audio_codec = Codec.AAC
            elif stream.is_opus:
                self.audio_codec = Codec.OPUS
                self.opus_channels = stream.opus_channels
            else:
                continue
            break
        types = ", ".join(f"0x{stream.stream_type:02X}" for stream in streams) or "none"
        if not self.has_video:
            for stream in streams:
                if name := _OTHER_VIDEO.get(stream.stream_type):
                    raise DecodeError(
                        f"video must be H.264 (stream type 0x1B), got {name} "
                        f"(0x{stream.stream_type:02X})"
                    )
            if self.audio_codec is None:
                raise DecodeError(f"the stream has neither H.264, AAC nor Opus; types: {types}")
        _log.info("input programme: stream types %s", types)


class TransportStreamWriter:
    """Writes H.264 and Opus as transport packets: PMT PID 0x1000, video 0x100, Opus 0x101.

    PAT and PMT come before every key frame and every 100 ms. Time stamps are written unchanged,
    modulo 2^33; nothing is held back to interleave. One thread at a time. Source: live.md 4.3.
    """

    def __init__(self, *, has_video: bool = True, opus_channels: int = 0) -> None:
        """``opus_channels``: 0 without audio, else the channel configuration to announce."""
        self._muxer = Muxer(has_video, opus_channels)

    def set_streams(self, *, has_video: bool, opus_channels: int) -> None:
        """Changes the programme map; it is written with the next packet."""
        self._muxer.set_streams(has_video, opus_channels)

    def video(self, pts_ticks: int, dts_ticks: int, annexb: Buffer, *, is_key: bool) -> bytes:
        """One coded picture as packets; adds the access unit delimiter if it lacks one."""
        return self._muxer.video(pts_ticks, dts_ticks, annexb, is_key)

    def audio(self, pts_ticks: int, packet: Buffer) -> bytes:
        """One Opus packet as packets, with its control header."""
        return self._muxer.audio(pts_ticks, packet)
