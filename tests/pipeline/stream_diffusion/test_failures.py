"""What a stream, and the others on its model, live through: damaged numbers, too little memory."""

import gc

import pytest
import torch
from diffusion_studio import MakeStudio, Studio, feed, scene
from tiny_diffusion_models import SIDE, LetterEncoder

from lpnode.errors import ConfigError, DeviceError, HostError, OutOfDeviceMemory
from lpnode.pipeline.pipeline import FrameJob, FrameResult
from lpnode.pipeline.stream_diffusion import call_limit
from lpnode.pipeline.stream_diffusion.call_limit import CallLimit
from lpnode.pipeline.stream_diffusion.served_model import LoraChoice


def test_a_frame_that_is_not_a_number_fails_alone_and_is_forgotten(
    make_studio: MakeStudio,
) -> None:
    studio, control = make_studio(), make_studio()
    sick, well = (studio.pipeline.prepare(studio.params()) for _ in range(2))
    other = control.pipeline.prepare(control.params())
    feed(studio, (sick, scene(0), 0), (well, scene(0), 0))
    results = feed(
        studio, (sick, torch.full((3, SIDE, SIDE), float("nan")), 1), (well, scene(1), 1)
    )
    assert isinstance(results[0], HostError)
    assert "not a number" in str(results[0])
    later = feed(studio, (sick, scene(2), 2), (well, scene(2), 2))
    expected = [feed(control, (other, scene(n), n))[0] for n in range(3)][-1]
    assert isinstance(later[0], FrameResult)
    assert isinstance(later[1], FrameResult)
    assert isinstance(expected, FrameResult)
    assert later[0].pts_ticks == 2
    assert later[0].frame.isfinite().all()
    torch.testing.assert_close(later[1].frame, expected.frame, rtol=0, atol=1e-5)


def test_weights_that_are_not_numbers_fail_every_frame_and_say_so(studio: Studio) -> None:
    stream = studio.pipeline.prepare(studio.params())
    next(iter(studio.opened[0][2].unet.parameters())).fill_(float("nan"))
    results = feed(studio, (stream, scene(0), 0))
    assert "not a number" in str(results[0])


def test_too_little_memory_for_a_batch_makes_smaller_batches(make_studio: MakeStudio) -> None:
    studio = make_studio()
    streams = [studio.pipeline.prepare(studio.params()) for _ in range(4)]
    for stream in streams:
        feed(studio, (stream, scene(0), 0))
    studio.networks.most_images = 2
    # Each stream's batch is filled anew, since nobody knows how far the call that failed had come.
    results = feed(studio, *((stream, scene(1), 1) for stream in streams))
    assert [r.pts_ticks for r in results if isinstance(r, FrameResult)] == [1] * 4
    studio.networks.rows.clear()
    feed(studio, *((stream, scene(2), 2) for stream in streams))
    results = feed(studio, *((stream, scene(3), 3) for stream in streams))
    assert [r.pts_ticks for r in results if isinstance(r, FrameResult)] == [2] * 4
    assert studio.networks.rows == [4, 4, 4, 4]


