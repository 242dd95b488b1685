"""Streams that share UNet calls, and the way of their frames through the three networks."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from lpnode.model.diffusion_model import ModelTraits
from lpnode.pipeline.backend.networks import Networks
from lpnode.pipeline.stream_diffusion.conditioning import ConditioningRows
from lpnode.pipeline.stream_diffusion.denoise_batch import BatchShape, DenoiseBatch
from lpnode.pipeline.stream_diffusion.frame_graph import FrameGraphs, FrameNoise

FIRST_SLOTS = 16
"""Slots of a new group; their number doubles when they are taken, and graphs are captured anew."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupKey:
    """What streams must have in common to share UNet calls."""

    shape: BatchShape
    is_sequential: bool = False
    """All steps of a frame one after the other, in a call each."""

    @property
    def steps_per_call(self) -> int:
        """Denoising steps that one UNet call makes for each stream."""
        return 1 if self.is_sequential else self.shape.num_steps

    @property
    def rows_per_stream(self) -> int:
        """UNet rows that one call has for each stream."""
        return self.shape.mode.num_rows(self.steps_per_call)


@dataclass(slots=True)
class _Tables:
    batch: DenoiseBatch
    conditioning: ConditioningRows


class StreamGroup:
    """One denoising batch with the networks that it runs on. Used from the device's thread."""

    def __init__(self, key: GroupKey, networks: Networks, traits: ModelTraits) -> None:
        self.key = key
        self.traits = traits
        self._networks = networks
        self._tables = self._make_tables(FIRST_SLOTS)
        self._free = list(range(FIRST_SLOTS))
        self._graphs: FrameGraphs | None = None
        self._graphs_of: object = None
        """What the graphs were captured from; compiled networks may take over meanwhile."""

    @property
    def batch(self) -> DenoiseBatch:
        """The state of the group's streams; another object after a ``join``."""
        return self._tables.batch

    @property
    def conditioning(self) -> ConditioningRows:
        """The prompts of the group's streams; another object after a ``join``."""
        return self._tables.conditioning

    @property
    def is_empty(self) -> bool:
        """Whether no stream is in the group."""
        return len(self._free) == self.batch.num_slots

    def join(self) -> int:
        """Takes a slot for a stream; what lies in it is undefined but for the reset state."""
        if not self._free:
            self._grow()
        slot = self._free.pop(0)
        self.batch.reset(slot)
        return slot

    def leave(self, slot: int) -> None:
        """Gives a slot back."""
        self._free.append(slot)

    def process(
        self, slots: Sequence[int], images: torch.Tensor, noise: FrameNoise
    ) -> tuple[torch.Tensor, list[bool]]:
        """Takes one frame of each stream in and gives the oldest of each out.

        Args:
            images: (S, 3, H, W) in [-1, 1], in the order of ``slots``.
            noise: for the encoder, see ``Networks.encode``; and in sequential mode
                (S, n - 1, C, h, w), for where something is added between steps.
        Returns: pictures (S, 3, H, W), valid until the networks decode again; and for each stream
            whether its picture is not a number, and neither it nor the state is to be used.
        Source: streamdiffusion.md section 5.
        """
        index = torch.tensor(slots, device=self._networks.device)
        pictures, has_failed = self._pass(index, images, noise)
        return pictures, has_failed.tolist()

    def replay(
        self, slots: Sequence[int], buffer: torch.Tensor, rows: Sequence[int], noise: FrameNoise
    ) -> tuple[torch.Tensor, list[bool]]:
        """``process`` for some rows of the input buffer; see Note [One graph a frame].

        Waits for the device, once.
        """
        graphs = self._graphs
        height, width = buffer.shape[2:]
        serving = self._networks.serving(width, height)
        is_current = graphs is not None and self._graphs_of is serving
        if graphs is None or not is_current or graphs.images.data_ptr() != buffer.data_ptr():
            self._drop_graphs()
            self._graphs_of = serving
            batch = self.batch
            state = (batch.carried, batch.stock_noise, batch.has_failed)
            graphs = self._graphs = FrameGraphs(self._pass, state, buffer)
        pictures, has_failed = graphs.replay(rows, slots, noise)
        return pictures, has_failed.tolist()

    def release(self) -> None:
        """Returns the memory of captured graphs."""
        self._drop_graphs()

    def _drop_graphs(self) -> None:
        if self._graphs is not None:
            self._graphs.release()
            self._graphs = None
        self._graphs_of = None

    def _pass(
        self, slots: torch.Tensor, images: torch.Tensor, noise: FrameNoise
    ) -> tuple[torch.Tensor, torch.Tensor]:
        networks, batch = self._networks, self.batch
        posterior_noise, fresh_noise = noise
        newest = batch.noised(slots, networks.encode(images, posterior_noise))
        if self.key.is_sequential:
            assert fresh_noise is not None
            latents = batch.step_sequentially(slots, newest, self._predict, fresh_noise)
        else:
            latents = batch.step(slots, newest, self._predict)
        pictures = networks.decode(latents.to(networks.dtype))
        # One sum a picture finds what half floats could not hold within the decoder.
        is_sound = pictures.flatten(1).sum(dim=1, dtype=torch.float32).isfinite()
        return pictures, batch.has_failed.index_select(0, slots) | ~is_sound

    def _predict(
        self, rows: torch.Tensor, timesteps: torch.Tensor, slots: torch.Tensor
    ) -> torch.Tensor:
        return self._networks.predict(
            rows.to(self._networks.dtype), timesteps.float(), self.conditioning.gather(slots)
        )

    def _make_tables(self, num_slots: int) -> _Tables:
        device = self._networks.device
        return _Tables(
            DenoiseBatch(
                self.key.shape, num_slots, prediction=self.traits.prediction, device=device
            ),
            ConditioningRows(
                self.traits,
                self.key.shape.mode,
                self.key.steps_per_call,
                num_slots,
                device=device,
                dtype=self._networks.dtype,
            ),
        )

    def _grow(self) -> None:
        self._drop_graphs()  # they know the addresses of the tables that are outgrown
        old, num_slots = self._tables, self.batch.num_slots
        self._tables = self._make_tables(2 * num_slots)
        self._tables.batch.copy_slots(old.batch)
        self._tables.conditioning.copy_slots(old.conditioning)
        self._free = list(range(num_slots, 2 * num_slots))
