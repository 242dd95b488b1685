"""Pictures to H.264 packets, each complete at once."""

import re
from dataclasses import dataclass
from fractions import Fraction

import av
from av.codec.context import CodecContext
from av.codec.hwaccel import HWAccel
from av.video.codeccontext import VideoCodecContext
from av.video.frame import PictureType

from lpnode.errors import ConfigError, EncodeError, InvalidArgument
from lpnode.media.frame import TICKS_PER_SECOND, Colour

_TIME_BASE = Fraction(1, TICKS_PER_SECOND)
# Never by itself: key frames come by presentation time, see VideoEncoder.encode.
_NO_KEY_INTERVAL = 100_000
_LIMITED_RANGE = 1
_FULL_RANGE = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class EncoderConfig:
    """How output video is coded. Source: live.md 4.3."""

    width: int = 512
    height: int = 512
    """Pixels, even."""
    codec: str = "libx264"
    """``libx264``, or ``h264_nvenc`` where there is such hardware."""
    device: str = "cpu"
    """Where pictures come from, as torch names it. For a CUDA device ``picture`` gives memory that
    it writes directly: its own for NVENC, page-locked memory of the host for x264."""
    preset: str | None = None
    """The codec's speed preset; None: superfast, or p2 of NVENC."""
    bitrate_bps: int | None = None
    """None: constant quality (CRF 23)."""
    frame_rate: int = 24
    """A hint for rate control; time stamps decide."""
    key_interval_s: float = 2.0
    num_threads: int = 1
    """Slices a picture is cut into, each coded by a thread."""

    def __post_init__(self) -> None:
        if self.width < 16 or self.height < 16 or self.width % 2 or self.height % 2:
            raise ConfigError(
                f"output size must be even and at least 16x16, got {self.width}x{self.height}"
            )
        if self.codec not in {"libx264", "h264_nvenc"}:
            raise ConfigError(f"codec must be libx264 or h264_nvenc, got {self.codec!r}")
        if not re.fullmatch(r"cpu|cuda(:\d+)?", self.device, re.ASCII):
            raise ConfigError(f"device: expected cpu, cuda or cuda:N, got {self.device!r}")
        if self.bitrate_bps is not None and self.bitrate_bps < 10_000:
            raise ConfigError(f"bitrate must be at least 10000 bit/s, got {self.bitrate_bps}")
        if self.frame_rate < 1 or self.num_threads < 1 or self.key_interval_s <= 0:
            raise ConfigError(
                "frame_rate and num_threads must be at least 1 and key_interval_s positive, got "
                f"{self.frame_rate}, {self.num_threads}, {self.key_interval_s}"
            )

    @property
    def takes_device_pictures(self) -> bool:
        """Whether NVENC reads pictures where the pipeline writes them."""
        return self.codec == "h264_nvenc" and self.device != "cpu"


@dataclass(frozen=True, slots=True)
class EncodedPacket:
    """One coded picture: Annex B, with parameter sets at a key frame."""

    payload: memoryview
    """The encoder's own memory; kept alive by the view."""
    pts_ticks: int
    dts_ticks: int
    is_key: bool


