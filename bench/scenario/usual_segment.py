"""The usual way from segment in to segment out: what an AI runner does around its model.

Segment file → FFmpeg's demuxer → RGBA picture → PIL → RGB → crop → float32 in [0, 1] → tensor →
(nothing) → bytes → PIL → YUV → x264 → FFmpeg's MPEG-TS muxer. It can begin when the segment is
complete and gives output when the muxer flushes.
"""

import io
from fractions import Fraction

import av
import numpy as np
import torch
from PIL import Image

TIME_BASE = Fraction(1, 90_000)


def usual_segment(segment: bytes, width: int, height: int) -> bytes:
    """Decodes, converts both ways and encodes one MPEG-TS segment; returns MPEG-TS."""
    target = io.BytesIO()
    with (
        av.open(io.BytesIO(segment), format="mpegts") as source,
        av.open(target, "w", format="mpegts") as output,
    ):
        stream = output.add_stream(
            "libx264", rate=30, options={"preset": "superfast", "tune": "zerolatency"}
        )
        assert isinstance(stream, av.VideoStream)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.codec_context.time_base = TIME_BASE
        for frame in source.decode(video=0):
            tensor = frame_to_tensor(frame, width, height)
            picture = tensor_to_frame(tensor)
            picture.pts, picture.time_base = frame.pts, frame.time_base
            output.mux(stream.encode(picture))
        output.mux(stream.encode())
    return target.getvalue()


def frame_to_tensor(frame: av.VideoFrame, width: int, height: int) -> torch.Tensor:
    """Returns (1, height, width, 3) float32 in [0, 1]: scaled to cover, cropped to the centre."""
    scale = max(width / frame.width, height / frame.height)
    scaled_width = int(frame.width * scale) // 2 * 2
    scaled_height = int(frame.height * scale) // 2 * 2
    rgba = frame.reformat(scaled_width, scaled_height, "rgba")
    image = Image.fromarray(rgba.to_ndarray()).convert("RGB")
    left, top = (scaled_width - width) // 2, (scaled_height - height) // 2
    image = image.crop((left, top, left + width, top + height))
    return torch.tensor(np.asarray(image).astype(np.float32) / 255.0).unsqueeze(0)


def tensor_to_frame(tensor: torch.Tensor) -> av.VideoFrame:
    """Returns a yuv420p picture from (1, height, width, 3) float32 in [0, 1]."""
    pixels = (tensor[0] * 255).byte().cpu().numpy()
    return av.VideoFrame.from_image(Image.fromarray(pixels)).reformat(format="yuv420p")
