"""H.264 as a live client's encoder makes it: no B-frames, a key frame every two seconds."""

from fractions import Fraction
from typing import Any

import av
from av.container import OutputContainer
from av.video.frame import PictureType

from lpnode.media.frame import TICKS_PER_SECOND

_KEY_INTERVAL_TICKS = 2 * TICKS_PER_SECOND
_TIME_BASE = Fraction(1, TICKS_PER_SECOND)


class LiveEncoder:
    """x264 without delay. ``width`` and ``height`` are even. Blocking; used from one thread."""

    def __init__(
        self, width: int, height: int, fps: int | Fraction, *, bits_per_second: int = 4_000_000
    ) -> None:
        self.width = width
        self.height = height
        self._context = av.CodecContext.create("libx264", "w")
        self._context.width = width
        self._context.height = height
        self._context.pix_fmt = "yuv420p"
        self._context.time_base = _TIME_BASE
        # Without a rate x264 takes each tick for a frame and spends next to no bits on it.
        self._context.framerate = Fraction(fps)
        self._context.bit_rate = bits_per_second
        self._context.gop_size = 1_000_000  # key frames are forced, by presentation time
        self._context.thread_count = 1
        self._context.options = {
            "preset": "ultrafast",
            "tune": "zerolatency",
            "forced-idr": "1",
            "bf": "0",
        }
        self._next_key_ticks: int | None = None

    def encode(self, picture: av.VideoFrame, pts_ticks: int) -> "list[av.Packet[Any]]":
        """Encodes one yuv420p picture; its packet comes at once, with parameter sets at keys."""
        picture.pts = pts_ticks
        picture.time_base = _TIME_BASE
        picture.pict_type = PictureType.NONE
        if self._next_key_ticks is None or pts_ticks >= self._next_key_ticks:
            picture.pict_type = PictureType.I
            self._next_key_ticks = pts_ticks + _KEY_INTERVAL_TICKS
        packets = list(self._context.encode(picture))
        for packet in packets:
            packet.time_base = _TIME_BASE
        return packets

    def add_stream(self, container: OutputContainer) -> Any:
        """Adds the stream that these packets belong to."""
        stream = container.add_mux_stream("h264", width=self.width, height=self.height)
        stream.time_base = _TIME_BASE
        return stream
