"""The published toy streams, in both precisions, and what a slot keeps and forgets."""

from collections.abc import Sequence

import pytest
import torch

from lpnode.model.diffusion_model import Prediction
from lpnode.pipeline.stream_diffusion.denoise_batch import BatchShape, DenoiseBatch
from lpnode.pipeline.stream_diffusion.guidance import GuidanceMode
from lpnode.pipeline.stream_diffusion.schedule import StepCoefficients

NUM_STEPS_OF_GRID = 50
CONDITIONAL, NEGATIVE = 0.1, -0.2
TOLERANCE = 1e-6

# streamdiffusion.md section 18: scalar latents, identity VAE, K = [32, 45], g = 1.4, d = 0.9.
TWO_STEPS = {
    "none": [-0.051080231, 0.118033387, 0.259998631, 0.401963874, 0.543929118],
    "full": [-0.092081086, -0.033185861, 0.108779383, 0.250744627, 0.392709870],
    "self": [-0.071512324, 0.096450309, 0.195961781, 0.295473253, 0.394984725],
    "initialize": [-0.071512324, -0.206092439, -0.072322035, 0.061448370, 0.195218774],
}
TWO_STEPS_WITHOUT_NOISE = [-0.071512324, 0.170269352, 0.269780824, 0.369292296, 0.468803768]
FOUR_STEPS = {
    "self": [
        -0.061296278,
        -0.653112256,
        -2.203555835,
        -6.718840735,
        -6.730704629,
        -6.742568523,
        -6.754432416,
    ],
    "initialize": [
        -0.061296278,
        -0.653112256,
        -2.203555835,
        -7.263078967,
        -7.227264767,
        -7.191450567,
        -7.155636367,
    ],
}
ONE_STEP = [-0.109068343, 0.033883801, 0.176835945, 0.319788089, 0.462740233]

both_precisions = pytest.mark.parametrize("dtype", [torch.float64, torch.float32])


class Toy:
    """ε(x, t, e) = 0.3·x + 0.0005·t + e on scalar latents; counts calls and rows."""

    def __init__(self, shape: BatchShape) -> None:
        self._shape = shape
        self.rows: list[int] = []

    def __call__(
        self, x: torch.Tensor, timesteps: torch.Tensor, slots: torch.Tensor
    ) -> torch.Tensor:
        per_stream = len(x) // len(slots)
        num_negative = self._shape.mode.num_negative_rows(self._shape.num_steps)
        texts = torch.full((per_stream,), CONDITIONAL, dtype=x.dtype)
        texts[:num_negative] = NEGATIVE
        self.rows.append(len(x))
        e = texts.repeat(len(slots))
        return 0.3 * x + (0.0005 * timesteps + e)[:, None, None, None]


def toy_batch(
    mode: str,
    t_index_list: Sequence[int],
    noise: Sequence[float],
    *,
    guidance_scale: float = 1.0,
    delta: float = 1.0,
    adds_noise: bool = True,
    dtype: torch.dtype = torch.float64,
    num_slots: int = 1,
) -> tuple[DenoiseBatch, Toy]:
    shape = BatchShape(
        num_steps=len(t_index_list), mode=GuidanceMode(mode), height=1, width=1, channels=1
    )
    batch = DenoiseBatch(shape, num_slots, dtype=dtype)
    coefficients = StepCoefficients.of(t_index_list, NUM_STEPS_OF_GRID, is_one_step_turbo=False)
    for slot in range(num_slots):
        batch.set_schedule(slot, coefficients)
        batch.set_guidance(slot, guidance_scale=guidance_scale, delta=delta)
        batch.set_adds_noise(slot, adds_noise)
        batch.set_noise(slot, torch.tensor(noise, dtype=dtype).view(-1, 1, 1, 1))
    return batch, Toy(shape)


def slots_of(*indices: int) -> torch.Tensor:
    return torch.tensor(indices)


def frame_of(batch: DenoiseBatch, *values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=batch.init_noise.dtype).view(-1, 1, 1, 1)


def outputs(batch: DenoiseBatch, toy: Toy, inputs: Sequence[float], slot: int = 0) -> list[float]:
    slots = slots_of(slot)
    return [
        batch.step(slots, batch.noised(slots, frame_of(batch, value)), toy).item()
        for value in inputs
    ]


def tenths(*values: int) -> list[float]:
    return [value / 10 for value in values]


@both_precisions
@pytest.mark.parametrize("mode", list(TWO_STEPS))
def test_two_steps_give_the_published_outputs(mode: str, dtype: torch.dtype) -> None:
    batch, toy = toy_batch(mode, [32, 45], (0.5, -0.25), guidance_scale=1.4, delta=0.9, dtype=dtype)
    got = outputs(batch, toy, tenths(2, 4, 6, 8, 10))
    assert got == pytest.approx(TWO_STEPS[mode], abs=TOLERANCE)


