"""Decoding into device memory and encoding from there, and what happens where neither is had."""

import logging

import av
import pytest
import torch
from coded_streams import h264
from media.test_video_codec import decode, encode, units_of

from lpnode.errors import ConfigError, EncodeError, InvalidArgument
from lpnode.media.crop import Crop
from lpnode.media.decoder import DecoderConfig, VideoDecoder
from lpnode.media.encoder import EncoderConfig, VideoEncoder
from lpnode.media.frame import Colour, Frame, Matrix
from lpnode.media.loading_overlay import LoadingOverlay
from lpnode.media.tensor import to_frame, to_tensor

COLOUR = Colour(Matrix.BT601, False)


def planes(picture: av.VideoFrame) -> list[bytes]:
    return [
        b"".join(
            bytes(memoryview(plane)[row * plane.line_size :][: plane.width])
            for row in range(plane.height)
        )
        for plane in picture.planes
    ]


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_without_a_device_the_cpu_decodes_and_one_line_says_so(
    caplog: pytest.LogCaptureFixture,
) -> None:
    units = units_of(h264(10, width=128, height=96))
    with caplog.at_level(logging.WARNING, "lpnode"):
        frames = decode(units, VideoDecoder(DecoderConfig(device="cuda:0")))
    assert [planes(f.picture) for f in frames] == [planes(f.picture) for f in decode(units)]
    assert [record.message.split(",")[0] for record in caplog.records] == [
        "cuda:0 decodes no video"
    ]


@pytest.mark.parametrize("config", [DecoderConfig, EncoderConfig])
def test_devices_that_frames_cannot_be_on_are_refused(config: type) -> None:
    with pytest.raises(ConfigError, match="expected cpu, cuda or cuda:N, got 'tpu'"):
        config(device="tpu")


def test_an_encoder_on_the_host_takes_no_device_pictures() -> None:
    config = EncoderConfig(width=64, height=64, device="cpu", codec="h264_nvenc")
    assert not config.takes_device_pictures
    assert EncoderConfig(device="cuda:0", codec="h264_nvenc").takes_device_pictures
    assert not EncoderConfig(device="cuda:0").takes_device_pictures
    with pytest.raises(InvalidArgument, match="picture must be 64x64 yuv420p, got 64x64 nv12"):
        VideoEncoder(config).encode(av.VideoFrame(64, 64, "nv12"), 0, COLOUR)


def on_device(frames: list[Frame]) -> list[Frame]:
    """The frames; skips where the machine has no video decoder."""
    if frames and frames[0].picture.format.name != "cuda":
        pytest.skip("this device has no video decoder")
    return frames


@pytest.mark.gpu
@pytest.mark.parametrize("num_b_frames", [0, 2])
def test_the_device_decodes_to_the_same_bits(num_b_frames: int) -> None:
    units = units_of(h264(40, height=180, b_frames=num_b_frames))
    decoder = VideoDecoder(DecoderConfig(device="cuda:0"))
    frames = on_device([*decode(units, decoder), *decoder.flush()])
    usual = VideoDecoder()
    expected = [*decode(units, usual), *usual.flush()]
    assert [f.pts_ticks for f in frames] == [f.pts_ticks for f in expected]
    assert {f.colour for f in frames} == {f.colour for f in expected}
    for frame, other in zip(frames, expected, strict=True):
        assert frame.ready is not None
        frame.ready.synchronize()
        assert planes(frame.picture.reformat(format="yuv420p")) == planes(other.picture)


@pytest.mark.gpu
def test_a_frame_of_the_device_becomes_the_same_tensor() -> None:
    units = units_of(h264(12, height=180))
    frames = on_device(decode(units, VideoDecoder(DecoderConfig(device="cuda:0"))))
    crop = Crop(70, 0, 180, 180)
    for frame, other in zip(frames, decode(units), strict=True):
        outs = [torch.empty(3, 96, 96, device="cuda", dtype=torch.float16) for _ in range(2)]
        to_tensor(frame, outs[0], crop, (-1.0, 1.0))
        to_tensor(other, outs[1], crop, (-1.0, 1.0))
        # Chroma is interleaved in one and not in the other; the arithmetic is the same.
        assert torch.equal(*outs)


@pytest.mark.gpu
def test_what_the_device_cannot_decode_comes_in_page_locked_memory() -> None:
    # High 4:4:4 is beyond NVDEC's H.264.
    video = h264(4, width=128, height=96, pix_fmt="yuv444p")
    frames = decode(units_of(video), VideoDecoder(DecoderConfig(device="cuda:0")))
    assert [f.picture.format.name for f in frames] == ["yuv420p"] * 4
    assert torch.frombuffer(frames[0].picture.planes[0], dtype=torch.uint8).is_pinned()


@pytest.mark.gpu
def test_pictures_in_page_locked_memory_are_encoded_alike() -> None:
    streams = [
        encode(VideoEncoder(EncoderConfig(width=128, height=128, device=device)), 30)
        for device in ("cpu", "cuda:0")
    ]
    assert [bytes(p.payload) for p in streams[0]] == [bytes(p.payload) for p in streams[1]]


@pytest.mark.gpu
def test_the_device_encodes_pictures_from_its_own_memory_and_from_the_hosts() -> None:
    encoder = VideoEncoder(
        EncoderConfig(width=256, height=256, codec="h264_nvenc", device="cuda:0")
    )
    overlay = LoadingOverlay(256, 256)
    pictures = [encoder.picture() for _ in range(3)]
    packets = []
    try:
        for n in range(12):
            picture = pictures[n % 3]
            tensor = torch.full((3, 256, 256), n / 12, device="cuda", dtype=torch.float16)
            to_frame(tensor, picture, COLOUR, (0.0, 1.0))
            overlay.remember(picture, COLOUR, n / 24)
            packets += encoder.encode(picture, n * 3750, COLOUR)
        loading = encoder.host_picture()
        overlay.draw(loading, COLOUR, 0.5)
        packets += encoder.encode(loading, 12 * 3750, COLOUR)
    except EncodeError as error:
        pytest.skip(f"this device has no video encoder: {error}")
    assert [p.pts_ticks for p in packets] == [n * 3750 for n in range(13)]
    decoder = av.CodecContext.create("h264", "r")
    shown = [f for p in packets for f in decoder.decode(av.Packet(bytes(p.payload)))]
    shown += decoder.decode(None)
    means = [sum(planes(f)[0]) / (256 * 256) for f in shown[:12]]
    for n, mean in enumerate(means):
        assert mean == pytest.approx(16 + 219 * n / 12, abs=3)
