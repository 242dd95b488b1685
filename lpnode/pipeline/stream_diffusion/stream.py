"""What the pipeline keeps for one session, and how new parameters change it."""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import torch

from lpnode.pipeline.stream_diffusion.blending import blend_noise, normalised
from lpnode.pipeline.stream_diffusion.conditioning import EncodedPrompts
from lpnode.pipeline.stream_diffusion.denoise_batch import BatchShape
from lpnode.pipeline.stream_diffusion.params import StreamDiffusionParams
from lpnode.pipeline.stream_diffusion.schedule import StepCoefficients
from lpnode.pipeline.stream_diffusion.similarity import SimilarityFilter
from lpnode.pipeline.stream_diffusion.stream_group import StreamGroup

JoinGroup = Callable[[StreamDiffusionParams], StreamGroup]
"""Finds or makes the group that a parameter set belongs in. Raises: HostError."""
EncodePrompts = Callable[[StreamDiffusionParams], EncodedPrompts]


@dataclass(frozen=True, slots=True)
class _Change:
    """All that a new parameter set needs, made before anything of the stream is touched."""

    coefficients: StepCoefficients
    noise_key: tuple[object, ...]
    noise: torch.Tensor | None
    """None where what lies in the slot stays."""
    prompts: EncodedPrompts
    similarity: SimilarityFilter | None


