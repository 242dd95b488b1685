"""Streams on one model: timestamps, batches, updates, and what happens when something fails."""

import pytest
import torch
from diffusion_studio import MakeStudio, Studio, feed, pictures, scene, shown
from tiny_diffusion_models import SIDE
from torch import Tensor

from lpnode.errors import BadParameters, ConfigError, HostError, NotBuilt
from lpnode.pipeline.backend.onnxruntime_networks import OnnxRuntimeNetworks
from lpnode.pipeline.pipeline import FrameJob, FrameResult
from lpnode.pipeline.stream_diffusion.stream import DiffusionStream


@pytest.mark.parametrize("t_index_list", [[32], [16, 32], [5, 16, 32, 40]])
def test_a_picture_carries_the_timestamp_of_the_frame_it_shows(
    studio: Studio, t_index_list: list[int]
) -> None:
    stream = studio.pipeline.prepare(studio.params(t_index_list=t_index_list))
    lag = len(t_index_list) - 1
    results = [feed(studio, (stream, scene(number), number))[0] for number in range(7)]
    first, suppressed, others = results[0], results[1 : lag + 1], results[lag + 1 :]
    # The first frame fills the batch, so that it is shown at once; then the lag begins.
    assert isinstance(first, FrameResult)
    assert first.pts_ticks == 0
    assert suppressed == [None] * lag
    assert [r.pts_ticks for r in others if isinstance(r, FrameResult)] == list(range(1, 7 - lag))


def test_one_unet_call_a_frame_has_all_rows_of_all_streams(studio: Studio) -> None:
    streams = [studio.pipeline.prepare(studio.params()) for _ in range(3)]
    feed(studio, *((stream, scene(0), 0) for stream in streams))
    studio.networks.rows.clear()
    feed(studio, *((stream, scene(1), 1) for stream in streams))
    assert studio.networks.rows == [6]


def test_more_streams_than_rows_make_several_calls(make_studio: MakeStudio) -> None:
    studio = make_studio(max_rows=4)
    streams = [studio.pipeline.prepare(studio.params(prompt=p)) for p in "abc"]
    feed(studio, *((stream, scene(0), 0) for stream in streams))
    studio.networks.rows.clear()
    together = feed(studio, *((stream, scene(1), 1) for stream in streams))
    assert studio.networks.rows == [4, 2]
    assert together == [None] * 3
    later = [
        r.frame
        for r in feed(studio, *((stream, scene(2), 2) for stream in streams))
        if isinstance(r, FrameResult)
    ]
    alone = make_studio()
    for picture, prompt in zip(later, "abc", strict=True):
        stream = alone.pipeline.prepare(alone.params(prompt=prompt))
        expected = shown(alone, stream, range(3))[-1].frame
        torch.testing.assert_close(picture, expected, rtol=0, atol=1e-5)


def test_streams_share_calls_and_nothing_else(make_studio: MakeStudio) -> None:
    studio = make_studio()
    wishes = [
        {"prompt": "red", "seed": 1},
        {"prompt": "blue", "seed": 2, "guidance_scale": 1.8, "delta": 0.5},
        {"prompt": "red", "seed": 1, "cfg_type": "full", "guidance_scale": 2.0},
    ]
    streams = [studio.pipeline.prepare(studio.params(**wish)) for wish in wishes]
    together: list[list[Tensor]] = [[], [], []]
    for number in range(4):
        frames = [(s, scene(10 * n + number), number) for n, s in enumerate(streams)]
        for got, result in zip(together, feed(studio, *frames), strict=True):
            if isinstance(result, FrameResult):
                got.append(result.frame)
    for n, wish in enumerate(wishes):
        alone = make_studio()
        stream = alone.pipeline.prepare(alone.params(**wish))
        results = [feed(alone, (stream, scene(10 * n + k), k))[0] for k in range(4)]
        expected = [r.frame for r in results if isinstance(r, FrameResult)]
        torch.testing.assert_close(
            torch.stack(together[n]), torch.stack(expected), rtol=0, atol=1e-5
        )


@pytest.mark.parametrize("is_tiny_vae", [True, False])
def test_the_same_seed_and_frames_give_bit_identical_pictures(
    make_studio: MakeStudio, is_tiny_vae: bool
) -> None:
    def once(seed: int) -> Tensor:
        studio = make_studio(is_tiny_vae=is_tiny_vae)
        stream = studio.pipeline.prepare(studio.params(seed=seed))
        return pictures(shown(studio, stream, range(4)))

    assert torch.equal(once(3), once(3))
    assert not torch.equal(once(3), once(4))


