"""A video file as live input: H.264 as it is, anything else encoded first; AAC and Opus with it."""

from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
from av.container import InputContainer, OutputContainer

from lpnode.errors import ConfigError
from lpnode.gateway.live_encoder import LiveEncoder
from lpnode.gateway.media_input import Step
from lpnode.gateway.segment_writer import SegmentPiece, SegmentWriter
from lpnode.media.frame import TICKS_PER_SECOND

_AUDIO = frozenset({"aac", "opus"})
_VIDEO, _SOUND = 0, 1


class FileInput:
    """Packets of a file at the pace of their decoding times. Presentation times are the file's.

    Frames are known by their presentation time in ticks. Raises: ConfigError: no such file, or no
    video in it.
    """

    def __init__(self, path: Path, *, duration_s: float | None = None) -> None:
        try:
            self._container: InputContainer = av.open(str(path))
        except (OSError, av.FFmpegError) as error:
            raise ConfigError(f"--input {path}: cannot be opened: {error}") from error
        if not self._container.streams.video:
            raise ConfigError(f"--input {path}: has no video stream")
        self._video = self._container.streams.video[0]
        sound = self._container.streams.audio
        self._sound = sound[0] if sound and sound[0].codec_context.name in _AUDIO else None
        self._duration_s = duration_s
        self._encoder: LiveEncoder | None = None
        if self._video.codec_context.name != "h264":
            self._encoder = LiveEncoder(
                self._video.codec_context.width // 2 * 2,
                self._video.codec_context.height // 2 * 2,
                self._video.average_rate or 30,
            )
        self._writer = SegmentWriter(self._add_streams)
        self._items = self._read()
        self._item: av.VideoFrame | av.Packet[Any] | None = None
        self._first_s: float | None = None

    @property
    def description(self) -> str:
        """For people: size, codec and what happens to it."""
        context = self._video.codec_context
        how = "as it is" if self._encoder is None else "encoded as H.264"
        sound = f", {self._sound.codec_context.name}" if self._sound is not None else ""
        return f"{context.width}x{context.height} {context.name} ({how}){sound}"

    def prepare(self, elapsed_s: float) -> Step | None:
        """Reads on to the next packet or frame."""
        self._item = next(self._items, None)
        if self._item is None:
            return None
        moment = self._item.dts if isinstance(self._item, av.Packet) else self._item.pts
        assert moment is not None
        assert self._item.time_base is not None
        moment_s = float(moment * self._item.time_base)
        if self._first_s is None:
            self._first_s = moment_s
        due_s = moment_s - self._first_s
        if self._duration_s is not None and due_s >= self._duration_s:
            return None
        is_sound = isinstance(self._item, av.Packet) and self._item.stream is self._sound
        return Step(due_s, None if is_sound else _ticks(self._item.pts, self._item.time_base))

    def produce(self) -> list[SegmentPiece]:
        """Encodes if needed, and muxes."""
        item = self._item
        assert item is not None
        if isinstance(item, av.VideoFrame):
            return self._write_encoded(item)
        if item.stream is self._sound:
            return self._writer.write(item, _SOUND, may_cut=False)
        return self._writer.write(item, _VIDEO, may_cut=item.is_keyframe)

    def finish(self) -> list[SegmentPiece]:
        """Ends the last segment and closes the file."""
        pieces = self._writer.close()
        self._container.close()
        return pieces

    def _read(self) -> Iterator["av.VideoFrame | av.Packet[Any]"]:
        wanted = [self._video] if self._sound is None else [self._video, self._sound]
        try:
            for packet in self._container.demux(*wanted):
                if packet.stream is not self._video or self._encoder is None:
                    if packet.dts is not None and packet.pts is not None:
                        yield packet
                    continue
                for frame in packet.decode():
                    if isinstance(frame, av.VideoFrame) and frame.pts is not None:
                        yield frame
        except av.FFmpegError as error:
            raise ConfigError(f"--input: broken after the start: {error}") from error

    def _write_encoded(self, frame: av.VideoFrame) -> list[SegmentPiece]:
        assert self._encoder is not None
        assert frame.pts is not None
        assert frame.time_base is not None
        picture = frame.reformat(self._encoder.width, self._encoder.height, "yuv420p")
        pieces = []
        for packet in self._encoder.encode(picture, _ticks(frame.pts, frame.time_base)):
            pieces += self._writer.write(packet, _VIDEO, may_cut=packet.is_keyframe)
        return pieces

    def _add_streams(self, container: OutputContainer) -> Sequence[Any]:
        if self._encoder is None:
            streams: list[Any] = [container.add_stream_from_template(self._video)]
        else:
            streams = [self._encoder.add_stream(container)]
        if self._sound is not None:
            streams.append(container.add_stream_from_template(self._sound))
        return streams


def _ticks(pts: int | None, time_base: Fraction) -> int:
    return round((pts or 0) * time_base * TICKS_PER_SECOND)
