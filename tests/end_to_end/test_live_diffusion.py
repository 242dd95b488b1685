"""Diffusion on live video, through a whole node process: the model that ships, on this machine."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import av
import numpy as np
import psutil
import pytest
from end_to_end.whole_node import scrape
from numpy.typing import NDArray

from lpnode.command.node_process import NodeProcess
from lpnode.command.stream import frame_number
from lpnode.gateway.live_stream import LiveStream, StreamPlan, Update
from lpnode.gateway.picture_input import PictureInput
from lpnode.media.frame import Frame
from lpnode.media.test_source import MovingPicture

MODEL = "lpnode/shapes"
SIZE, FPS = (320, 240), 15
RED, GREEN = "a red circle on a white background", "a green square on a black background"

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]


class StillInput(PictureInput):
    """A camera in front of something that does not move."""

    def __init__(self, *, duration_s: float) -> None:
        super().__init__(SIZE, FPS, duration_s=duration_s)
        self._source = _Still(*SIZE)


class _Still(MovingPicture):
    def draw(self, number: int, picture: av.VideoFrame | None = None) -> av.VideoFrame:
        return super().draw(0, picture)


class Watched:
    """One stream through a node of its own, and what it cost the node."""

    def __init__(self) -> None:
        self.pictures: dict[int, NDArray[np.uint8]] = {}
        self.samples: dict[str, float] = {}
        self.cpu_s = 0.0
        self.errors: list[str] = []

    def take(self, number: int, frame: Frame) -> None:
        self.pictures[number] = frame.picture.to_ndarray(format="rgb24")

    def mean_colour(self, numbers: range) -> NDArray[np.float64]:
        """Of the frames that came back of these."""
        seen = [self.pictures[number] for number in numbers if number in self.pictures]
        assert seen, f"no frame of {numbers} came back"
        return np.asarray(np.mean(seen, axis=(0, 1, 2)))


async def watch(
    folder: Path,
    media: PictureInput,
    params: Mapping[str, Any],
    updates: Mapping[float, Mapping[str, Any]],
) -> Watched:
    watched = Watched()
    words = ("-aiModels", f"live-video-to-video:{MODEL}:true")
    async with NodeProcess(folder / "data", folder / "log.txt", words) as node:
        process = psutil.Process(node.pid)
        before = process.cpu_times()
        stream = LiveStream(
            StreamPlan(
                uri=node.service_uri,
                model_id=MODEL,
                params=params,
                updates=[Update(at_s, dict(update)) for at_s, update in updates.items()],
            ),
            media,
            read_key=frame_number(FPS),
            on_frame=watched.take,
        )
        await stream.run()
        after = process.cpu_times()
        watched.samples = await scrape(node.operator_uri)
    watched.cpu_s = after.user + after.system - before.user - before.system
    watched.errors = stream.events.errors
    assert stream.failure is None
    return watched


async def test_a_prompt_that_changes_in_mid_stream_changes_the_pictures(tmp_path: Path) -> None:
    moving = PictureInput(SIZE, FPS, duration_s=6)
    bad = {"prompt": RED, "t_index_list": [90]}
    watched = await watch(tmp_path, moving, {"prompt": RED}, {1.0: bad, 3.0: {"prompt": GREEN}})
    assert {picture.shape for picture in watched.pictures.values()} == {(128, 128, 3)}
    numbers = list(watched.pictures)
    assert numbers == sorted(set(numbers))
    # Parameters that cannot be used leave the stream as it was, and are named.
    assert any("t_index_list" in error for error in watched.errors)
    before = watched.mean_colour(range(0, 3 * FPS))
    after = watched.mean_colour(range(4 * FPS, 6 * FPS))
    print(f"\n{len(numbers)} of {6 * FPS} frames; mean colour {before} → {after}")
    assert before[0] - before[1] > after[0] - after[1] + 10  # redder before, greener after
    assert before.mean() > after.mean() + 20  # a white background before, a black one after


async def test_of_a_still_scene_most_frames_cost_next_to_nothing(tmp_path: Path) -> None:
    """Skip rate and processor time with the similarity filter and without it."""
    costs = {}
    for name, is_on in (("with", True), ("without", False)):
        params = {"prompt": RED, "enable_similar_image_filter": is_on}
        folder = tmp_path / name
        folder.mkdir()
        watched = await watch(folder, StillInput(duration_s=5), params, {})
        repeated = watched.samples.get("lpnode_frames_total repeated", 0.0)
        costs[name] = (watched.cpu_s, repeated, watched.samples["lpnode_frames_total sent"])
        print(f"\n{name} the filter: {watched.cpu_s:.1f} s of CPU, {repeated:g} repeated")
    cpu_s, repeated, sent = costs["with"]
    assert repeated >= 0.8 * sent
    assert costs["without"][1] == 0
    assert cpu_s < costs["without"][0]