def test_a_change_of_prompt_loses_no_frame_and_touches_embeddings_alone(
    make_studio: MakeStudio,
) -> None:
    studio, control = make_studio(), make_studio()
    stream = studio.pipeline.prepare(studio.params(prompt="red"))
    other = control.pipeline.prepare(control.params(prompt="red"))
    shown(studio, stream, range(4))
    shown(control, other, range(4))
    num_calls = len(studio.networks.rows)
    studio.pipeline.update(stream, studio.params(prompt="blue"))
    after, unchanged = shown(studio, stream, range(4, 7)), shown(control, other, range(4, 7))
    assert [r.pts_ticks for r in after] == [3, 4, 5]
    assert len(studio.networks.rows) == num_calls + 3
    assert not torch.equal(pictures(after), pictures(unchanged))
    # A prompt that comes back finds everything else as it would have been.
    studio.pipeline.update(stream, studio.params(prompt="red"))
    assert studio.encoder.num_encoded == 3  # red, blue, and the negative prompt


def test_texts_are_encoded_once(studio: Studio) -> None:
    stream = studio.pipeline.prepare(studio.params(prompt=[["a", 1], ["b", 1]]))
    for weight in (1, 2, 3):
        studio.pipeline.update(stream, studio.params(prompt=[["a", weight], ["b", 1]]))
    shown(studio, stream, range(3))
    assert studio.encoder.num_encoded == 3


def test_new_parameters_are_taken_over_whole_or_not_at_all(make_studio: MakeStudio) -> None:
    studio, control = make_studio(), make_studio()
    stream = studio.pipeline.prepare(studio.params())
    other = control.pipeline.prepare(control.params())
    shown(studio, stream, range(3))
    shown(control, other, range(3))
    studio.open_error = HostError("lora 'x': no such file")
    before = stream.params
    with pytest.raises(HostError, match="no such file; the parameters before stay in force"):
        studio.pipeline.update(
            stream, studio.params(prompt="new", lora_dict={"x": 1.0}, guidance_scale=2.0)
        )
    assert stream.params is before
    assert torch.equal(
        pictures(shown(studio, stream, range(3, 6))), pictures(shown(control, other, range(3, 6)))
    )


@pytest.mark.parametrize(
    ("wish", "name"),
    [({"lora_dict": {"x": 1.0}}, "lora_dict"), ({"use_lcm_lora": False}, "use_lcm_lora")],
)
@pytest.mark.parametrize(
    "failure", [ConfigError("no such folder"), NotBuilt("no such part"), OSError("no such file")]
)
def test_whatever_keeps_weights_from_being_loaded_is_put_down_to_the_field(
    make_studio: MakeStudio, wish: dict[str, object], name: str, failure: Exception
) -> None:
    studio = make_studio(has_lcm_lora=True)
    stream = studio.pipeline.prepare(studio.params())
    studio.open_error = failure
    before = stream.params
    with pytest.raises(HostError, match=f"^{name}: .*{failure}; the parameters before stay"):
        studio.pipeline.update(stream, studio.params(**wish))
    with pytest.raises(HostError, match=f"^{name}: .*{failure}"):
        studio.pipeline.prepare(studio.params(**wish))
    assert stream.params is before
    assert shown(studio, stream, range(1))


def test_streams_with_other_loras_have_weights_of_their_own(studio: Studio) -> None:
    plain = studio.pipeline.prepare(studio.params())
    styled = studio.pipeline.prepare(studio.params(lora_dict={"style": 0.5}))
    results = feed(studio, (plain, scene(0), 0), (styled, scene(0), 0))
    assert [choice.loras for choice, _, _ in studio.opened] == [(), (("style", 0.5),)]
    first, second = results
    assert isinstance(first, FrameResult)
    assert isinstance(second, FrameResult)
    assert not torch.equal(first.frame, second.frame)
    studio.pipeline.update(styled, studio.params())
    shared = feed(studio, (plain, scene(1), 1), (styled, scene(0), 1))
    assert shared[0] is None
    again = studio.pipeline.prepare(studio.params(lora_dict={"style": 0.5}))
    assert len(studio.opened) == 3  # the weights nobody used were dropped
    studio.pipeline.release(again)


