"""The denoising batch: frames of several streams at several timesteps in one UNet call.

Note [Slots]
What streams keep between frames lies stacked in one tensor a kind, a slot a stream. A call names
the slots it is for, so that any streams that share a ``BatchShape`` can be rows of one UNet call,
and everything a parameter changes is a value in a slot: nothing is reallocated or compiled anew.

State and arithmetic are float32 whatever the networks compute in, since the division of section
6.4 overflows half floats where a is small (streamdiffusion.md section 17, quirk 7).
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch

from lpnode.errors import InvalidArgument
from lpnode.model.diffusion_model import Prediction
from lpnode.pipeline.stream_diffusion.guidance import GuidanceMode, guided
from lpnode.pipeline.stream_diffusion.schedule import StepCoefficients


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchShape:
    """What streams must have in common to be rows of one UNet call. Sizes in latent pixels."""

    num_steps: int
    mode: GuidanceMode
    height: int
    width: int
    channels: int = 4

    @property
    def num_rows(self) -> int:
        """UNet rows a stream."""
        return self.mode.num_rows(self.num_steps)

    @property
    def latent(self) -> tuple[int, int, int]:
        """(channels, height, width)."""
        return self.channels, self.height, self.width


PredictNoise = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]
"""(R, C, h, w) rows, (R,) timesteps and (S,) slots → the UNet's output for the rows, which are
stream by stream in the order of the slots, negative rows first."""


@dataclass(slots=True)
class _Coefficients:
    """One row a slot: (slots, n), and (slots,) for what a stream has once."""

    timesteps: torch.Tensor
    a: torch.Tensor
    b: torch.Tensor
    c_skip: torch.Tensor
    c_out: torch.Tensor
    guidance_scale: torch.Tensor
    delta: torch.Tensor
    adds_noise: torch.Tensor


class DenoiseBatch:
    """The state of up to ``num_slots`` streams of one shape, and the step that advances it.

    Tensors are of ``dtype`` on ``device``. Nothing in ``noised`` and ``step`` looks at a value on
    the host, so both may be captured into a CUDA graph. Used from one thread.

    Source: streamdiffusion.md sections 3 to 7.
    """

    def __init__(
        self,
        shape: BatchShape,
        num_slots: int,
        *,
        prediction: Prediction = Prediction.EPSILON,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self.shape = shape
        self.num_slots = num_slots
        self._prediction = prediction
        self._dtype = dtype
        n, latent = shape.num_steps, shape.latent

        def zeros(*size: int) -> torch.Tensor:
            return torch.zeros(size, dtype=dtype, device=device)

        self.carried = zeros(num_slots, n - 1, *latent)
        """X: the half-denoised latents between frames, noisiest first."""
        self.init_noise = zeros(num_slots, n, *latent)
        """z: the fixed noise of each row."""
        self.stock_noise = zeros(num_slots, n, *latent)
        """s: the running estimate of each row's noise."""
        self.has_failed = torch.zeros(num_slots, dtype=torch.bool, device=device)
        """Whether the latest step of a slot gave something that is not a number."""
        self._coefficients = _Coefficients(
            *(zeros(num_slots, n) for _ in range(5)), *(zeros(num_slots) for _ in range(3))
        )

    def set_schedule(self, slot: int, coefficients: StepCoefficients) -> None:
        """Sets a slot's timesteps. Raises: InvalidArgument: not ``num_steps`` of them."""
        if len(coefficients.timesteps) != self.shape.num_steps:
            raise InvalidArgument(
                f"expected {self.shape.num_steps} timesteps, got {len(coefficients.timesteps)}"
            )
        for name in ("timesteps", "a", "b", "c_skip", "c_out"):
            table: torch.Tensor = getattr(self._coefficients, name)
            table[slot].copy_(getattr(coefficients, name))

    def set_guidance(self, slot: int, *, guidance_scale: float, delta: float) -> None:
        """Sets g, which counts as 1 below 1, and d."""
        self._coefficients.guidance_scale[slot] = max(1.0, guidance_scale)
        self._coefficients.delta[slot] = delta

    def set_adds_noise(self, slot: int, adds_noise: bool) -> None:
        """Sets whether latents are noised again on their way to the next timestep."""
        self._coefficients.adds_noise[slot] = float(adds_noise)

    def set_noise(self, slot: int, init_noise: torch.Tensor) -> None:
        """Sets z, (n, C, h, w), and forgets s; X is kept. Source: section 15.1."""
        self.init_noise[slot].copy_(init_noise)
        self.stock_noise[slot].zero_()

    def reset(self, slot: int) -> None:
        """Empties what a slot carries from frame to frame."""
        self.carried[slot].zero_()
        self.stock_noise[slot].zero_()
        self.has_failed[slot] = False

    def copy_slots(self, other: "DenoiseBatch") -> None:
        """Takes over every slot of a smaller batch of the same shape."""
        for mine, theirs in zip(self._tables(), other._tables(), strict=True):
            mine[: other.num_slots].copy_(theirs)

    def _tables(self) -> list[torch.Tensor]:
        k = self._coefficients
        return [
            *(self.carried, self.init_noise, self.stock_noise, self.has_failed),
            *(getattr(k, name) for name in k.__slots__),
        ]

    def noised(self, slots: torch.Tensor, latents: torch.Tensor) -> torch.Tensor:
        """a₀·v + b₀·z₀: encoded frames (S, C, h, w) as the step takes them. Source: section 5."""
        k = self._coefficients
        newest = _per_stream(k.a[:, 0].index_select(0, slots)) * latents.to(self._dtype)
        noise = self.init_noise[:, 0].index_select(0, slots)
        return newest + _per_stream(k.b[:, 0].index_select(0, slots)) * noise

    def step(
        self, slots: torch.Tensor, newest: torch.Tensor, predict: PredictNoise
    ) -> torch.Tensor:
        """Takes one frame a stream in and gives the oldest of each out, denoised.

        Args:
            slots: (S,) int64 on the device, no slot twice.
            newest: (S, C, h, w): what ``noised`` gives, or N(0, 1) for text-to-image.
        Returns: (S, C, h, w) clean latents. Where ``has_failed`` is then set for a slot, its
            picture is not to be shown; what the slot carries has been emptied.
        """
        z = self.init_noise.index_select(0, slots)
        stock = self.stock_noise.index_select(0, slots)
        x, stock = self._shifted(slots, newest.to(self._dtype), z, stock)
        e, stock = self._guided(slots, x, stock, predict)
        clean = self._consistent(slots, e, x)
        carried = self._noised_again(slots, clean, z)
        if self.shape.mode.keeps_stock_noise:
            stock = self._next_stock(slots, e, z, stock)
        self._store(slots, clean, carried, stock)
        return clean[:, -1]

    def step_sequentially(
        self,
        slots: torch.Tensor,
        newest: torch.Tensor,
        predict: PredictNoise,
        fresh_noise: torch.Tensor,
    ) -> torch.Tensor:
        """Denoises one frame a stream all the way, in n UNet calls, keeping nothing.

        The batch must have been made for one row a frame: its ``shape.num_steps`` counts timesteps
        here, and each call has ``mode.num_rows(1)`` rows a stream. ``fresh_noise`` is
        (S, n - 1, C, h, w). Source: streamdiffusion.md section 7; z is kept, against quirk 6.
        """
        k = self._coefficients
        x = newest.to(self._dtype)
        stock = torch.zeros_like(x)
        clean = x
        for index in range(self.shape.num_steps):
            steps = slice(index, index + 1)
            e, _ = self._guided(slots, x[:, None], stock[:, None], predict, steps)
            clean = self._consistent(slots, e, x[:, None], steps)[:, 0]
            if index + 1 < self.shape.num_steps:
                following = slice(index + 1, index + 2)
                a, b = (_per_row(t[:, following].index_select(0, slots)) for t in (k.a, k.b))
                noise = _per_row(k.adds_noise.index_select(0, slots)[:, None]) * b
                x = (a * clean[:, None] + noise * fresh_noise[:, steps])[:, 0]
        self.has_failed.index_copy_(0, slots, ~_is_finite(clean))
        return clean

    def _shifted(
        self, slots: torch.Tensor, newest: torch.Tensor, z: torch.Tensor, stock: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Rows of this call: the newest frame first, the carried ones a place further down."""
        if self.shape.num_steps == 1:
            return newest[:, None], stock
        carried = self.carried.index_select(0, slots)
        return (
            torch.cat([newest[:, None], carried], dim=1),
            torch.cat([z[:, :1], stock[:, :-1]], dim=1),
        )

    def _guided(
        self,
        slots: torch.Tensor,
        x: torch.Tensor,
        stock: torch.Tensor,
        predict: PredictNoise,
        steps: slice = slice(None),
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The guided noise of each row, and s, which ``INITIALIZE`` refreshes on the way."""
        k, mode = self._coefficients, self.shape.mode
        timesteps, a, b = (t[:, steps].index_select(0, slots) for t in (k.timesteps, k.a, k.b))
        num_steps = x.shape[1]
        num_negative = mode.num_negative_rows(num_steps)

        def with_negative(rows: torch.Tensor) -> torch.Tensor:
            return torch.cat([rows[:, :num_negative], rows], dim=1) if num_negative else rows

        rows = with_negative(x)
        output = predict(rows.flatten(0, 1), with_negative(timesteps).flatten(), slots)
        output = output.to(self._dtype).view_as(rows)
        if self._prediction is Prediction.V:
            output = _per_row(with_negative(a)) * output + _per_row(with_negative(b)) * rows
        conditional = output[:, num_negative:]
        scale = _per_row(k.guidance_scale.index_select(0, slots)[:, None])
        if mode is GuidanceMode.NONE:
            return conditional, stock
        if mode is GuidanceMode.FULL:
            return guided(conditional, output[:, :num_negative], scale), stock
        if mode is GuidanceMode.INITIALIZE:
            stock = torch.cat([output[:, :1], stock[:, 1:]], dim=1)
        delta = _per_row(k.delta.index_select(0, slots)[:, None])
        return guided(conditional, delta * stock, scale), stock

    def _consistent(
        self, slots: torch.Tensor, e: torch.Tensor, x: torch.Tensor, steps: slice = slice(None)
    ) -> torch.Tensor:
        """cout·(x - b·e)/a + cskip·x for each row."""
        k = self._coefficients
        a, b, c_skip, c_out = (
            _per_row(table[:, steps].index_select(0, slots))
            for table in (k.a, k.b, k.c_skip, k.c_out)
        )
        return c_out * (x - b * e) / a + c_skip * x

    def _noised_again(
        self, slots: torch.Tensor, clean: torch.Tensor, z: torch.Tensor
    ) -> torch.Tensor:
        """X for the next call: every row but the oldest, at the next row's noise."""
        k = self._coefficients
        a, b = (_per_row(table.index_select(0, slots)[:, 1:]) for table in (k.a, k.b))
        adds = _per_row(k.adds_noise.index_select(0, slots)[:, None])
        return a * clean[:, :-1] + adds * b * z[:, 1:]

    def _next_stock(
        self, slots: torch.Tensor, e: torch.Tensor, z: torch.Tensor, stock: torch.Tensor
    ) -> torch.Tensor:
        """s for the next call. Source: streamdiffusion.md section 6.4."""
        k = self._coefficients
        a, b = (table.index_select(0, slots) for table in (k.a, k.b))
        one = torch.ones_like(a[:, :1])
        next_a = _per_row(torch.cat([a[:, 1:], one], dim=1))
        next_b = _per_row(torch.cat([b[:, 1:], one], dim=1))
        residual = self._consistent(slots, e, _per_row(b) * stock)
        return z.roll(-1, dims=1) + next_a * residual / next_b

    def _store(
        self, slots: torch.Tensor, clean: torch.Tensor, carried: torch.Tensor, stock: torch.Tensor
    ) -> None:
        """Keeps what the next call needs, or zeros where anything is not a number (quirk 8)."""
        is_sound = _is_finite(clean) & _is_finite(stock)
        keep = is_sound[:, None, None, None, None]
        self.has_failed.index_copy_(0, slots, ~is_sound)
        self.carried.index_copy_(0, slots, torch.where(keep, carried, 0.0))
        self.stock_noise.index_copy_(0, slots, torch.where(keep, stock, 0.0))


def _per_stream(values: torch.Tensor) -> torch.Tensor:
    """(S,) → (S, 1, 1, 1)."""
    return values[:, None, None, None]


def _per_row(values: torch.Tensor) -> torch.Tensor:
    """(S, n) → (S, n, 1, 1, 1)."""
    return values[:, :, None, None, None]


def _is_finite(values: torch.Tensor) -> torch.Tensor:
    """(S, …) → (S,): whether all of a stream's values are numbers."""
    return torch.isfinite(values).flatten(1).all(dim=1)
