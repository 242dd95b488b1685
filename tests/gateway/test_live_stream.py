"""A live stream from the gateway's side, over real TLS, HTTP/2 and trickle."""

import io
import json
from pathlib import Path

import av
import pytest
from relay_node import MANIFEST, RelayNode, relay, relay_node
from video_files import write_video

from lpnode.edge.exchange import text_response
from lpnode.errors import BadParameters, NoCapacity, PeerGone
from lpnode.gateway.file_input import FileInput
from lpnode.gateway.live_client import LiveClientConfig
from lpnode.gateway.live_stream import LiveStream, StreamPlan, Update
from lpnode.gateway.picture_input import PictureInput
from lpnode.media.frame import Frame
from lpnode.media.test_source import read_mark
from lpnode.protocol.live_job import channel_names
from lpnode.protocol.segment_header import parse_segment
from lpnode.trickle import LocalSubscriber

SIZE = (320, 240)


def read_key(frame: Frame) -> int | None:
    return read_mark(frame.picture, SIZE)


def picture_stream(
    node: RelayNode, *, duration_s: float = 2.5, file: io.BytesIO | None = None, **plan: object
) -> LiveStream:
    return LiveStream(
        StreamPlan(uri=node.uri, model_id="noop", **plan),
        PictureInput(SIZE, 30, duration_s=duration_s),
        read_key=read_key,
        file=file,
    )


async def test_every_frame_comes_back_and_is_measured(tmp_path: Path) -> None:
    file = io.BytesIO()
    async with relay_node(tmp_path) as node:
        stream = picture_stream(node, file=file)
        await stream.run()
    assert stream.failure is None
    returned = [frame.key for frame in stream.meter.returns]
    assert returned == sorted(returned)
    assert len(returned) == stream.meter.sent > 30
    assert stream.meter.lost == stream.meter.repeated == 0
    assert stream.meter.unknown == stream.output.num_unmarked == 0
    assert stream.output.size == SIZE
    assert all(frame.latency_s > 0 for frame in stream.meter.returns)
    file.seek(0)
    with av.open(file, format="mpegts") as container:
        assert sum(1 for _ in container.decode(video=0)) == len(returned)


async def test_the_job_is_asked_for_as_a_gateway_asks(tmp_path: Path) -> None:
    async with relay_node(tmp_path) as node:
        await picture_stream(node, duration_s=0.3, params={"strength": 0.5}).run()
    (request,) = node.requests
    assert request.http_version == "2"
    assert request.headers.get("content-type") == "application/json"
    assert request.headers.get("authorization") == "Livepeer-AI-Worker-1.0"
    assert request.headers.get("livepeer-payment", "absent") == ""
    credentials = parse_segment(request.headers.get("livepeer-segment"))
    assert credentials.auth_token.token
    body = json.loads(node.bodies[0])
    assert (body["publish_url"], body["subscribe_url"]) == ("", "")
    assert (body["model_id"], body["params"]) == ("noop", {"strength": 0.5})
    assert len(body["gateway_request_id"]) == 8


async def test_a_large_job_request_passes_the_flow_control_of_http2(tmp_path: Path) -> None:
    params = {"image": "x" * 500_000}
    async with relay_node(tmp_path) as node:
        await picture_stream(node, duration_s=0.3, params=params).run()
    assert json.loads(node.bodies[0])["params"] == params


async def test_a_plaintext_node_is_asked_over_http_1_and_streams_as_well(tmp_path: Path) -> None:
    async with relay_node(tmp_path, is_tls=False) as node:
        stream = picture_stream(node, duration_s=0.5)
        await stream.run()
    assert node.uri.startswith("http://")
    assert node.requests[0].http_version == "1.1"
    assert len(stream.meter.returns) == stream.meter.sent


async def test_updates_reach_the_control_channel_whole_and_in_order(tmp_path: Path) -> None:
    updates = [Update(0.6, {"levels": 3}), Update(0.2, {"text": "x" * 100_000})]
    async with relay_node(tmp_path) as node:
        stream = picture_stream(node, duration_s=1.0, updates=updates)
        await stream.run()
    assert [json.loads(body) for body in node.controls] == [updates[1].params, updates[0].params]
    assert stream.num_updates == 2


