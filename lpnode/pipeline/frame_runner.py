"""Pictures in, pictures out: the conversions on both sides of one pipeline run."""

from collections.abc import Sequence
from dataclasses import dataclass

import av

from lpnode.errors import HostError, LpnodeError
from lpnode.media.frame import Colour, Frame
from lpnode.pipeline.failures import as_lpnode_error
from lpnode.pipeline.frame_path import frame_path
from lpnode.pipeline.pipeline import FrameJob, FrameResult, Pipeline, StreamState


@dataclass(frozen=True, slots=True)
class FrameTask:
    """One picture to be processed and where the result goes.

    ``picture`` is yuv420p (or of device memory) of the pipeline's output size; it is overwritten.
    """

    state: StreamState
    frame: Frame
    picture: av.VideoFrame
    colour: Colour


@dataclass(frozen=True, slots=True)
class Shown:
    """What a picture now shows: the frame of this PTS, or the picture before it once more."""

    pts_ticks: int
    is_repeat: bool = False


Outcome = Shown | None | LpnodeError
"""What was written, None if nothing was, or why the frame failed."""


class FrameRunner:
    """Runs batches of pictures on one pipeline, on the pipeline's device thread."""

    def __init__(self, pipeline: Pipeline) -> None:
        self._pipeline = pipeline
        self._path = frame_path(pipeline.spec)
        self.has_failed = False
        """Whether the latest ``Pipeline.run`` raised. May be read from any thread."""

    def enter_thread(self) -> None:
        """Called first of all on the model's thread: chooses the CUDA stream that it works on."""
        self._path.enter_thread()

    def run(self, tasks: Sequence[FrameTask]) -> list[Outcome]:
        """Converts, processes and converts back; at most ``spec.max_batch`` tasks.

        A picture that cannot be converted fails alone; a failing ``Pipeline.run`` fails the whole
        batch, since nothing is known of the states it leaves, and so does a device that fails.
        """
        outcomes = self._enqueue(tasks)
        try:
            # Even after a failure: the device may still be reading the frames.
            self._path.wait()
        except Exception as error:  # noqa: BLE001 - a device's failure ends frames, not the thread
            self.has_failed = True
            failure = as_lpnode_error(error)
            return [o if isinstance(o, LpnodeError) else failure for o in outcomes]
        return outcomes

    def _enqueue(self, tasks: Sequence[FrameTask]) -> list[Outcome]:
        outcomes: list[Outcome] = [None] * len(tasks)
        jobs: dict[int, FrameJob] = {}
        rows: dict[tuple[int, int], int] = {}
        for index, task in enumerate(tasks):
            try:
                jobs[index] = self._job(task, rows)
            except Exception as error:  # noqa: BLE001 - one bad picture must not fail the others
                outcomes[index] = as_lpnode_error(error)
        if not jobs:
            return outcomes
        try:
            results = self._pipeline.run(list(jobs.values()))
        except Exception as error:  # noqa: BLE001 - a pipeline's failure ends frames, not the thread
            self.has_failed = True
            outcomes_of_run: list[Outcome] = [as_lpnode_error(error)] * len(jobs)
        else:
            self.has_failed = False
            outcomes_of_run = [
                self._finish(tasks[index], result)
                for index, result in zip(jobs, results, strict=True)
            ]
        for index, outcome in zip(jobs, outcomes_of_run, strict=True):
            outcomes[index] = outcome
        return outcomes

    def _job(self, task: FrameTask, rows: dict[tuple[int, int], int]) -> FrameJob:
        params = task.state.params
        size = (params.width, params.height)
        row = rows.get(size, 0)
        target = self._pipeline.input_buffer(*size)[row]
        self._path.to_tensor(task.frame, target)
        rows[size] = row + 1
        return FrameJob(task.state, target, task.frame.pts_ticks)

    def _finish(self, task: FrameTask, result: FrameResult | HostError | None) -> Outcome:
        if not isinstance(result, FrameResult):
            return result
        try:
            self._path.to_picture(result.frame, task.picture, task.colour)
        except Exception as error:  # noqa: BLE001 - one bad picture must not fail the others
            return as_lpnode_error(error)
        return Shown(result.pts_ticks, result.is_repeat)