@pytest.mark.parametrize(
    "wish",
    [
        {"t_index_list": [32]},
        {"t_index_list": [5, 16, 32, 40]},
        {"use_denoising_batch": False},
        {"num_inference_steps": 25, "t_index_list": [3, 20]},
        {"cfg_type": "full", "guidance_scale": 2.0},
        {"cfg_type": "initialize", "guidance_scale": 2.0},
        {"do_add_noise": False},
        {"delta": 2.0, "guidance_scale": 1.5},
        {"seed": [[1, 0.5], [2, 0.5]]},
        {"skip_diffusion": True},
    ],
    ids=str,
)
def test_every_parameter_may_change_between_two_frames(
    studio: Studio, wish: dict[str, object]
) -> None:
    stream = studio.pipeline.prepare(studio.params())
    shown(studio, stream, range(3))
    studio.pipeline.update(stream, studio.params(**wish))
    after = shown(studio, stream, range(3, 12))
    assert len(after) >= 6
    assert [r.pts_ticks for r in after] == sorted({r.pts_ticks for r in after})
    assert pictures(after).isfinite().all()
    studio.pipeline.update(stream, studio.params())
    assert len(shown(studio, stream, range(12, 16))) >= 2


def test_only_what_reloads_or_restarts_the_batch_is_not_dynamic(studio: Studio) -> None:
    old = studio.params()
    is_dynamic = studio.pipeline.is_dynamic
    assert is_dynamic(old, studio.params(prompt="x", seed=5, guidance_scale=3, delta=1))
    assert is_dynamic(old, studio.params(t_index_list=[1, 2], enable_similar_image_filter=True))
    assert not is_dynamic(old, studio.params(t_index_list=[1, 2, 3]))
    assert not is_dynamic(old, studio.params(lora_dict={"x": 1}))
    assert not is_dynamic(old, studio.params(use_denoising_batch=False))


def test_frames_that_look_alike_are_answered_with_the_picture_before(studio: Studio) -> None:
    params = studio.params(enable_similar_image_filter=True)
    stream = studio.pipeline.prepare(params)
    results = [feed(studio, (stream, scene(0), number))[0] for number in range(13)]
    assert [r.is_repeat for r in results if isinstance(r, FrameResult)][:3] == [False, True, True]
    # One to fill with, one of its own, one that is forced after eleven were skipped.
    assert len(studio.networks.rows) == 2 + 1 + 1
    repeats = [r for r in results if isinstance(r, FrameResult) and r.is_repeat]
    assert len(repeats) == 10  # of eleven: the first of them had a timestamp that was shown already
    assert all(torch.equal(r.frame, repeats[0].frame) for r in repeats)


def test_a_frame_that_is_passed_over_leaves_the_state_as_it_was(make_studio: MakeStudio) -> None:
    studio, control = make_studio(), make_studio()
    stream = studio.pipeline.prepare(studio.params(enable_similar_image_filter=True))
    other = control.pipeline.prepare(control.params())
    for number, pts in ((0, 0), (0, 1), (0, 2), (1, 3), (1, 4), (2, 5)):
        feed(studio, (stream, scene(number), pts))
    for number in range(3):
        feed(control, (other, scene(number), number))
    last = feed(studio, (stream, scene(3), 6))[0]
    expected = feed(control, (other, scene(3), 3))[0]
    assert isinstance(last, FrameResult)
    assert isinstance(expected, FrameResult)
    assert torch.equal(last.frame, expected.frame)


def test_a_still_scene_shows_new_parameters_at_once(studio: Studio) -> None:
    wish = {"enable_similar_image_filter": True, "t_index_list": [32]}
    stream = studio.pipeline.prepare(studio.params(**wish))
    before = [feed(studio, (stream, scene(0), n))[0] for n in range(3)][-1]
    studio.pipeline.update(stream, studio.params(prompt="other", **wish))
    after = feed(studio, (stream, scene(0), 3))[0]
    assert isinstance(before, FrameResult)
    assert isinstance(after, FrameResult)
    assert before.is_repeat
    assert not after.is_repeat
    assert not torch.equal(before.frame, after.frame)


def test_frames_may_go_past_the_networks(studio: Studio) -> None:
    stream = studio.pipeline.prepare(studio.params(skip_diffusion=True))
    result = feed(studio, (stream, scene(0), 5))[0]
    assert isinstance(result, FrameResult)
    assert torch.equal(result.frame, scene(0))
    assert studio.networks.rows == []


