"""When audio may be sent, given how far the video has come."""

from collections import deque
from dataclasses import dataclass

from lpnode.errors import ConfigError, EncodeError
from lpnode.media.audio import AudioPacket
from lpnode.media.frame import TICKS_PER_SECOND


@dataclass(frozen=True, slots=True, kw_only=True)
class AudioGateConfig:
    """Limits of audio/video skew. Defaults are the reference's (live.md 4.4)."""

    max_skew_s: float = 2.0
    max_buffered: int = 100
    """Packets kept while there is no video; the oldest give way."""
    max_dropped_video: int = 100
    """Video frames that may be dropped because they lag behind buffered audio."""

    def __post_init__(self) -> None:
        if self.max_skew_s <= 0 or self.max_buffered < 1 or self.max_dropped_video < 0:
            raise ConfigError(
                "max_skew_s must be positive, max_buffered at least 1 and max_dropped_video at "
                f"least 0, got {self.max_skew_s}, {self.max_buffered}, {self.max_dropped_video}"
            )


class AudioGate:
    """Holds audio until the first video frame is encoded, then lets it through at once.

    Video is never held for audio. Time stamps that do not increase are dropped.
    Source: live.md 4.4 (ai-runner trickle/encoder.py).
    """

    def __init__(self, *, has_video: bool, config: AudioGateConfig | None = None) -> None:
        """Without video the gate is open from the start."""
        self._config = config or AudioGateConfig()
        self._max_skew_ticks = round(self._config.max_skew_s * TICKS_PER_SECOND)
        self._is_open = not has_video
        self._has_video = has_video
        self._held: deque[AudioPacket] = deque()
        self._first_video_ticks: int | None = None
        self._has_sent = False
        self._last_ticks: int | None = None
        self._num_dropped_video = 0
        self.num_dropped_audio = 0

    def admits_video(self, pts_ticks: int) -> bool:
        """Whether a video frame may be encoded, or lags so far behind held audio that it is lost.

        Raises: EncodeError: too many frames were lost that way.
        """
        if not self._held or self._held[0].pts_ticks - pts_ticks <= self._max_skew_ticks:
            return True
        self._num_dropped_video += 1
        if self._num_dropped_video > self._config.max_dropped_video:
            lag_s = (self._held[0].pts_ticks - pts_ticks) / TICKS_PER_SECOND
            raise EncodeError(
                f"audio and video are out of step: video is {lag_s:.1f} s behind after "
                f"{self._config.max_dropped_video} dropped frames"
            )
        return False

    def on_video(self, pts_ticks: int) -> list[AudioPacket]:
        """Tells that a video frame was encoded; returns the audio that may now be sent.

        Raises: EncodeError: the first audio is too far from the first video.
        """
        if self._is_open:
            return []
        self._is_open = True
        self._first_video_ticks = pts_ticks
        while self._held and pts_ticks - self._held[0].pts_ticks > self._max_skew_ticks:
            self._held.popleft()
            self.num_dropped_audio += 1
        held = list(self._held)
        self._held.clear()
        return [packet for packet in held if self._passes(packet)]

    def on_audio(self, packet: AudioPacket) -> list[AudioPacket]:
        """Takes the next audio packet; returns what may be sent now: it, or nothing.

        Raises: EncodeError: the first audio is too far from the first video.
        """
        if self._is_open:
            return [packet] if self._passes(packet) else []
        self._held.append(packet)
        if len(self._held) > self._config.max_buffered:
            self._held.popleft()
            self.num_dropped_audio += 1
        return []

    def _passes(self, packet: AudioPacket) -> bool:
        if self._last_ticks is not None and packet.pts_ticks <= self._last_ticks:
            self.num_dropped_audio += 1
            return False
        if not self._has_sent and self._first_video_ticks is not None:
            skew_ticks = packet.pts_ticks - self._first_video_ticks
            if abs(skew_ticks) > self._max_skew_ticks:
                raise EncodeError(
                    "audio and video are out of step: the first audio is "
                    f"{skew_ticks / TICKS_PER_SECOND:+.1f} s from the first video"
                )
        self._has_sent = True
        self._last_ticks = packet.pts_ticks
        return True
