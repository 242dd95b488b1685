"""How many choices of LoRAs streams of one model may have at once."""

import pytest
from diffusion_studio import MakeStudio, Studio

from lpnode.errors import BadParameters
from lpnode.pipeline.stream_diffusion.loadouts import SPARE_BYTES


def test_a_stream_whose_loras_do_not_fit_beside_the_others_is_refused(
    make_studio: MakeStudio,
) -> None:
    studio = make_studio(has_lcm_lora=True)
    pipeline = studio.pipeline
    first = pipeline.prepare(studio.params(lora_dict={"ink": 0.5}))
    studio.free_bytes = SPARE_BYTES
    message = r"lora_dict: another choice of LoRAs needs about \d+ MiB .* 2 choices are in use"
    with pytest.raises(BadParameters, match=message):
        pipeline.prepare(studio.params(lora_dict={"ink": 0.6}))
    with pytest.raises(BadParameters, match="use_lcm_lora: another choice"):
        pipeline.prepare(studio.params(use_lcm_lora=False))
    assert len(studio.opened) == 2
    # What is in memory may be shared by any number of streams.
    second = pipeline.prepare(studio.params(lora_dict={"ink": 0.5}))
    plain = pipeline.prepare(studio.params())
    assert len(studio.opened) == 2
    for stream in (first, second, plain):
        pipeline.release(stream)
    studio.free_bytes = 4 * SPARE_BYTES
    pipeline.prepare(studio.params(lora_dict={"ink": 0.6}))
    assert len(studio.opened) == 3


def test_a_stream_that_asks_for_too_much_keeps_the_loras_it_has(studio: Studio) -> None:
    stream = studio.pipeline.prepare(studio.params(lora_dict={"ink": 0.5}))
    before = stream.params
    studio.free_bytes = 0
    with pytest.raises(BadParameters, match="lora_dict: "):
        studio.pipeline.update(stream, studio.params(lora_dict={"ink": 0.9}, prompt="b"))
    assert stream.params is before
    studio.pipeline.update(stream, studio.params())
    assert len(studio.opened) == 2