@both_precisions
def test_noise_may_be_left_out_between_steps(dtype: torch.dtype) -> None:
    batch, toy = toy_batch(
        "self",
        [32, 45],
        (0.5, -0.25),
        guidance_scale=1.4,
        delta=0.9,
        adds_noise=False,
        dtype=dtype,
    )
    got = outputs(batch, toy, tenths(2, 4, 6, 8, 10))
    assert got == pytest.approx(TWO_STEPS_WITHOUT_NOISE, abs=TOLERANCE)


@both_precisions
@pytest.mark.parametrize("mode", list(FOUR_STEPS))
def test_four_steps_give_the_published_outputs(mode: str, dtype: torch.dtype) -> None:
    batch, toy = toy_batch(
        mode, [0, 16, 32, 45], (0.5, -0.25, 0.1, -0.6), guidance_scale=1.2, dtype=dtype
    )
    got = outputs(batch, toy, tenths(2, 4, 6, 8, 10, 12, 14))
    # Outputs reach 7 here, where neighbouring float32 numbers are 5e-7 apart.
    assert got == pytest.approx(FOUR_STEPS[mode], abs=TOLERANCE, rel=TOLERANCE)


@both_precisions
def test_one_step_carries_nothing_between_frames(dtype: torch.dtype) -> None:
    batch, toy = toy_batch("none", [16], (0.5,), dtype=dtype)
    assert outputs(batch, toy, tenths(2, 4, 6, 8, 10)) == pytest.approx(ONE_STEP, abs=TOLERANCE)
    assert batch.carried.numel() == 0


def test_the_state_between_frames_is_the_published_one() -> None:
    batch, toy = toy_batch("self", [32, 45], (0.5, -0.25), guidance_scale=1.4, delta=0.9)
    outputs(batch, toy, [0.2])
    assert batch.stock_noise.flatten().tolist() == pytest.approx(
        [-0.011662873, 0.428487676], abs=TOLERANCE
    )
    assert batch.carried.item() == pytest.approx(0.185486925, abs=TOLERANCE)
    outputs(batch, toy, [0.4])
    assert batch.stock_noise.flatten().tolist() == pytest.approx(
        [-0.186975376, 0.396450285], abs=TOLERANCE
    )
    assert batch.carried.item() == pytest.approx(0.318062296, abs=TOLERANCE)


@pytest.mark.parametrize(
    ("mode", "num_rows"), [("none", 4), ("self", 4), ("initialize", 5), ("full", 8)]
)
def test_the_unet_is_called_once_a_frame_with_the_rows_of_the_mode(
    mode: str, num_rows: int
) -> None:
    batch, toy = toy_batch(mode, [0, 16, 32, 45], [0.1] * 4, guidance_scale=1.5)
    outputs(batch, toy, [0.2, 0.4])
    assert toy.rows == [num_rows, num_rows]


@pytest.mark.parametrize("mode", list(GuidanceMode))
@pytest.mark.parametrize("guidance_scale", [-1.0, 0.0, 1.0])
def test_a_scale_that_guides_nothing_gives_the_unguided_output(
    mode: GuidanceMode, guidance_scale: float
) -> None:
    noise, inputs = (0.5, -0.25), tenths(2, 4, 6)
    plain, plain_toy = toy_batch("none", [32, 45], noise)
    guided, guided_toy = toy_batch(
        mode.active(guidance_scale), [32, 45], noise, guidance_scale=guidance_scale
    )
    assert outputs(guided, guided_toy, inputs) == outputs(plain, plain_toy, inputs)
    assert guided_toy.rows == plain_toy.rows


def test_streams_in_one_call_get_what_they_would_get_alone() -> None:
    together, toy = toy_batch("initialize", [32, 45], (0.5, -0.25), num_slots=3, guidance_scale=1.4)
    together.set_guidance(2, guidance_scale=2.0, delta=0.5)
    together.set_noise(2, torch.tensor([0.3, 0.9], dtype=torch.float64).view(2, 1, 1, 1))
    slots = slots_of(2, 0)
    got = [
        together.step(slots, together.noised(slots, frame_of(together, mine, theirs)), toy)
        for mine, theirs in [(0.2, -0.7), (0.4, 0.1), (0.6, 0.3)]
    ]
    first, first_toy = toy_batch("initialize", [32, 45], (0.3, 0.9), guidance_scale=2.0, delta=0.5)
    second, second_toy = toy_batch("initialize", [32, 45], (0.5, -0.25), guidance_scale=1.4)
    assert [row[0].item() for row in got] == outputs(first, first_toy, [0.2, 0.4, 0.6])
    assert [row[1].item() for row in got] == outputs(second, second_toy, [-0.7, 0.1, 0.3])
    assert together.carried[1].abs().sum() == 0
    assert toy.rows == [6, 6, 6]