class VideoEncoder:
    """Encodes one track: no B-frames, no look-ahead, an IDR at least every ``key_interval_s``.

    Blocks: call it on a codec thread, one call at a time; the codec runs without the GIL.
    """

    def __init__(self, config: EncoderConfig | None = None) -> None:
        self.config = config or EncoderConfig()
        self._interval_ticks = round(self.config.key_interval_s * TICKS_PER_SECOND)
        self._codec: VideoCodecContext | None = None
        self._colour: Colour | None = None
        self._last_pts_ticks: int | None = None
        self._next_key_ticks: int | None = None
        self.num_dropped = 0
        """Pictures whose time stamp did not follow the one before."""

    def picture(self) -> av.VideoFrame:
        """A picture of the output size for a pipeline to write; it may be used again.

        It is ``yuv420p``, or ``cuda`` where NVENC takes pictures of the pipeline's device. Its
        memory is free again when ``encode`` has returned.
        """
        config = self.config
        if config.device == "cpu":
            return self.host_picture()
        import torch

        from lpnode.media.device_picture import PlaneLayout, device_picture, page_locked_picture

        layout = PlaneLayout(config.width, config.height, config.takes_device_pictures)
        if config.takes_device_pictures:
            return device_picture(layout, torch.device(config.device))
        return page_locked_picture(layout)

    def host_picture(self) -> av.VideoFrame:
        """A ``yuv420p`` picture of the output size for the CPU to draw; ``encode`` takes it."""
        return av.VideoFrame(self.config.width, self.config.height, "yuv420p")

    def encode(
        self, picture: av.VideoFrame, pts_ticks: int, colour: Colour, *, force_key: bool = False
    ) -> list[EncodedPacket]:
        """Encodes one picture, whose time stamp becomes the packet's.

        A change of ``colour`` starts a new coded sequence, at a key frame. A picture that is not
        later than the one before is dropped and counted.

        Returns: the packet of this picture; nothing if it was dropped.
        Raises: InvalidArgument: the picture is not of the configured size and format.
            EncodeError: the codec failed.
        """
        config = self.config
        formats = ("yuv420p", "cuda") if config.takes_device_pictures else ("yuv420p",)
        size = (picture.width, picture.height)
        if size != (config.width, config.height) or picture.format.name not in formats:
            raise InvalidArgument(
                f"picture must be {config.width}x{config.height} {' or '.join(formats)}, got "
                f"{size[0]}x{size[1]} {picture.format.name}"
            )
        if self._last_pts_ticks is not None and pts_ticks <= self._last_pts_ticks:
            self.num_dropped += 1
            return []
        self._last_pts_ticks = pts_ticks
        is_due = self._next_key_ticks is None or pts_ticks >= self._next_key_ticks
        if is_due:
            # Forced key frames in between do not move the rhythm, so segments keep their length.
            self._next_key_ticks = pts_ticks + self._interval_ticks
        codec = self._codec
        try:
            if codec is None or colour != self._colour:
                codec = self._codec = self._open(colour)
                self._colour = colour
                force_key = True
            picture.pts = pts_ticks
            picture.time_base = _TIME_BASE
            picture.pict_type = PictureType.I if is_due or force_key else PictureType.NONE
            packets = codec.encode(picture)
        except av.FFmpegError as error:
            raise EncodeError(f"{config.codec} failed: {error}") from error
        return [
            EncodedPacket(
                memoryview(packet),
                packet.pts if packet.pts is not None else pts_ticks,
                packet.dts if packet.dts is not None else pts_ticks,
                packet.is_keyframe,
            )
            for packet in packets
        ]

    def _open(self, colour: Colour) -> VideoCodecContext:
        config = self.config
        codec = CodecContext.create(config.codec, "w", hwaccel=_accelerator(config))
        assert isinstance(codec, VideoCodecContext)
        codec.width = config.width
        codec.height = config.height
        # With an accelerator, what its pictures consist of; PyAV brings host pictures there.
        codec.pix_fmt = "nv12" if config.takes_device_pictures else "yuv420p"
        codec.time_base = _TIME_BASE
        codec.framerate = Fraction(config.frame_rate)
        codec.max_b_frames = 0
        codec.gop_size = _NO_KEY_INTERVAL
        codec.colorspace = int(colour.matrix)
        codec.color_range = _FULL_RANGE if colour.is_full_range else _LIMITED_RANGE
        if config.bitrate_bps is not None:
            codec.bit_rate = config.bitrate_bps
        make_options = _x264_options if config.codec == "libx264" else _nvenc_options
        codec.options = make_options(config)
        codec.open()
        return codec


def _accelerator(config: EncoderConfig) -> HWAccel | None:
    if not config.takes_device_pictures:
        return None
    index = config.device.partition(":")[2] or "0"
    # The primary context is PyTorch's, which the pictures are from.
    return HWAccel("cuda", device=index, options={"primary_ctx": "1"})


def _x264_options(config: EncoderConfig) -> dict[str, str]:
    params = f"scenecut=0:keyint={_NO_KEY_INTERVAL}:threads={config.num_threads}"
    if config.bitrate_bps is not None:
        kbps = config.bitrate_bps // 1000
        params += f":vbv-maxrate={kbps}:vbv-bufsize={kbps // 2}"
    return {
        "preset": config.preset or "superfast",
        "tune": "zerolatency",
        "forced-idr": "1",
        "aud": "1",
        "x264-params": params,
    }


def _nvenc_options(config: EncoderConfig) -> dict[str, str]:
    return {
        "preset": config.preset or "p2",
        "tune": "ull",
        "zerolatency": "1",
        "delay": "0",
        "forced-idr": "1",
        "aud": "1",
        "rc": "cbr" if config.bitrate_bps is not None else "constqp",
    }
