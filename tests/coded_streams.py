"""Real coded streams for tests, made with PyAV: the shapes that gateways send (live.md 4.1)."""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import av
import numpy as np
from av.audio.codeccontext import AudioCodecContext
from av.video.codeccontext import VideoCodecContext

from lpnode.media.transport_stream import TransportStreamWriter

TIME_BASE = Fraction(1, 90_000)


@dataclass(frozen=True)
class CodedVideo:
    """Packets of one H.264 track in coding order."""

    packets: Sequence[av.Packet]
    width: int
    height: int


def moving_picture(index: int, width: int, height: int) -> av.VideoFrame:
    """A gradient that moves with ``index``; limited range, with some colour."""
    x = np.arange(width) + 3 * index
    y = np.arange(height)[:, None]
    luma = (16 + (x + 2 * y) % 220).astype(np.uint8)
    picture = av.VideoFrame(width, height, "yuv420p")
    planes = [luma, np.full_like(luma[::2, ::2], 90), np.full_like(luma[::2, ::2], 160)]
    for plane, values in zip(picture.planes, planes, strict=True):
        rows = np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)
        rows[: values.shape[0], : values.shape[1]] = values
    return picture


def h264(
    num_frames: int,
    *,
    width: int = 320,
    height: int = 240,
    fps: int = 30,
    first_ticks: int = 0,
    gop: int = 30,
    b_frames: int = 0,
    x264_params: str = "",
    colorspace: int = 2,
    color_range: int = 0,
    pix_fmt: str = "yuv420p",
) -> CodedVideo:
    """H.264 as an encoder of a broadcaster would make it: parameter sets in band."""
    codec = av.CodecContext.create("libx264", "w")
    assert isinstance(codec, VideoCodecContext)
    codec.width, codec.height, codec.pix_fmt = width, height, pix_fmt
    codec.time_base, codec.framerate = TIME_BASE, Fraction(fps)
    codec.max_b_frames = b_frames
    codec.colorspace, codec.color_range = colorspace, color_range
    params = f"scenecut=0:keyint={gop}:min-keyint={gop}:threads=1:{x264_params}"
    codec.options = {"preset": "ultrafast", "forced-idr": "1", "x264-params": params.rstrip(":")}
    if b_frames == 0:
        codec.options |= {"tune": "zerolatency"}
    packets: list[av.Packet] = []
    for index in range(num_frames):
        picture = moving_picture(index, width, height).reformat(format=pix_fmt)
        picture.pts = first_ticks + index * 90_000 // fps
        picture.time_base = TIME_BASE
        packets += codec.encode(picture)
    return CodedVideo(packets + codec.encode(None), width, height)


def tone(
    codec_name: str,
    duration_s: float,
    *,
    rate: int = 48_000,
    layout: str = "mono",
    begins_s: float = 0.0,
) -> list[av.Packet]:
    """Packets of a 440 Hz tone, silent before ``begins_s``; ``pts`` in samples of ``rate``."""
    codec = av.CodecContext.create(codec_name, "w")
    assert isinstance(codec, AudioCodecContext)
    codec.sample_rate, codec.layout, codec.time_base = rate, layout, Fraction(1, rate)
    codec.format = "fltp" if codec_name == "aac" else "flt"
    codec.open()
    size, packets = codec.frame_size, []
    for begin in range(0, int(duration_s * rate), size):
        time_s = (begin + np.arange(size)) / rate
        wave = 0.5 * np.sin(2 * np.pi * 440 * time_s) * (time_s >= begins_s)
        num_channels = codec.channels
        samples = np.tile(wave.astype(np.float32), (num_channels, 1))
        if codec_name != "aac":
            samples = samples.T.reshape(1, -1).copy()
        frame = av.AudioFrame.from_ndarray(samples, format=codec.format.name, layout=layout)
        frame.sample_rate, frame.pts, frame.time_base = rate, begin, Fraction(1, rate)
        packets += codec.encode(frame)
    return packets + codec.encode(None)


def mux_by_ffmpeg(
    video: CodedVideo | None,
    audio: Sequence[av.Packet] = (),
    *,
    audio_codec: str = "libopus",
    audio_rate: int = 48_000,
    audio_layout: str = "mono",
    audio_offset_ticks: int = 0,
) -> bytes:
    """One transport stream by FFmpeg's own muxer, time stamps unchanged."""
    target = io.BytesIO()
    with av.open(target, "w", format="mpegts") as container:
        pending: list[av.Packet] = []
        if video is not None:
            stream = container.add_stream("libx264", rate=30)
            stream.width, stream.height, stream.pix_fmt = video.width, video.height, "yuv420p"
            stream.time_base = TIME_BASE
            for packet in video.packets:
                copy = av.Packet(bytes(packet))
                copy.pts, copy.dts, copy.time_base = packet.pts, packet.dts, TIME_BASE
                copy.is_keyframe = packet.is_keyframe
                copy.stream = stream
                pending.append(copy)
        if audio:
            sound = container.add_stream(audio_codec, rate=audio_rate, layout=audio_layout)
            for packet in audio:
                copy = av.Packet(bytes(packet))
                ticks = packet.pts * 90_000 // audio_rate + audio_offset_ticks
                copy.pts = copy.dts = ticks
                copy.time_base = TIME_BASE
                copy.stream = sound
                pending.append(copy)
        for packet in sorted(pending, key=lambda p: p.dts):
            container.mux(packet)
    return target.getvalue()


def opus_ticks(packet: av.Packet) -> int:
    """Time stamp in 1/90000 s of a packet of ``tone("libopus", …)``."""
    return packet.pts * 90_000 // 48_000


def whip_segments(
    video: CodedVideo, audio: Sequence[av.Packet] = (), *, first_ticks: int = 0
) -> list[bytes]:
    """Segments as a WHIP-fed gateway makes them (live.md 4.1): a new muxer, hence new counters, at
    each IDR; the length of a video PES is not stated; Opus has the stream id of MPEG audio."""
    segments: list[bytes] = []
    sound = list(audio)
    writer: TransportStreamWriter | None = None
    parts: list[bytes] = []
    for packet in video.packets:
        if packet.is_keyframe:
            if parts:
                segments.append(b"".join(parts))
            writer, parts = TransportStreamWriter(opus_channels=1 if audio else 0), []
        assert writer is not None
        data = writer.video(packet.pts, packet.dts, packet, is_key=packet.is_keyframe)
        at = data.index(b"\0\0\1\xe0") + 4
        parts.append(data[:at] + b"\0\0" + data[at + 2 :])
        while sound and opus_ticks(sound[0]) + first_ticks <= packet.pts:
            part = sound.pop(0)
            data = writer.audio(opus_ticks(part) + first_ticks, part)
            parts.append(data.replace(b"\0\0\1\xbd", b"\0\0\1\xc0", 1))
    return [*segments, b"".join(parts)]
