"""H.264 and Opus in MPEG-TS as a WHIP-fed gateway sends it."""

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction

import av
import numpy as np
from av.video.frame import PictureType

from lpnode.media.transport_stream import TransportStreamWriter

TICKS = Fraction(1, 90_000)
OPUS_TICKS = 1800
"""20 ms."""
OPUS_SILENCE = b"\xf8\xff\xfe"
"""One 20 ms frame of silence, mono. Source: RFC 6716."""


@dataclass(frozen=True)
class InputFrame:
    """The transport packets of one coded frame, and of the audio up to the next."""

    data: bytes
    pts_ticks: int
    starts_segment: bool


def picture(number: int, width: int, height: int) -> av.VideoFrame:
    """A grey ramp that moves on with ``number``."""
    luma = np.arange(width, dtype=np.uint32)[None, :] + number * 3
    planes = np.full((height * 3 // 2, width), 128, np.uint8)
    planes[:height] = np.broadcast_to(luma % 256, (height, width)).astype(np.uint8)
    return av.VideoFrame.from_ndarray(planes, format="yuv420p")


def h264_input(
    num_frames: int,
    *,
    fps: int = 20,
    gop: int = 20,
    width: int = 640,
    height: int = 360,
    first_frame: int = 0,
    has_audio: bool = False,
    has_video: bool = True,
) -> Iterator[InputFrame]:
    """Frames of one stream, a segment for each ``gop`` frames, each segment by a new muxer."""
    codec = av.CodecContext.create("libx264", "w")
    assert isinstance(codec, av.VideoCodecContext)
    codec.width, codec.height, codec.pix_fmt = width, height, "yuv420p"
    codec.time_base, codec.framerate = TICKS, Fraction(fps)
    codec.options = {
        "preset": "ultrafast",
        "tune": "zerolatency",
        "forced-idr": "1",
        "x264-params": "scenecut=0:keyint=100000",
    }
    writer = TransportStreamWriter()
    next_audio_ticks = first_frame * 90_000 // fps
    for number in range(first_frame, first_frame + num_frames):
        frame = picture(number, width, height)
        frame.pts = number * 90_000 // fps
        frame.time_base = TICKS
        starts_segment = (number - first_frame) % gop == 0
        if starts_segment:
            frame.pict_type = PictureType.I
            writer = TransportStreamWriter(has_video=has_video, opus_channels=1 if has_audio else 0)
        [packet] = codec.encode(frame)
        data = b""
        if has_video:
            data = writer.video(frame.pts, frame.pts, packet, is_key=packet.is_keyframe)
        while has_audio and next_audio_ticks < frame.pts + 90_000 // fps:
            data += writer.audio(next_audio_ticks, OPUS_SILENCE)
            next_audio_ticks += OPUS_TICKS
        yield InputFrame(data, frame.pts, starts_segment)
