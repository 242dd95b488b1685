"""What a stream, and the others on its model, live through: damaged numbers, too little memory."""

import pytest
import torch
from diffusion_studio import SIDE, MakeStudio, Studio, feed, scene

from lpnode.errors import HostError, OutOfDeviceMemory
from lpnode.pipeline.pipeline import FrameResult


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
    studio.networks.rows.clear()
    feed(studio, *((stream, scene(1), 1) for stream in streams))
    results = feed(studio, *((stream, scene(2), 2) for stream in streams))
    assert all(isinstance(result, FrameResult) for result in results)
    assert studio.networks.rows == [4, 4, 4, 4]


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
    with pytest.raises(RuntimeError, match="illegal instruction"):
        feed(studio, (stream, scene(0), 0))