def test_sequential_mode_has_a_call_a_step_and_no_lag(studio: Studio) -> None:
    stream = studio.pipeline.prepare(studio.params(use_denoising_batch=False))
    results = shown(studio, stream, range(3))
    assert [r.pts_ticks for r in results] == [0, 1, 2]
    assert studio.networks.rows == [1] * 6


def test_a_group_grows_with_its_streams(studio: Studio) -> None:
    streams = [studio.pipeline.prepare(studio.params(seed=seed)) for seed in range(6)]
    first = feed(studio, (streams[0], scene(0), 0))[0]
    results = feed(studio, *((stream, scene(0), 1) for stream in streams[1:]))
    assert isinstance(first, FrameResult)
    frames = [first.frame, *(r.frame for r in results if isinstance(r, FrameResult))]
    assert len(frames) == 6
    assert not any(torch.equal(frames[0], frame) for frame in frames[1:])


def test_a_model_id_other_than_the_served_one_is_refused(studio: Studio) -> None:
    assert studio.params(model_id="test/small").model_id == "test/small"
    with pytest.raises(BadParameters, match=r"model_id: expected small or test/small.*got 'big'"):
        studio.params(model_id="big")


@pytest.mark.parametrize("is_tiny_vae", [True, False])
@pytest.mark.parametrize("wish", [{}, {"use_denoising_batch": False}], ids=str)
def test_a_frame_as_one_graph_gives_the_very_same_pictures(
    make_studio: MakeStudio, is_tiny_vae: bool, wish: dict[str, object]
) -> None:
    def run(*, uses_graphs: bool) -> list[object]:
        studio = make_studio(is_tiny_vae=is_tiny_vae, uses_graphs=uses_graphs)
        streams = [
            studio.pipeline.prepare(studio.params(prompt=prompt, seed=seed, **wish))
            for seed, prompt in enumerate(("a", "b"))
        ]
        got = feed(studio, (streams[1], scene(0), 0))
        for number in (1, 2, 3):
            got += feed(studio, *((stream, scene(number), number) for stream in streams))
        # Another order of rows, and one stream that has left.
        got += feed(studio, (streams[1], scene(4), 4), (streams[0], scene(5), 4))
        studio.pipeline.release(streams[0])
        return got + feed(studio, (streams[1], scene(6), 5))

    plain, graphed = run(uses_graphs=False), run(uses_graphs=True)
    for expected, result in zip(plain, graphed, strict=True):
        assert (result is None) == (expected is None)
        if isinstance(expected, FrameResult) and isinstance(result, FrameResult):
            assert result.pts_ticks == expected.pts_ticks
            assert torch.equal(result.frame, expected.frame)


@pytest.mark.parametrize("uses_graphs", [False, True])
def test_every_stream_of_a_batch_may_have_a_size_of_its_own(
    make_studio: MakeStudio, uses_graphs: bool
) -> None:
    studio = make_studio(uses_graphs=uses_graphs)
    sizes = [(64 * width, 64 * height) for width in (1, 2, 3) for height in (1, 2)]
    jobs = []
    for pts_ticks, (width, height) in enumerate(sizes):
        stream = studio.pipeline.prepare(studio.params(width=width, height=height))
        frame = studio.pipeline.input_buffer(width, height)[0].fill_(0.5)
        jobs.append(FrameJob(stream, frame, pts_ticks))
    results = studio.pipeline.run(jobs)
    got = [r.frame.shape[:0:-1] for r in results if isinstance(r, FrameResult)]
    assert [tuple(size) for size in got] == sizes


def test_time_never_goes_back_when_diffusion_comes_back(studio: Studio) -> None:
    stream = studio.pipeline.prepare(studio.params())
    results = shown(studio, stream, range(3))
    studio.pipeline.update(stream, studio.params(skip_diffusion=True))
    results += shown(studio, stream, range(3, 6))
    studio.pipeline.update(stream, studio.params())
    results += shown(studio, stream, range(6, 9))
    assert [r.pts_ticks for r in results] == [0, 1, 3, 4, 5, 6, 7]


