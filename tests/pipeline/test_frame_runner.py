"""Batches of pictures through a pipeline, on the host and through a device."""

from collections.abc import Sequence

import av
import numpy as np
import pytest
import torch
from coded_streams import moving_picture

from lpnode.errors import DeviceError, InvalidArgument, LpnodeError
from lpnode.media.frame import Colour, Frame, Matrix
from lpnode.pipeline.frame_runner import FrameRunner, FrameTask, Shown
from lpnode.pipeline.input_buffers import InputBuffers
from lpnode.pipeline.passthrough import Passthrough
from lpnode.pipeline.pipeline import FrameJob, FrameResult, PipelineSpec, StreamState

COLOUR = Colour(Matrix.BT601, False)
SIZES = [(320, 240), (640, 360), (320, 240), (98, 66)]
ALL_SHOWN = [Shown(index) for index in range(len(SIZES))]


class Batching(Passthrough):
    """Takes four frames at once, and fails when told to."""

    def __init__(self, device: str) -> None:
        super().__init__(device)
        self.spec = PipelineSpec(device, torch.float16, (-1.0, 1.0), max_batch=4)
        self._inputs = InputBuffers(self.spec)
        self.failure: Exception | None = None

    def run(self, batch: Sequence[FrameJob]) -> list[FrameResult | None]:
        if self.failure is not None:
            raise self.failure
        return super().run(batch)


def stream(pipeline: Passthrough) -> StreamState:
    return pipeline.prepare(pipeline.parse({"width": 384, "height": 384}))


def tasks(pipeline: Passthrough) -> list[FrameTask]:
    """One for each of ``SIZES``, each of a stream of its own."""
    return [
        FrameTask(
            stream(pipeline),
            Frame(moving_picture(index, *size), index, COLOUR),
            av.VideoFrame(384, 384, "yuv420p"),
            COLOUR,
        )
        for index, size in enumerate(SIZES)
    ]


def luma(picture: av.VideoFrame) -> np.ndarray:
    plane = picture.planes[0]
    return np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)[:, : picture.width]


def test_every_frame_of_a_batch_comes_back_to_its_own_picture() -> None:
    pipeline = Batching("cpu")
    runner = FrameRunner(pipeline)
    batch = tasks(pipeline)
    assert runner.run(batch) == ALL_SHOWN
    for task in batch:
        alone = FrameTask(task.state, task.frame, av.VideoFrame(384, 384, "yuv420p"), COLOUR)
        runner.run([alone])
        assert (luma(alone.picture) == luma(task.picture)).all()


def test_a_picture_that_cannot_be_converted_fails_alone() -> None:
    pipeline = Batching("cpu")
    batch = tasks(pipeline)
    strange = Frame(av.VideoFrame(64, 64, "yuv444p"), 9, COLOUR)
    batch[1] = FrameTask(batch[1].state, strange, batch[1].picture, COLOUR)
    outcomes = FrameRunner(pipeline).run(batch)
    assert isinstance(outcomes[1], InvalidArgument)
    assert [outcomes[0], *outcomes[2:]] == [Shown(0), Shown(2), Shown(3)]


def test_a_failing_pipeline_fails_the_batch_and_not_the_next() -> None:
    pipeline = Batching("cpu")
    runner = FrameRunner(pipeline)
    pipeline.failure = ValueError("no")
    assert all(isinstance(outcome, LpnodeError) for outcome in runner.run(tasks(pipeline)))
    assert runner.has_failed
    pipeline.failure = None
    assert runner.run(tasks(pipeline)) == ALL_SHOWN
    assert not runner.has_failed


def test_a_device_that_fails_late_fails_the_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    pipeline = Batching("cpu")
    runner = FrameRunner(pipeline)

    def wait() -> None:
        raise torch.AcceleratorError("an illegal memory access was encountered")

    monkeypatch.setattr(runner._path, "wait", wait)
    assert all(isinstance(outcome, DeviceError) for outcome in runner.run(tasks(pipeline)))
    assert runner.has_failed


@pytest.mark.gpu
def test_a_device_gives_the_hosts_pictures() -> None:
    pictures = {}
    stream_before = torch.cuda.current_stream()
    try:
        for device in ("cpu", "cuda"):
            pipeline = Batching(device)
            runner = FrameRunner(pipeline)
            runner.enter_thread()
            for _ in range(3):
                batch = tasks(pipeline)
                assert runner.run(batch) == ALL_SHOWN
            pictures[device] = [luma(task.picture).astype(int) for task in batch]
        assert torch.cuda.current_stream() != stream_before
    finally:
        torch.cuda.set_stream(stream_before)
    for host, device in zip(pictures["cpu"], pictures["cuda"], strict=True):
        assert np.abs(host - device).max() <= 1


@pytest.mark.gpu
def test_a_batch_allocates_nothing_and_waits_for_no_device() -> None:
    pipeline = Batching("cuda")
    runner = FrameRunner(pipeline)
    batch = tasks(pipeline)
    runner.run(batch)
    num_allocations = torch.cuda.memory_stats()["allocation.all.allocated"]
    torch.cuda.set_sync_debug_mode("error")
    try:
        assert runner.run(batch) == ALL_SHOWN
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert torch.cuda.memory_stats()["allocation.all.allocated"] == num_allocations