async def test_events_are_counted_and_the_last_state_kept(tmp_path: Path) -> None:
    async with relay_node(tmp_path) as node:
        stream = picture_stream(node, duration_s=4.5)
        await stream.run()
    assert stream.events.by_type["status"] >= 1
    assert stream.events.state == "ONLINE"


async def test_control_is_kept_alive_and_silence_on_the_events_is_a_failure(
    tmp_path: Path,
) -> None:
    async def say_nothing(node: RelayNode) -> None:
        pass

    async with relay_node(tmp_path, work=say_nothing) as node:
        stream = LiveStream(
            StreamPlan(uri=node.uri, model_id="noop"),
            PictureInput(SIZE, 30, duration_s=60),
            read_key=read_key,
            config=LiveClientConfig(keep_alive_s=0.1, event_gap_s=0.5),
        )
        await stream.run()
    assert "no event from the node for 0.5 s" in str(stream.failure)
    assert node.controls[:3] == [b'{"keep":"alive"}'] * 3


async def test_a_file_with_sound_and_b_frames_is_known_by_its_times(tmp_path: Path) -> None:
    clip = tmp_path / "clip.mp4"
    write_video(clip, "libx264", num_frames=60, with_sound=True)
    async with relay_node(tmp_path) as node:
        stream = LiveStream(
            StreamPlan(uri=node.uri, model_id="noop"),
            FileInput(clip),
            read_key=lambda frame: frame.pts_ticks,
        )
        await stream.run()
    assert stream.failure is None
    assert sorted(frame.key for frame in stream.meter.returns) == [n * 3000 for n in range(60)]


async def test_stopping_ends_the_input_and_still_returns_what_was_sent(tmp_path: Path) -> None:
    async with relay_node(tmp_path) as node:
        stream = LiveStream(
            StreamPlan(uri=node.uri, model_id="noop"),
            PictureInput(SIZE, 30, duration_s=60),
            read_key=read_key,
            on_frame=lambda *_: stream.stop(),
        )
        await stream.run()
    assert stream.failure is None
    assert stream.meter.sent < 300
    assert stream.meter.lost == 0
    assert MANIFEST not in node.channels


async def test_a_node_that_closes_the_output_is_a_failure_with_figures(tmp_path: Path) -> None:
    async def close_after_a_segment(node: RelayNode) -> None:
        names = channel_names(MANIFEST)
        source = LocalSubscriber(node.channels.find(names.publish), 0)
        await (await source.next_segment()).read()
        node.channels.close(names.subscribe)

    async with relay_node(tmp_path, work=close_after_a_segment) as node:
        stream = picture_stream(node, duration_s=30)
        await stream.run()
    assert isinstance(stream.failure, PeerGone)
    assert "closed the output channel" in str(stream.failure)
    assert stream.meter.sent > 0


async def test_a_node_that_closes_the_input_is_a_failure(tmp_path: Path) -> None:
    async def close_input(node: RelayNode) -> None:
        names = channel_names(MANIFEST)
        source = LocalSubscriber(node.channels.find(names.publish), 0)
        await (await source.next_segment()).read()
        node.channels.close(names.publish)

    async with relay_node(tmp_path, work=close_input) as node:
        stream = picture_stream(node, duration_s=30)
        await stream.run()
    assert "closed the input channel" in str(stream.failure)


@pytest.mark.parametrize(
    ("status", "text", "kind"),
    [
        (503, "insufficient capacity\n", NoCapacity),
        (500, "live-video-to-video container returned 400: levels: 2 to 16\n", BadParameters),
    ],
)
async def test_a_refused_job_is_raised_with_the_nodes_words(
    tmp_path: Path, status: int, text: str, kind: type[Exception]
) -> None:
    async with relay_node(tmp_path, refusal=text_response(status, text)) as node:
        with pytest.raises(kind):
            await picture_stream(node).run()


async def test_a_model_that_is_not_offered_is_not_asked_for(tmp_path: Path) -> None:
    async with relay_node(tmp_path, work=relay) as node:
        stream = LiveStream(
            StreamPlan(uri=node.uri, model_id="dream"),
            PictureInput(SIZE, 30, duration_s=1),
            read_key=read_key,
        )
        with pytest.raises(NoCapacity, match="'dream'"):
            await stream.run()
    assert node.requests == []
