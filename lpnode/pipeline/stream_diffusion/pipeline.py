"""StreamDiffusion as a pipeline: sessions' frames in, their pictures out.

The way of a frame: ``input_buffer`` → similarity filter → ``StreamGroup.process`` (VAE encoder →
noise → one UNet call for all streams of a group → consistency step → VAE decoder) → result.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any
from weakref import WeakKeyDictionary

import torch

from lpnode.errors import (
    BadParameters,
    DeviceError,
    HostError,
    InvalidArgument,
    OutOfDeviceMemory,
)
from lpnode.pipeline.failures import as_lpnode_error, is_out_of_memory
from lpnode.pipeline.input_buffers import InputBuffers
from lpnode.pipeline.params import BaseParams
from lpnode.pipeline.pipeline import (
    EngineBuild,
    FrameJob,
    FrameResult,
    PipelineSpec,
    StreamState,
)
from lpnode.pipeline.stream_diffusion.call_limit import CallLimit
from lpnode.pipeline.stream_diffusion.conditioning import EncodedPrompts
from lpnode.pipeline.stream_diffusion.frame_graph import FrameNoise
from lpnode.pipeline.stream_diffusion.loadouts import LoadoutHold, Loadouts
from lpnode.pipeline.stream_diffusion.params import StreamDiffusionParams
from lpnode.pipeline.stream_diffusion.served_model import Loadout, LoraChoice, ServedModel
from lpnode.pipeline.stream_diffusion.stream import DiffusionStream
from lpnode.pipeline.stream_diffusion.stream_group import StreamGroup

logger = logging.getLogger(__name__)

Result = FrameResult | HostError | None


class StreamDiffusion:
    """A ``Pipeline`` over one model; its streams share UNet calls and nothing else."""

    def __init__(self, served: ServedModel) -> None:
        self.spec = PipelineSpec(
            device=served.device,
            dtype=served.dtype,
            value_range=(-1.0, 1.0),
            max_batch=served.max_batch,
        )
        self._served = served
        self._inputs = InputBuffers(self.spec)
        self._loadouts = Loadouts(served)
        self._limits = WeakKeyDictionary[StreamGroup, CallLimit]()

    def parse(self, raw: Mapping[str, Any] | None) -> StreamDiffusionParams:
        """See ``Pipeline.parse``; unknown keys are errors. Source: live.md section 7.3."""
        params = self._served.params.parse(raw, self._served.defaults)
        if params.model_id and params.model_id not in self._served.names:
            raise BadParameters(
                f"model_id: expected {' or '.join(self._served.names)}, which is what is served "
                f"here, got {params.model_id!r}; ask for another model by the job's own model id"
            )
        return params

    def output_size(self, params: BaseParams) -> tuple[int, int]:
        """The input's own size."""
        return params.width, params.height

    def is_dynamic(self, old: BaseParams, new: BaseParams) -> bool:
        """Whether weights and the number of frames in flight stay what they are."""
        before, after = _own_params(old), _own_params(new)
        return (
            LoraChoice.of(before) == LoraChoice.of(after)
            and len(before.t_index_list) == len(after.t_index_list)
            and before.use_denoising_batch == after.use_denoising_batch
        )

    def load(self) -> None:
        """Loads the model with the default parameters' LoRAs. Raises: HostError."""
        self._loadouts.get(LoraChoice.of(self.parse(None)))

    def warm(self, params: BaseParams) -> None:
        """Prepares the networks for the size of ``params`` and sends frames through.

        Where frames run as graphs, those of one stream, of two, and so on are captured, so that
        nobody waits for that later.

        Raises: HostError: not even one frame came out, such as for want of memory.
        """
        still = replace(_own_params(params), enable_similar_image_filter=False)
        streams = [self.prepare(still)]
        try:
            if self._served.uses_graphs:
                most = self._limit(_own(streams[0]).group).num_streams
                streams += [self.prepare(still) for _ in range(1, most)]
            frames = self.input_buffer(params.width, params.height).zero_()
            results: list[Result] = []
            # The largest first: in its memory there is room for the others.
            for number in range(len(streams), 0, -1):
                jobs = [FrameJob(one, frames[row], 0) for row, one in enumerate(streams[:number])]
                results = self.run(jobs)
        finally:
            for stream in streams:
                self.release(stream)
        if isinstance(results[0], HostError):
            raise results[0]

    def hold(self, params: BaseParams) -> LoadoutHold | None:
        """See ``Pipeline.hold``: a set of weights with the LoRAs that are asked for."""
        return self._loadouts.hold(_own_params(params))

    def prepare(self, params: BaseParams) -> StreamState:
        """See ``Pipeline.prepare``."""
        try:
            return DiffusionStream(_own_params(params), self._group, self._encode)
        except BaseException as error:  # weights loaded for this stream alone are nobody's now
            self._loadouts.drop_unused()
            if isinstance(error, InvalidArgument):
                raise BadParameters(str(error)) from error
            raise

    def input_buffer(self, width: int, height: int) -> torch.Tensor:
        """See ``Pipeline.input_buffer``."""
        return self._inputs.get(width, height)

    def run(self, batch: Sequence[FrameJob]) -> list[Result]:
        """See ``Pipeline.run``. Streams of one group share their UNet call.

        A group that fails fails alone, unless the device itself has, or nothing came of the batch.
        """
        results: list[Result] = [None] * len(batch)
        waiting: dict[StreamGroup, list[int]] = {}
        for index, job in enumerate(batch):
            stream = _own(job.state)
            if stream.params.skip_diffusion:
                results[index] = FrameResult(job.frame, job.pts_ticks)
            elif _is_passed_over(stream, job.frame):
                results[index] = _repeated(stream, job.pts_ticks)
            else:
                waiting.setdefault(stream.group, []).append(index)
        for group, indices in waiting.items():
            while indices:
                share = indices[: self._limit(group).num_streams]
                jobs = [batch[index] for index in share]
                finished = self._attempt(group, jobs, must_copy=len(share) < len(batch))
                if finished is None:
                    continue
                for index, result in zip(share, finished, strict=True):
                    results[index] = result
                del indices[: len(share)]
        failed = [result for result in results if isinstance(result, _CallFailed)]
        if failed and len(failed) == len(results):
            raise failed[0]  # the model is to blame, as far as anybody can tell
        return results

    def update(self, state: StreamState, params: BaseParams) -> None:
        """See ``Pipeline.update``. A set that cannot be loaded leaves the one before in force."""
        try:
            _own(state).update(_own_params(params))
        except (InvalidArgument, BadParameters) as error:
            raise BadParameters(str(error)) from error
        except Exception as error:
            reason = as_lpnode_error(error)
            raise type(reason)(f"{reason}; the parameters before stay in force") from error
        finally:
            self._loadouts.drop_unused()

    def release(self, state: StreamState) -> None:
        """Ends a stream."""
        _own(state).release()
        self._loadouts.drop_unused()

    async def run_background(self) -> None:
        """Compiles the networks of the first set of weights, if its backend does so.

        Sets of weights with a stream's own LoRAs stay with what serves meanwhile.
        """
        await self._loadouts.run_background()

    def engine_builds(self) -> list[EngineBuild]:
        """See ``Pipeline.engine_builds``."""
        return self._loadouts.engine_builds()

    def unload(self) -> None:
        """Returns the memory of model, networks and streams."""
        self._loadouts.unload()
        self._inputs.clear()

    def _group(self, params: StreamDiffusionParams) -> StreamGroup:
        weights = self._weights(params)
        self._check_size(params, weights)
        return weights.group(params)

    def _check_size(self, params: StreamDiffusionParams, weights: Loadout) -> None:
        """Refuses a size that would take the place of one in use, which takes it back at once.

        Networks would be compiled, or graphs captured, at every frame, while all streams wait.
        """
        size, in_use = (params.width, params.height), self._loadouts.sizes_in_use
        limits = [weights.max_sizes, self._inputs.max_sizes if self._served.uses_graphs else None]
        most = min((limit for limit in limits if limit is not None), default=None)
        if most is None or size in in_use or len(in_use) < most:
            return
        known = ", ".join(f"{width}x{height}" for width, height in sorted(in_use))
        raise BadParameters(
            f"width, height: expected one of the sizes that streams have here now, {known}, since "
            f"{weights.networks_name} keeps no more than {most} ready, got {size[0]}x{size[1]}; "
            "try again when one of these streams has ended"
        )

    def _encode(self, params: StreamDiffusionParams) -> EncodedPrompts:
        return self._weights(params).prompts.encode(params)

    def _weights(self, params: StreamDiffusionParams) -> Loadout:
        return self._loadouts.get(LoraChoice.of(params))

    def _limit(self, group: StreamGroup) -> CallLimit:
        limit = self._limits.get(group)
        if limit is None:
            by_rows = self._served.max_rows // group.key.rows_per_stream
            limit = self._limits[group] = CallLimit(max(1, min(self._served.max_batch, by_rows)))
        return limit

    def _attempt(
        self, group: StreamGroup, jobs: Sequence[FrameJob], *, must_copy: bool
    ) -> list[Result] | None:
        """What one call gives, which may be errors; None: for want of memory, take fewer streams.

        Raises: DeviceError: nothing on the device can be relied on any more.
        """
        limit = self._limit(group)
        try:
            results = self._process(group, jobs, must_copy=must_copy)
        except Exception as error:  # noqa: BLE001 - it ends the frames of these streams alone
            failure = _failure(error)
        else:
            limit.saw_success(len(jobs))
            return results
        for job in jobs:  # what they carry may be a frame ahead already
            _own(job.state).lose_frames()
        if isinstance(failure, OutOfDeviceMemory):
            # The error is gone, and with it what its traceback held on to.
            if torch.device(self.spec.device).type == "cuda":
                torch.cuda.empty_cache()
            if len(jobs) > 1:
                limit.saw_failure(len(jobs))
                logger.warning(
                    "no memory for %d streams in one call, at most %d are tried for a while: %s",
                    len(jobs),
                    limit.num_streams,
                    failure,
                )
                return None
        return [failure] * len(jobs)

    def _process(
        self, group: StreamGroup, jobs: Sequence[FrameJob], *, must_copy: bool
    ) -> list[Result]:
        for job in jobs:
            self._fill(_own(job.state), job)
        pictures, has_failed = self._send_through(group, jobs)
        if must_copy:
            pictures = pictures.clone()  # the next group's call decodes into the same memory
        results: list[Result] = []
        for job, picture, failed in zip(jobs, pictures, has_failed, strict=True):
            stream = _own(job.state)
            shown = stream.take(job.pts_ticks)
            if failed:
                stream.lose_frames()
                results.append(HostError(_NOT_A_NUMBER))
                continue
            stream.keep(picture)
            results.append(None if shown is None else FrameResult(picture, shown))
        return results

    def _fill(self, stream: DiffusionStream, job: FrameJob) -> None:
        """Puts a stream's first frame in every place of its batch. Source: section 11."""
        if not stream.needs_filling:
            return
        for _ in range(stream.num_fills):
            self._send_through(stream.group, [job])
        stream.fill_with(job.pts_ticks)

    def _send_through(
        self, group: StreamGroup, jobs: Sequence[FrameJob]
    ) -> tuple[torch.Tensor, list[bool]]:
        streams = [_own(job.state) for job in jobs]
        slots = [stream.slot for stream in streams]
        frames = [job.frame for job in jobs]
        noise = self._noise(group, streams)
        if not self._served.uses_graphs:
            return group.process(slots, _as_one_batch(frames), noise)
        height, width = frames[0].shape[1:]
        buffer = self.input_buffer(width, height)
        rows = [(frame.data_ptr() - buffer.data_ptr()) // buffer[0].nbytes for frame in frames]
        return group.replay(slots, buffer, rows, noise)

    def _noise(self, group: StreamGroup, streams: Sequence[DiffusionStream]) -> FrameNoise:
        """What a call of these streams needs of fresh noise; of most, nothing."""
        shape, posterior_noise, fresh_noise = group.key.shape, None, None
        if not group.traits.is_tiny_vae:
            posterior_noise = torch.stack([stream.draw(*shape.latent) for stream in streams])
            posterior_noise = posterior_noise.to(self.spec.device, self.spec.dtype)
        if group.key.is_sequential:
            size = (shape.num_steps - 1, *shape.latent)
            fresh_noise = torch.stack([stream.draw(*size) for stream in streams])
            fresh_noise = fresh_noise.to(self.spec.device)
        return posterior_noise, fresh_noise


_NOT_A_NUMBER = "the picture was not a number; what the stream carried was reset"


class _CallFailed(HostError):
    """A call failed for a reason that nobody foresaw."""


def _failure(error: Exception) -> HostError:
    """What the streams of a call are told. Raises: DeviceError: all streams are concerned."""
    reason = as_lpnode_error(error)
    if is_out_of_memory(error):
        return OutOfDeviceMemory(str(reason))
    if isinstance(reason, DeviceError):
        raise reason
    failure = _CallFailed(str(reason))
    failure.__cause__ = error
    return failure


def _is_passed_over(stream: DiffusionStream, frame: torch.Tensor) -> bool:
    similarity = stream.similarity
    return similarity is not None and similarity.skips(frame) and stream.last_picture is not None


def _repeated(stream: DiffusionStream, pts_ticks: int) -> FrameResult | None:
    """The picture before once more; what is in flight stays, and only timestamps move on."""
    shown = stream.take(pts_ticks)
    if shown is None or stream.last_picture is None:
        return None
    return FrameResult(stream.last_picture, shown, is_repeat=True)


def _as_one_batch(frames: Sequence[torch.Tensor]) -> torch.Tensor:
    """Frames as (S, 3, H, W): where they follow each other in memory, that very memory."""
    first = frames[0]
    step = first.numel()
    offset = first.storage_offset()
    if all(
        frame.untyped_storage().data_ptr() == first.untyped_storage().data_ptr()
        and frame.storage_offset() == offset + index * step
        for index, frame in enumerate(frames)
    ):
        return first.as_strided((len(frames), *first.shape), (step, *first.stride()))
    return torch.stack(list(frames))  # others stand between them in the input buffer


def _own_params(params: BaseParams) -> StreamDiffusionParams:
    if not isinstance(params, StreamDiffusionParams):
        raise InvalidArgument(f"expected StreamDiffusionParams, got {type(params).__name__}")
    return params


def _own(state: StreamState) -> DiffusionStream:
    if not isinstance(state, DiffusionStream):
        raise InvalidArgument(f"expected a stream of StreamDiffusion, got {type(state).__name__}")
    return state