def test_streams_share_calls_again_once_there_is_memory(
    studio: Studio, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(call_limit, "FIRST_PATIENCE", 2)
    streams = [studio.pipeline.prepare(studio.params(t_index_list=[32])) for _ in range(4)]
    studio.networks.most_images = 2
    seen: list[list[int]] = []
    for number in range(8):
        studio.networks.rows.clear()
        results = feed(studio, *((stream, scene(number), number) for stream in streams))
        assert all(isinstance(result, FrameResult) for result in results)
        seen.append(list(studio.networks.rows))
        studio.networks.most_images = None
    assert seen[1] == [2, 2]
    assert [3, 1] in seen
    assert seen[-1] == [4]


def test_one_stream_more_is_tried_after_many_good_calls_and_ever_more_rarely() -> None:
    limit = CallLimit(8)
    limit.saw_failure(8)
    assert limit.num_streams == 4
    seen = []
    for most in (4, 4, 5):
        patience = 0
        while limit.num_streams == 4:
            limit.saw_success(3)  # says nothing of four
            limit.saw_success(4)
            patience += 1
        seen.append(patience)
        assert limit.num_streams == 5
        if most == 4:
            limit.saw_failure(5)
    limit.saw_success(5)
    assert seen == [2000, 4000, 8000]
    limit.saw_failure(5)  # it worked before: memory has become less
    assert limit.num_streams == 2


def test_too_little_memory_for_a_single_frame_fails_that_frame(studio: Studio) -> None:
    first, second = (studio.pipeline.prepare(studio.params()) for _ in range(2))
    studio.networks.most_images = 0
    results = feed(studio, (first, scene(0), 0), (second, scene(0), 0))
    assert [type(result) for result in results] == [OutOfDeviceMemory] * 2
    studio.networks.most_images = None
    assert isinstance(feed(studio, (first, scene(1), 1))[0], FrameResult)


def test_what_else_goes_wrong_is_the_host_s_affair(studio: Studio) -> None:
    stream = studio.pipeline.prepare(studio.params())
    studio.networks.error = RuntimeError("an illegal instruction")
    with pytest.raises(HostError, match="illegal instruction"):
        feed(studio, (stream, scene(0), 0))
    studio.networks.error = None
    assert isinstance(feed(studio, (stream, scene(1), 1))[0], FrameResult)


@pytest.mark.parametrize(
    "error",
    [ValueError("no such kernel"), ConfigError("no such engine"), MemoryError("not a byte")],
    ids=lambda error: type(error).__name__,
)
def test_what_goes_wrong_in_one_group_costs_the_others_no_frame(
    make_studio: MakeStudio, error: Exception
) -> None:
    studio, control = make_studio(), make_studio()
    sick = [studio.pipeline.prepare(studio.params(width=2 * SIDE)) for _ in range(2)]
    well = studio.pipeline.prepare(studio.params())
    other = control.pipeline.prepare(control.params())
    wide = torch.zeros(3, SIDE, 2 * SIDE)
    for number in range(4):
        studio.networks.errors_by_width = {2 * SIDE: error} if number == 1 else {}
        jobs = [FrameJob(stream, wide, number) for stream in sick]
        buffer = studio.pipeline.input_buffer(SIDE, SIDE)
        buffer[0].copy_(scene(number))
        *results, result = studio.pipeline.run([*jobs, FrameJob(well, buffer[0], number)])
        (expected,) = feed(control, (other, scene(number), number))
        if isinstance(expected, FrameResult):
            assert isinstance(result, FrameResult)
            assert torch.equal(result.frame, expected.frame)
        if number == 1:
            assert all(isinstance(result, HostError) for result in results)
            assert all(str(error) in str(result) for result in results)
        else:  # what was in flight is lost, and the next frame is shown at once
            assert [isinstance(r, FrameResult) for r in results] == [number in (0, 2)] * 2


def test_a_device_that_failed_fails_every_group(studio: Studio) -> None:
    wide = studio.pipeline.prepare(studio.params(width=2 * SIDE))
    square = studio.pipeline.prepare(studio.params())
    studio.networks.errors_by_width = {2 * SIDE: torch.AcceleratorError("CUDA error: 700")}
    frames = torch.zeros(3, SIDE, 2 * SIDE), torch.zeros(3, SIDE, SIDE)
    with pytest.raises(DeviceError, match="CUDA error: 700"):
        studio.pipeline.run([FrameJob(wide, frames[0], 0), FrameJob(square, frames[1], 0)])


def test_a_picture_that_only_the_decoder_damaged_is_not_shown(studio: Studio) -> None:
    stream = studio.pipeline.prepare(studio.params())
    feed(studio, (stream, scene(0), 0))
    vae = studio.opened[0][2].vae
    weight = next(iter(vae.decoder.parameters()))  # type: ignore[union-attr,operator]
    sound = weight.clone()
    weight.fill_(float("nan"))
    result = feed(studio, (stream, scene(1), 1))[0]
    assert isinstance(result, HostError)
    weight.copy_(sound)
    later = feed(studio, (stream, scene(2), 2))[0]
    assert isinstance(later, FrameResult)
    assert later.pts_ticks == 2
    assert later.frame.isfinite().all()


def test_a_frame_that_was_not_decoded_for_want_of_memory_puts_no_other_in_its_place(
    make_studio: MakeStudio,
) -> None:
    studio, control = make_studio(), make_studio()
    stream = studio.pipeline.prepare(studio.params())
    other = control.pipeline.prepare(control.params())
    feed(studio, (stream, scene(0), 0))
    studio.networks.has_no_memory_to_decode = True
    assert isinstance(feed(studio, (stream, scene(1), 1))[0], OutOfDeviceMemory)
    studio.networks.has_no_memory_to_decode = False
    results = [feed(studio, (stream, scene(number), number))[0] for number in (2, 3, 4)]
    expected = [feed(control, (other, scene(number), number))[0] for number in (2, 3, 4)]
    for result, wanted in zip(results, expected, strict=True):
        assert (result is None) == (wanted is None)
        if isinstance(result, FrameResult) and isinstance(wanted, FrameResult):
            assert result.pts_ticks == wanted.pts_ticks
            assert torch.equal(result.frame, wanted.frame)


def test_a_model_that_cannot_make_a_frame_is_not_warm(studio: Studio) -> None:
    studio.networks.most_images = 0
    with pytest.raises(OutOfDeviceMemory):
        studio.pipeline.warm(studio.params())
    studio.networks.most_images = None
    studio.networks.error = RuntimeError("an illegal instruction")
    with pytest.raises(HostError, match="illegal instruction"):
        studio.pipeline.warm(studio.params())
    assert studio.pipeline._loadouts.get(LoraChoice((), use_lcm_lora=True)).is_idle


def test_a_stream_that_cannot_be_prepared_leaves_no_weights_behind(studio: Studio) -> None:
    params = studio.params(lora_dict={"x": 1.0})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(LetterEncoder, "encode", lambda self, texts: 1 // 0)
        with pytest.raises(ZeroDivisionError):
            studio.pipeline.prepare(params)
    studio.pipeline.prepare(params)
    assert len(studio.opened) == 3, "the weights of the stream that failed are gone"


def test_streams_that_come_and_go_leave_nothing_behind(studio: Studio) -> None:
    def come_and_go(number: int) -> int:
        wishes: list[dict[str, object]] = [
            {"t_index_list": [32], "cfg_type": "none"},
            {"enable_similar_image_filter": True},
            {"cfg_type": "full", "guidance_scale": 2.0},
            {"lora_dict": {"x": 1.0}},
        ]
        streams = [studio.pipeline.prepare(studio.params(seed=number, **wish)) for wish in wishes]
        feed(studio, *((stream, scene(0), 0) for stream in streams))
        studio.pipeline.update(streams[0], studio.params(t_index_list=[1, 2, 3]))
        feed(studio, *((stream, scene(1), 1) for stream in streams))
        for stream in streams:
            studio.pipeline.release(stream)
        del streams, stream, studio.opened[1:]
        gc.collect()
        return sum(issubclass(type(kept), torch.Tensor) for kept in gc.get_objects())

    come_and_go(0)  # fills the cache of prompts
    before = come_and_go(1)
    assert [come_and_go(number) for number in (2, 3)] == [before, before]
