"""Audio beside the video: Opus passes unmodified, AAC becomes Opus."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Protocol

import av
import numpy as np
from av.audio.codeccontext import AudioCodecContext
from av.codec.context import CodecContext

from lpnode.errors import DecodeError, EncodeError, InvalidArgument
from lpnode.media.frame import TICKS_PER_SECOND
from lpnode.media.transport_stream import AccessUnit, Codec

if TYPE_CHECKING:
    from typing_extensions import Buffer

OPUS_RATE = 48_000
_TICK_BASE = Fraction(1, TICKS_PER_SECOND)
_PACKET_SAMPLES = OPUS_RATE // 50
_MAX_DRIFT_SAMPLES = OPUS_RATE // 25
_BITRATE_BPS = 64_000


@dataclass(frozen=True, slots=True)
class AudioPacket:
    """One Opus packet, without control header."""

    payload: Buffer
    pts_ticks: int


class AudioPath(Protocol):
    """Turns input units into the Opus packets of the output."""

    opus_channels: int
    """Channel configuration to announce in the output."""

    def convert(self, unit: AccessUnit) -> list[AudioPacket]:
        """The packets that this unit completes; blocks for as long as coding takes."""


class OpusPassthrough:
    """Hands Opus packets over as they came, in the demuxer's own memory."""

    def __init__(self, opus_channels: int = 1) -> None:
        self.opus_channels = opus_channels or 1

    def convert(self, unit: AccessUnit) -> list[AudioPacket]:
        """The unit itself."""
        return [AudioPacket(unit.payload, unit.pts_ticks)]


class AacToOpus:
    """Decodes AAC and encodes mono Opus at 48 kHz in packets of 20 ms, keeping its time stamps.

    A packet's time stamp is that of its first sample less the encoder's delay (6.5 ms), by which
    decoded sound lags, so what is heard stays where it was. Source: live.md 4.3, 4.4.
    """

    opus_channels = 1

    def __init__(self, *, max_errors: int = 10) -> None:
        """``max_errors``: errors in a row that are tolerated."""
        self._max_errors = max_errors
        self._num_errors = 0
        self._decoder = _create("aac", "r")
        self._restart()

    def convert(self, unit: AccessUnit) -> list[AudioPacket]:
        """Decodes one ADTS frame and returns the Opus packets that are full.

        Raises: DecodeError: more errors in a row than are tolerated. EncodeError: Opus failed.
        """
        packet = av.Packet(unit.payload)  # type: ignore[arg-type]  # takes any buffer, in place
        packet.pts = packet.dts = unit.pts_ticks
        packet.time_base = _TICK_BASE
        try:
            frames = self._decoder.decode(packet)
            self._num_errors = 0
        except av.FFmpegError as error:
            self._num_errors += 1
            if self._num_errors > self._max_errors:
                raise DecodeError(f"AAC cannot be decoded: {error.strerror}") from error
            return []
        packets: list[AudioPacket] = []
        for frame in frames:
            packets += self._encode(frame, unit.pts_ticks)
        return packets

    def _restart(self) -> None:
        self._resampler = av.AudioResampler(format="flt", layout="mono", rate=OPUS_RATE)
        self._source: tuple[int, str, str] | None = None
        self._encoder = _create("libopus", "w")
        self._encoder.sample_rate = OPUS_RATE
        self._encoder.layout = "mono"
        self._encoder.format = "flt"
        self._encoder.time_base = Fraction(1, OPUS_RATE)
        self._encoder.bit_rate = _BITRATE_BPS
        self._encoder.options = {"application": "audio", "frame_duration": "20"}
        self._samples = np.empty(0, np.float32)
        self._next_sample: int | None = None

    def _encode(self, frame: av.AudioFrame, pts_ticks: int) -> list[AudioPacket]:
        source = (frame.sample_rate, frame.layout.name, frame.format.name)
        begin = pts_ticks * OPUS_RATE // TICKS_PER_SECOND
        if self._next_sample is not None:
            drift = begin - (self._next_sample + len(self._samples))
            # A gap or a jump, beyond what rounding and the resampler's delay explain.
            if abs(drift) > _MAX_DRIFT_SAMPLES or source != self._source:
                self._restart()
        self._source = source
        if self._next_sample is None:
            self._next_sample = begin
        frame.pts = None
        try:
            for part in self._resampler.resample(frame):
                mono = np.frombuffer(memoryview(part.planes[0]), np.float32)[: part.samples]
                self._samples = np.concatenate((self._samples, mono))
            return self._encode_full_packets()
        except av.FFmpegError as error:
            raise EncodeError(f"Opus encoder failed: {error}") from error

    def _encode_full_packets(self) -> list[AudioPacket]:
        packets: list[AudioPacket] = []
        while len(self._samples) >= _PACKET_SAMPLES and self._next_sample is not None:
            block, self._samples = np.split(self._samples, [_PACKET_SAMPLES])
            frame = av.AudioFrame.from_ndarray(block.reshape(1, -1), format="flt", layout="mono")
            frame.sample_rate = OPUS_RATE
            frame.pts = self._next_sample
            frame.time_base = Fraction(1, OPUS_RATE)
            self._next_sample += _PACKET_SAMPLES
            for packet in self._encoder.encode(frame):
                if packet.pts is not None:
                    ticks = packet.pts * TICKS_PER_SECOND // OPUS_RATE
                    packets.append(AudioPacket(memoryview(packet), ticks))
        return packets


def audio_path(codec: Codec, opus_channels: int) -> AudioPath:
    """The way for input coded with ``codec``; ``opus_channels`` as the input announced them.

    Raises: InvalidArgument: ``codec`` is not audio.
    """
    if codec == Codec.OPUS:
        return OpusPassthrough(opus_channels)
    if codec == Codec.AAC:
        return AacToOpus()
    raise InvalidArgument(f"codec must be OPUS or AAC, got {codec.name}")


def _create(name: str, mode: str) -> AudioCodecContext:
    codec = CodecContext.create(name, "w" if mode == "w" else "r")
    assert isinstance(codec, AudioCodecContext)
    return codec
