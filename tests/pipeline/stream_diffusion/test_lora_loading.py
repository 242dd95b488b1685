"""LoRAs are loaded on a thread of their own, and taken over between two frames."""

import asyncio
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import pytest
from diffusion_studio import Studio, feed, scene, shown
from schedule.conftest import COLOUR, frame, picture
from tiny_diffusion_models import SIDE, LetterEncoder

from lpnode.errors import BadParameters, HostError, ModelError
from lpnode.pipeline.catalog import Catalog
from lpnode.pipeline.frame_runner import Shown
from lpnode.pipeline.pipeline import FrameResult, Hold
from lpnode.pipeline.stream_diffusion.params import SmallStreamDiffusionParams
from lpnode.schedule.local_host import LocalHost, LocalHostConfig


@pytest.fixture
def loader() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(2) as threads:
        yield threads


def held(studio: Studio, params: SmallStreamDiffusionParams) -> Hold:
    hold = studio.pipeline.hold(params)
    assert hold is not None
    return hold


def begun(studio: Studio, hold: Hold, loader: ThreadPoolExecutor) -> "Future[None]":
    studio.may_open.clear()
    studio.is_opening.clear()
    loading = loader.submit(hold.load)
    studio.is_opening.wait()
    return loading


def test_frames_go_on_with_the_weights_before_until_the_others_are_there(
    studio: Studio, loader: ThreadPoolExecutor
) -> None:
    pipeline, inked = studio.pipeline, studio.params(lora_dict={"ink": 0.5}, prompt="b")
    stream, other = (pipeline.prepare(studio.params()) for _ in range(2))
    hold = held(studio, inked)
    assert not hold.is_loaded
    loading = begun(studio, hold, loader)
    for number in range(3):
        results = feed(studio, (stream, scene(number), number), (other, scene(number), number))
    assert all(isinstance(result, FrameResult) for result in results)
    assert len(studio.opened) == 1
    studio.may_open.set()
    loading.result()
    encoder = studio.opened[1][2].prompt_encoder
    assert isinstance(encoder, LetterEncoder)
    assert hold.is_loaded
    num_encoded = encoder.num_encoded
    assert num_encoded
    pipeline.update(stream, inked)
    hold.release()
    assert encoder.num_encoded == num_encoded, "prompts are encoded before, too"
    assert shown(studio, stream, range(3, 6))
    assert len(studio.opened) == 2
    assert studio.opened[1][1].rows
    assert stream.params is inked


def test_weights_that_are_held_stay_though_no_stream_has_them_yet(studio: Studio) -> None:
    params = studio.params(lora_dict={"ink": 0.5})
    first, second = held(studio, params), held(studio, params)
    first.load()
    second.load()
    studio.pipeline.release(studio.pipeline.prepare(studio.params()))
    assert second.is_loaded
    first.release()
    assert second.is_loaded
    second.release()
    assert not second.is_loaded
    assert len(studio.opened) == 1 + 1


def test_the_weights_that_stay_need_no_holding(studio: Studio) -> None:
    assert studio.pipeline.hold(studio.params(prompt="b")) is None
    # There is no LCM-LoRA, so nothing changes without.
    assert studio.pipeline.hold(studio.params(use_lcm_lora=False)) is None


def test_a_load_that_nobody_waits_for_any_more_is_given_up(
    studio: Studio, loader: ThreadPoolExecutor
) -> None:
    hold = held(studio, studio.params(lora_dict={"ink": 0.5}))
    loading = begun(studio, hold, loader)
    hold.release()
    studio.may_open.set()
    with pytest.raises(HostError, match="nobody waits"):
        loading.result()
    with pytest.raises(HostError, match="nobody waits"):
        hold.load()
    assert len(studio.opened) == 1
    assert not hold.is_loaded


def test_a_load_ends_with_the_model(studio: Studio, loader: ThreadPoolExecutor) -> None:
    hold = held(studio, studio.params(lora_dict={"ink": 0.5}))
    loading = begun(studio, hold, loader)
    studio.pipeline.unload()
    studio.may_open.set()
    with pytest.raises(HostError, match="nobody waits"):
        loading.result()
    assert not hold.is_loaded


def test_weights_are_returned_when_their_first_use_fails(
    studio: Studio, monkeypatch: pytest.MonkeyPatch
) -> None:
    hold = held(studio, studio.params(lora_dict={"ink": 0.5}))
    with monkeypatch.context() as patch:
        patch.setattr(LetterEncoder, "encode", lambda self, texts: 1 // 0)
        with pytest.raises(ZeroDivisionError):
            hold.load()
    assert not hold.is_loaded
    with pytest.raises(HostError, match="no model is loaded"):
        studio.opened[1][1].serving(64, 64)


def test_what_went_wrong_is_told_by_the_name_of_the_parameter(studio: Studio) -> None:
    hold = held(studio, studio.params(lora_dict={"ink": 0.5}))
    studio.open_error = ModelError("ink.safetensors: is damaged")
    with pytest.raises(ModelError, match=r"^lora_dict: .*: ink.safetensors: is damaged"):
        hold.load()
    studio.open_error = MemoryError("no more")
    with pytest.raises(HostError, match=r"^lora_dict: .*: MemoryError: no more"):
        hold.load()
    studio.open_error, studio.free_bytes = None, 0
    with pytest.raises(BadParameters, match=r"^lora_dict: another choice of LoRAs needs"):
        hold.load()


def test_one_set_is_loaded_once_for_all_who_wait_for_it(
    studio: Studio, loader: ThreadPoolExecutor
) -> None:
    params = studio.params(lora_dict={"ink": 0.5})
    holds = [held(studio, params), held(studio, params)]
    loading = [begun(studio, holds[0], loader), loader.submit(holds[1].load)]
    studio.may_open.set()
    for each in loading:
        each.result()
    assert len(studio.opened) == 2


async def test_no_stream_of_a_host_waits_for_the_loras_of_another(studio: Studio) -> None:
    host = LocalHost(
        LocalHostConfig(models={"small": True}), Catalog({"small": lambda _: studio.pipeline})
    )
    plain, inked = studio.params(), studio.params(lora_dict={"ink": 0.5})
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(host.run())
        one, two = host.open_stream("small", plain), host.open_stream("small", plain)
        await one.wait_ready()
        await two.wait_ready()
        studio.may_open.clear()
        studio.is_opening.clear()
        updating = tasks.create_task(one.update(inked))
        await asyncio.to_thread(studio.is_opening.wait)
        for stream in (one, two):
            results = [
                await stream.process(frame(pts), picture(SIDE, SIDE), COLOUR) for pts in range(3)
            ]
            assert results[-1] == Shown(1)
        assert one.params is plain
        studio.may_open.set()
        await updating
        assert one.params is inked
        assert await one.process(frame(3), picture(SIDE, SIDE), COLOUR) == Shown(2)
        assert studio.opened[1][1].rows
        running.cancel()