def test_new_noise_empties_the_stock_and_keeps_frames_in_flight() -> None:
    batch, toy = toy_batch("self", [32, 45], (0.5, -0.25), guidance_scale=1.4)
    outputs(batch, toy, [0.2, 0.4])
    carried = batch.carried.clone()
    batch.set_noise(0, torch.tensor([0.7, 0.8], dtype=torch.float64).view(2, 1, 1, 1))
    assert batch.stock_noise.abs().sum() == 0
    assert torch.equal(batch.carried, carried)


@pytest.mark.parametrize("mode", ["none", "self"])
def test_what_is_not_a_number_is_noticed_at_once_and_is_gone_with_the_next_frame(mode: str) -> None:
    batch, toy = toy_batch(mode, [32, 45], (0.5, -0.25), guidance_scale=1.4, num_slots=2)
    slots = slots_of(0, 1)

    def noticed(first: float, second: float) -> list[bool]:
        batch.step(slots, batch.noised(slots, frame_of(batch, first, second)), toy)
        return batch.has_failed.tolist()

    assert noticed(0.2, 0.2) == [False, False]
    assert noticed(float("nan"), 0.4) == [True, False]
    assert noticed(0.4, 0.6) == [False, False]
    assert batch.carried[0].isfinite().all()
    assert batch.stock_noise[0].isfinite().all()


def test_a_network_that_predicts_velocity_gives_the_same_frames() -> None:
    noise_batch, toy = toy_batch("full", [16, 32], (0.5, -0.25), guidance_scale=1.4)
    velocity_batch, _ = toy_batch("full", [16, 32], (0.5, -0.25), guidance_scale=1.4)
    velocity_batch._prediction = Prediction.V
    coefficients = StepCoefficients.of([16, 32], NUM_STEPS_OF_GRID, is_one_step_turbo=False)
    known = dict(
        zip(
            coefficients.timesteps.tolist(),
            zip(coefficients.a.tolist(), coefficients.b.tolist(), strict=True),
            strict=True,
        )
    )

    def velocity(x: torch.Tensor, timesteps: torch.Tensor, slots: torch.Tensor) -> torch.Tensor:
        a, b = (
            torch.tensor([known[t][which] for t in timesteps.tolist()], dtype=x.dtype)
            for which in (0, 1)
        )
        return (toy(x, timesteps, slots) - b.view(-1, 1, 1, 1) * x) / a.view(-1, 1, 1, 1)

    slots = slots_of(0)
    for value in tenths(2, 4, 6):
        frame = frame_of(noise_batch, value)
        expected = noise_batch.step(slots, noise_batch.noised(slots, frame), toy)
        got = velocity_batch.step(slots, velocity_batch.noised(slots, frame), velocity)
        torch.testing.assert_close(got, expected, rtol=0, atol=1e-12)


def test_sequential_mode_denoises_a_frame_in_one_go_and_keeps_nothing() -> None:
    batch, toy = toy_batch("none", [0, 16, 32], (0.5, 0.1, 0.2))
    slots, fresh = slots_of(0), torch.tensor([-0.3, 0.4], dtype=torch.float64).view(1, 2, 1, 1, 1)
    before = batch.init_noise.clone()
    newest = batch.noised(slots, frame_of(batch, 0.2))
    got = batch.step_sequentially(slots, newest, toy, fresh).item()

    k = StepCoefficients.of([0, 16, 32], NUM_STEPS_OF_GRID, is_one_step_turbo=False)
    x = float(k.a[0]) * 0.2 + float(k.b[0]) * 0.5
    for index in range(3):
        e = 0.3 * x + 0.0005 * float(k.timesteps[index]) + CONDITIONAL
        clean = float(k.c_out[index]) * (x - float(k.b[index]) * e) / float(k.a[index])
        clean += float(k.c_skip[index]) * x
        if index < 2:
            noise = (-0.3, 0.4)[index]
            x = float(k.a[index + 1]) * clean + float(k.b[index + 1]) * noise
    assert got == pytest.approx(clean, abs=1e-12)
    assert toy.rows == [1, 1, 1]
    assert torch.equal(batch.init_noise, before)
    assert batch.carried.abs().sum() == 0
    assert batch.stock_noise.abs().sum() == 0
