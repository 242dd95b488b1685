"""What each kind of work is billed by. Source: payments.md section 2.10; discovery.md 6.5."""

import math

LIVE_UNITS_PER_S = 1280 * 720 * 30
"""Live video counts as 720p at 30 fps, whatever its real size."""

LIVE_PREPAID_S = 60
"""A gateway's first payment for a stream covers this much."""

BYOC_SSE_TICK_S = 5
BYOC_STREAM_TICK_S = 23

_VIDEO_FRAMES = 25
_UNITS_PER_AUDIO_S = 1000
_UNITS_PER_CHARACTER = 1000


def image_units(height: int, width: int, num_images: int = 1) -> int:
    """Pixels: text-to-image, image-to-image (of the input), upscale, image-to-text and
    segment-anything-2."""
    return height * width * num_images


def text_to_image_units(
    height: int | None = None, width: int | None = None, num_images: int | None = None
) -> int:
    """Pixels of a request in which 0 or nothing stands for 512, 512 and 1."""
    return image_units(height or 512, width or 512, num_images or 1)


def image_to_video_units(height: int | None = None, width: int | None = None) -> int:
    """Pixels of 25 frames; 0 or nothing stands for 576 and 1024."""
    return image_units(height or 576, width or 1024, _VIDEO_FRAMES)


def audio_to_text_units(duration_s: float) -> int:
    """Whole seconds, cut, by a thousand."""
    return math.floor(duration_s) * _UNITS_PER_AUDIO_S


def text_to_speech_units(text: str) -> int:
    """A thousand for each code point."""
    return len(text) * _UNITS_PER_CHARACTER


def text_to_speech_prepaid_units(text: str) -> int:
    """What a gateway pays in advance for the same: one for each byte of UTF-8."""
    return len(text.encode())


def live_units(elapsed_ns: int, units_per_s: int = LIVE_UNITS_PER_S) -> int:
    """Whole units of a time, cut."""
    return units_per_s * elapsed_ns // 1_000_000_000


def byoc_units(elapsed_s: float) -> int:
    """Seconds, each begun one counting as whole."""
    return math.ceil(elapsed_s)
