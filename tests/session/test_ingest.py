"""What the decode thread of a session makes of its input."""

from live_input import h264_input

from lpnode.media.transport_stream import Codec
from lpnode.session.ingest import MAX_UNITS_A_CALL, Ingest, Tracks


def test_frames_come_with_the_call_that_completes_them() -> None:
    ingest = Ingest(max_framerate=60)
    for frame in h264_input(5):
        decoded = ingest.feed([frame.data])
        assert [made.pts_ticks for made in decoded.frames] == [frame.pts_ticks]
        assert decoded.num_waiting == 0


def test_a_burst_is_decoded_a_few_pictures_at_a_time() -> None:
    ingest = Ingest(max_framerate=60)
    frames = list(h264_input(15))
    decoded = ingest.feed([frame.data for frame in frames])
    assert len(decoded.frames) == MAX_UNITS_A_CALL
    assert decoded.num_waiting == 15 - MAX_UNITS_A_CALL
    pts = [made.pts_ticks for made in decoded.frames]
    while decoded.num_waiting:
        decoded = ingest.feed([])
        pts += [made.pts_ticks for made in decoded.frames]
    assert pts == [frame.pts_ticks for frame in frames]


def test_pictures_before_the_newest_key_frame_of_a_backlog_are_never_decoded() -> None:
    ingest = Ingest(max_framerate=60)
    frames = list(h264_input(70, gop=20))
    decoded = ingest.feed([frame.data for frame in frames])
    assert decoded.num_skipped == 60
    assert decoded.frames[0].pts_ticks == frames[60].pts_ticks


def test_a_backlog_without_a_key_frame_is_decoded_whole() -> None:
    ingest = Ingest(max_framerate=60)
    decoded = ingest.feed([frame.data for frame in h264_input(60, gop=1000)])
    assert decoded.num_skipped == 0
    assert decoded.frames[0].pts_ticks == 0


def test_frames_over_the_cap_are_decoded_and_dropped() -> None:
    ingest = Ingest(max_framerate=10)
    kept = decoded = 0
    for frame in h264_input(40, fps=20):
        made = ingest.feed([frame.data])
        decoded += made.num_decoded
        kept += len(made.frames)
    assert (decoded, kept) == (40, 20)
    ingest.set_max_framerate(60)


def test_the_tracks_are_told_when_known_and_when_they_change() -> None:
    ingest = Ingest(max_framerate=60)
    [frame] = h264_input(1)
    assert ingest.feed([frame.data[:188]]).tracks is None
    assert ingest.feed([frame.data[188:]]).tracks == Tracks(True, None, 0)
    [frame] = h264_input(1, has_audio=True, first_frame=1)
    decoded = ingest.feed([b"", frame.data])
    assert decoded.tracks == Tracks(True, Codec.OPUS, 1)
    assert decoded.audio
    assert ingest.feed([b""]).tracks is None


def test_one_time_stamp_far_off_costs_one_frame() -> None:
    ingest = Ingest(max_framerate=60)
    codec_order = [*range(5), 5000, *range(5, 10)]
    pts = []
    for number in codec_order:
        [frame] = h264_input(1, first_frame=number)
        pts += [made.pts_ticks // 4500 for made in ingest.feed([frame.data, b""]).frames]
    assert pts == list(range(10))


def test_a_time_line_that_really_moves_on_is_followed_from_its_second_frame() -> None:
    ingest = Ingest(max_framerate=60)
    pts = []
    for number in [0, 1, 2, 5000, 5001, 5002]:
        [frame] = h264_input(1, first_frame=number)
        pts += [made.pts_ticks // 4500 for made in ingest.feed([frame.data, b""]).frames]
    assert pts == [0, 1, 2, 5001, 5002]
