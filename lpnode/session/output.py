"""Output of one session, on its encode thread: pictures and audio in, transport packets out."""

import logging
from dataclasses import dataclass

import av

from lpnode.errors import EncodeError
from lpnode.media.audio import AudioPacket, AudioPath, audio_path
from lpnode.media.audio_gate import AudioGate
from lpnode.media.encoder import EncoderConfig, VideoEncoder
from lpnode.media.frame import Colour, Matrix
from lpnode.media.loading_overlay import LoadingOverlay
from lpnode.media.segmenter import Segmenter
from lpnode.media.transport_stream import AccessUnit, TransportStreamWriter
from lpnode.session.ingest import Tracks

_log = logging.getLogger(__name__)

MAX_ENCODER_FAILURES = 3
"""The failure with this number ends the stream. Source: live.md section 8.2."""
HD_LINES = 720


@dataclass(frozen=True, slots=True)
class Chunk:
    """Transport packets that belong together, to be published at once."""

    data: bytes
    starts_segment: bool
    is_video: bool


class Output:
    """Encodes, muxes and cuts into segments. Every call but ``picture`` blocks: make them on one
    thread."""

    def __init__(self, width: int, height: int, *, device: str = "cpu") -> None:
        """``width`` and ``height`` of the output in pixels, fixed for the life of the stream.

        ``device`` is where pictures come from, as torch names it.
        """
        self._encoder_config = EncoderConfig(width=width, height=height, device=device)
        self._encoder = VideoEncoder(self._encoder_config)
        self._num_failures = 0
        self._writer = TransportStreamWriter()
        self._segmenter = Segmenter()
        self._tracks: Tracks | None = None
        self._has_video = True
        self._audio_path: AudioPath | None = None
        self._gate = AudioGate(has_video=True)
        self._overlay = LoadingOverlay(width, height)
        self._loading_picture: av.VideoFrame | None = None
        # Whatever the input's colour is, the output has the one that players assume for its size.
        matrix = Matrix.BT709 if height >= HD_LINES else Matrix.BT601
        self.colour = Colour(matrix, is_full_range=False)
        """How pictures given to ``video`` must be coded."""

    def picture(self) -> av.VideoFrame:
        """A picture for the pipeline to write; free again when ``video`` was given a later one."""
        return self._encoder.picture()

    def set_tracks(self, tracks: Tracks) -> list[Chunk]:
        """Gives the output the tracks of the input; says so in the next transport packet."""
        old, self._tracks = self._tracks, tracks
        self._has_video = tracks.has_video
        if old is None or old.has_video != tracks.has_video:
            self._gate = AudioGate(has_video=tracks.has_video)
        if tracks.audio_codec is None:
            self._audio_path = None
        elif old is None or self._audio_path is None or old.audio_codec != tracks.audio_codec:
            self._audio_path = audio_path(tracks.audio_codec, tracks.opus_channels)
        self._writer.set_streams(
            has_video=tracks.has_video,
            opus_channels=0 if self._audio_path is None else self._audio_path.opus_channels,
        )
        return []

    def video(self, picture: av.VideoFrame, pts_ticks: int, now_s: float) -> list[Chunk]:
        """Encodes a picture; one that is not later than the one before is dropped.

        ``picture`` must keep its content until the next call, for loading frames.
        Raises: EncodeError: the encoder failed for the last time, or audio and video are out of
            step.
        """
        self._overlay.remember(picture, self.colour, now_s)
        return self._encode(picture, pts_ticks)

    def loading(self, pts_ticks: int, now_s: float) -> list[Chunk]:
        """Encodes a loading frame for the time of an input frame. Source: live.md section 4.5."""
        if self._loading_picture is None:
            self._loading_picture = self._encoder.host_picture()
        self._overlay.draw(self._loading_picture, self.colour, now_s)
        return self._encode(self._loading_picture, pts_ticks)

    def audio(self, unit: AccessUnit) -> list[Chunk]:
        """Passes audio around the pipeline, undelayed, once there is video.

        Raises: DecodeError, EncodeError: it cannot be converted, or is out of step with the video.
        """
        if self._audio_path is None:
            return []
        return [
            self._mux_audio(passed)
            for packet in self._audio_path.convert(unit)
            for passed in self._gate.on_audio(packet)
        ]

    def _encode(self, picture: av.VideoFrame, pts_ticks: int) -> list[Chunk]:
        if not self._gate.admits_video(pts_ticks):
            return []
        try:
            packets = self._encoder.encode(picture, pts_ticks, self.colour)
        except EncodeError as error:
            self._num_failures += 1
            if self._num_failures >= MAX_ENCODER_FAILURES:
                raise
            _log.warning("encoder restarted: %s", error)
            self._encoder = VideoEncoder(self._encoder_config)
            return []
        chunks = []
        for packet in packets:
            starts = self._segmenter.begins_segment(packet.pts_ticks, is_key=packet.is_key)
            data = self._writer.video(
                packet.pts_ticks, packet.dts_ticks, packet.payload, is_key=packet.is_key
            )
            chunks.append(Chunk(data, starts, is_video=True))
        if chunks:
            chunks += map(self._mux_audio, self._gate.on_video(pts_ticks))
        return chunks

    def _mux_audio(self, packet: AudioPacket) -> Chunk:
        # Without video any packet may begin a segment, with it none.
        starts = not self._has_video and self._segmenter.begins_segment(
            packet.pts_ticks, is_key=True
        )
        data = self._writer.audio(packet.pts_ticks, packet.payload)
        return Chunk(data, starts, is_video=False)