@pytest.mark.parametrize(("has_lcm_lora", "num_loaded"), [(False, 1), (True, 2)])
def test_weights_are_loaded_twice_only_where_an_lcm_lora_makes_a_difference(
    make_studio: MakeStudio, has_lcm_lora: bool, num_loaded: int
) -> None:
    studio = make_studio(has_lcm_lora=has_lcm_lora)
    studio.pipeline.prepare(studio.params(use_lcm_lora=False))
    assert len(studio.opened) == num_loaded


_STEPS = {"t_index_list": [5, 16, 32]}
_STEP = {"t_index_list": [32]}
_IN_TURN = {"use_denoising_batch": False}
_GUIDED = {"cfg_type": "full", "guidance_scale": 2.0}


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (_STEPS | _IN_TURN, _STEP),
        (_STEP | _IN_TURN, _STEPS | _GUIDED),
        (_STEP, _STEP | _IN_TURN),
        (_STEPS | _IN_TURN, _STEPS | _IN_TURN | _GUIDED),
    ],
    ids=str,
)
def test_a_stream_may_go_from_one_kind_of_batch_to_another(
    studio: Studio, before: dict[str, object], after: dict[str, object]
) -> None:
    stream, fresh = (studio.pipeline.prepare(studio.params(**wish)) for wish in (before, after))
    assert isinstance(stream, DiffusionStream)
    assert isinstance(fresh, DiffusionStream)
    shown(studio, stream, range(2))
    studio.pipeline.update(stream, studio.params(**after))
    noise = [s.group.batch.init_noise[s.slot] for s in (stream, fresh)]
    assert torch.equal(*noise)
    numbers = [[r.pts_ticks for r in shown(studio, s, range(2, 7))] for s in (stream, fresh)]
    assert numbers[0] == numbers[1]


def test_what_frames_draw_goes_on_behind_the_noise_of_the_stream(make_studio: MakeStudio) -> None:
    studio = make_studio(is_tiny_vae=False)
    stream = studio.pipeline.prepare(studio.params(seed=6, t_index_list=[16, 32]))
    assert isinstance(stream, DiffusionStream)
    latent = stream.group.key.shape.latent
    generator = torch.Generator().manual_seed(6)
    noise = torch.randn((2, *latent), generator=generator)
    assert torch.equal(stream.group.batch.init_noise[stream.slot], noise)
    assert torch.equal(stream.draw(*latent), torch.randn(latent, generator=generator))


@pytest.mark.parametrize("uses_graphs", [False, True])
def test_a_size_that_would_take_the_place_of_one_in_use_is_refused_until_a_stream_ends(
    make_studio: MakeStudio, uses_graphs: bool
) -> None:
    """Compiled networks are kept for so many sizes, and graphs know so many input buffers."""
    studio = make_studio(uses_graphs=uses_graphs, max_batch=2)
    if not uses_graphs:
        studio.networks.max_sizes = OnnxRuntimeNetworks().max_sizes
    studio.pipeline.warm(studio.params(width=5 * SIDE))  # nobody's size is in nobody's way
    sizes = [(SIDE * number, SIDE) for number in (1, 2, 3, 4)]
    streams = [studio.pipeline.prepare(studio.params(width=w, height=h)) for w, h in sizes]
    with pytest.raises(BadParameters, match=r"^width, height: .*64x64, .*, got 64x128"):
        studio.pipeline.prepare(studio.params(height=2 * SIDE))
    same = studio.pipeline.prepare(studio.params())
    studio.pipeline.update(streams[1], studio.params(width=2 * SIDE, prompt="new"))
    studio.pipeline.release(streams[0])
    with pytest.raises(BadParameters, match="width, height"):
        studio.pipeline.prepare(studio.params(height=2 * SIDE))
    studio.pipeline.release(same)
    studio.pipeline.prepare(studio.params(height=2 * SIDE))


def test_a_warm_model_has_captured_the_graphs_of_every_number_of_streams(
    make_studio: MakeStudio,
) -> None:
    studio = make_studio(uses_graphs=True, max_batch=4)
    studio.pipeline.warm(studio.params())
    rows = studio.opened[0][1].rows
    streams = [studio.pipeline.prepare(studio.params(seed=seed)) for seed in range(3)]
    feed(studio, *((stream, scene(0), 0) for stream in streams))
    for number in (3, 2, 1):
        rows.clear()
        feed(studio, *((stream, scene(number), number) for stream in streams[:number]))
        assert len(rows) == 1  # a capture would begin with further calls