class DiffusionStream:
    """One session's state. Used from the device's thread.

    Timestamps: what comes out of a call shows the frame that went in n - 1 calls before, and
    carries its PTS. Source: streamdiffusion.md section 12.
    """

    def __init__(
        self, params: StreamDiffusionParams, join: JoinGroup, encode: EncodePrompts
    ) -> None:
        self.params = params
        self.group = join(params)
        self.slot = self.group.join()
        self.needs_filling = True
        """Whether the frames in flight are nobody's, and the next frame is to take their place."""
        self.similarity: SimilarityFilter | None = None
        self.last_picture: torch.Tensor | None = None
        """A copy of what was shown last, for frames that are passed over."""
        self._join = join
        self._encode = encode
        self._in_flight: deque[int] = deque()
        self._last_pts: int | None = None
        self._noise_key: tuple[object, ...] | None = None
        """What the noise in the slot was drawn from."""
        self._generator = torch.Generator()
        try:
            self._apply(params, self._prepare(params, self.group))
        except BaseException:  # nobody else gives the slot back
            self.group.leave(self.slot)
            raise

    def update(self, params: StreamDiffusionParams) -> None:
        """Takes a full parameter set over, all or nothing.

        Only what changed is computed anew. Frames in flight stay, so that the first n - 1 pictures
        after a change of prompt mix both; they are lost where the number of steps changes.

        Raises: InvalidArgument, HostError: nothing has changed.
        Source: streamdiffusion.md sections 13, 15.1 and 17, quirk 5.
        """
        group = self._join(params)
        change = self._prepare(params, group)
        if group is not self.group:
            self._move_to(group)
        self._apply(params, change)

    def release(self) -> None:
        """Gives the slot back."""
        self.group.leave(self.slot)

    @property
    def num_fills(self) -> int:
        """How often the first frame goes in before one comes out. Source: section 11."""
        key = self.group.key
        keeps_something = key.steps_per_call > 1 or key.shape.mode.keeps_stock_noise
        return key.steps_per_call if keeps_something and not key.is_sequential else 0

    def fill_with(self, pts_ticks: int) -> None:
        """Notes that every frame in flight is the one with this timestamp."""
        self._in_flight = deque([pts_ticks] * (self.group.key.steps_per_call - 1))
        self.needs_filling = False

    def draw(self, *size: int) -> torch.Tensor:
        """Fresh N(0, 1), float32 on the host: the same numbers whatever the device."""
        return torch.randn(size, generator=self._generator)

    def take(self, pts_ticks: int) -> int | None:
        """Notes that a frame went in; the PTS of the one that comes out, if it is another one."""
        self._in_flight.append(pts_ticks)
        shown = self._in_flight.popleft()
        if shown == self._last_pts:
            return None
        self._last_pts = shown
        return shown

    def lose_frames(self) -> None:
        """Has the next frame fill the batch, since what was in flight is gone."""
        self.needs_filling = True
        if self.similarity is not None:
            self.similarity.forget()

    def keep(self, picture: torch.Tensor) -> None:
        """Copies a picture, which the networks overwrite with the next, if it may be shown again.

        Only where the similarity filter is on.
        """
        if self.similarity is None:
            self.last_picture = None
        elif self.last_picture is None or self.last_picture.shape != picture.shape:
            self.last_picture = picture.clone()
        else:
            self.last_picture.copy_(picture)

    def _prepare(self, params: StreamDiffusionParams, group: StreamGroup) -> _Change:
        similarity = self.similarity
        if params.similarity != (similarity.config if similarity else None):
            config = params.similarity
            similarity = SimilarityFilter(config, seed=params.seed[0][0]) if config else None
        noise_key = (
            params.seed,
            params.seed_interpolation_method,
            params.normalize_seed_weights,
            _kind_of_state(group),
        )
        return _Change(
            coefficients=StepCoefficients.of(
                params.t_index_list, params.num_inference_steps, is_one_step_turbo=False
            ),
            noise_key=noise_key,
            noise=None if noise_key == self._noise_key else init_noise(params, group.key.shape),
            prompts=self._encode(params),
            similarity=similarity,
        )

    def _move_to(self, group: StreamGroup) -> None:
        """Takes a slot in another group; frames in flight come along if it has as many steps."""
        old, old_slot = self.group, self.slot
        self.slot = group.join()
        old.leave(old_slot)
        self.group = group
        if _kind_of_state(old) == _kind_of_state(group):
            for name in ("carried", "init_noise", "stock_noise"):
                table: torch.Tensor = getattr(group.batch, name)
                table[self.slot].copy_(getattr(old.batch, name)[old_slot])
        else:
            self.lose_frames()

    def _apply(self, params: StreamDiffusionParams, change: _Change) -> None:
        batch, slot = self.group.batch, self.slot
        batch.set_schedule(slot, change.coefficients)
        batch.set_guidance(slot, guidance_scale=params.guidance_scale, delta=params.delta)
        batch.set_adds_noise(slot, params.do_add_noise)
        if change.noise is not None:
            batch.set_noise(slot, change.noise)
            # One generator draws z and then what frames need; ``init_noise`` has one of its own.
            self._generator.manual_seed(params.seed[0][0])
            self.draw(*change.noise.shape)
            self._noise_key = change.noise_key
        size = (params.width, params.height)
        self.group.conditioning.set_slot(slot, change.prompts, size)
        if change.similarity is None or change.similarity is not self.similarity:
            self.last_picture = None
        self.similarity = change.similarity
        if self.similarity is not None and params != self.params:
            self.similarity.forget()  # the picture of a still scene must change too
        if params.skip_diffusion != self.params.skip_diffusion:
            self.lose_frames()  # those in flight are older than what is shown meanwhile
        self.params = params


def _kind_of_state(group: StreamGroup) -> tuple[object, ...]:
    """What groups must have in common for a stream to take its state from one to another."""
    key = group.key
    return key.shape.num_steps, key.shape.latent, key.is_sequential


def init_noise(params: StreamDiffusionParams, shape: BatchShape) -> torch.Tensor:
    """z of a parameter set: (n, C, h, w) float32, the same on every device.

    Source: streamdiffusion.md sections 3 and 15.3.
    """
    weights = [weight for _, weight in params.seed]
    if params.normalize_seed_weights:
        weights = normalised(weights)
    noises = [
        torch.randn((shape.num_steps, *shape.latent), generator=torch.Generator().manual_seed(seed))
        for seed, _ in params.seed
    ]
    return blend_noise(
        noises,
        weights,
        params.seed_interpolation_method,
        keeps_norm=params.normalize_seed_weights,
    )
