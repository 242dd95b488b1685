"""Small video files, written when a test needs one."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np


def write_video(path: Path, codec: str, *, num_frames: int = 90, with_sound: bool = False) -> None:
    """Writes grey frames at 30 a second, key frames every 15, two B-frames between with x264."""
    with av.open(str(path), "w") as container:
        video = container.add_stream(codec, rate=30)
        video.width, video.height, video.pix_fmt = 160, 96, "yuv420p"
        video.codec_context.gop_size = 15
        if codec == "libx264":
            video.options = {"sc_threshold": "0", "bf": "2"}
        sound = container.add_stream("aac", rate=48_000, layout="mono") if with_sound else None
        for number in range(num_frames):
            picture = av.VideoFrame.from_ndarray(
                np.full((96, 160, 3), number % 120, np.uint8), format="rgb24"
            )
            picture.pts, picture.time_base = number, Fraction(1, 30)
            container.mux(video.encode(picture))
            if sound is not None:
                tone = av.AudioFrame.from_ndarray(
                    np.zeros((1, 1600), np.float32), format="fltp", layout="mono"
                )
                tone.sample_rate, tone.pts, tone.time_base = (
                    48_000,
                    number * 1600,
                    Fraction(1, 48_000),
                )
                container.mux(sound.encode(tone))
        container.mux(video.encode(None))
        if sound is not None:
            container.mux(sound.encode(None))
