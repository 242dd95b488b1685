from dataclasses import fields

import pytest
import torch

from lpnode.errors import BadParameters, InvalidArgument
from lpnode.pipeline.catalog import built_in
from lpnode.pipeline.edge_style import EdgeStyle, EdgeStyleParams
from lpnode.pipeline.params import BaseParams
from lpnode.pipeline.pipeline import FrameJob


def draw(pipeline: EdgeStyle, picture: torch.Tensor, **raw: object) -> torch.Tensor:
    """Runs one (3, H, W) picture through the way a host does."""
    height, width = picture.shape[1:]
    state = pipeline.prepare(pipeline.parse({"width": width, "height": height, **raw}))
    frame = pipeline.input_buffer(width, height)[0]
    frame.copy_(picture)
    (result,) = pipeline.run([FrameJob(state, frame, 90)])
    assert result is not None
    assert result.pts_ticks == 90
    return result.frame.clone()


def halves() -> torch.Tensor:
    """Black on the left, light grey on the right."""
    picture = torch.zeros(3, 384, 448)
    picture[:, :, 224:] = 0.8
    return picture


def noise() -> torch.Tensor:
    return torch.rand(3, 384, 448, generator=torch.Generator().manual_seed(7))


def test_edges_become_ink_and_areas_stay_flat() -> None:
    drawn = draw(EdgeStyle(), halves(), ink="#ff0000", levels=2)
    assert torch.allclose(drawn[:, 100, 224], torch.tensor([1.0, 0.0, 0.0]), atol=1e-4)
    assert torch.equal(drawn[:, 100, 100], torch.zeros(3))
    assert torch.allclose(drawn[:, 100, 400], torch.ones(3), atol=1e-4)


def test_strength_zero_leaves_the_picture_as_it_is() -> None:
    assert torch.allclose(draw(EdgeStyle(), noise(), strength=0), noise(), atol=1e-5)


def test_strength_mixes_the_drawing_with_the_picture() -> None:
    pipeline = EdgeStyle()
    whole = draw(pipeline, noise(), strength=1.0)
    half = draw(pipeline, noise(), strength=0.5)
    assert torch.allclose(half, (whole + noise()) / 2, atol=1e-4)


def test_areas_have_as_many_values_as_levels_says() -> None:
    drawn = draw(EdgeStyle(), noise(), levels=4, threshold=1.0, softness=1.0, ink=[0, 0, 0])
    assert len(torch.unique((drawn * 1000).round())) == 4


def test_the_tint_colours_the_areas() -> None:
    drawn = draw(EdgeStyle(), halves(), tint="#00ff00", levels=2)
    assert torch.allclose(drawn[:, 100, 400], torch.tensor([0.0, 1.0, 0.0]), atol=1e-4)


def test_a_higher_threshold_draws_fewer_lines() -> None:
    ink_only = {"tint": [1, 1, 1], "levels": 256, "ink": [0, 0, 0], "softness": 0.001}
    few = draw(EdgeStyle(), noise(), threshold=0.6, **ink_only)
    many = draw(EdgeStyle(), noise(), threshold=0.1, **ink_only)
    assert (many == 0).sum() > (few == 0).sum() * 2


def test_an_update_takes_effect_with_the_next_frame() -> None:
    pipeline = EdgeStyle()
    state = pipeline.prepare(pipeline.parse({}))
    frame = pipeline.input_buffer(512, 512)[0].fill_(0.9)
    old, new = state.params, pipeline.parse({"tint": "#000000"})
    assert pipeline.is_dynamic(old, new)
    pipeline.update(state, new)
    (result,) = pipeline.run([FrameJob(state, frame, 0)])
    assert result is not None
    assert result.frame.max() == 0
    assert state.params is new


def test_the_result_is_not_the_borrowed_frame() -> None:
    pipeline = EdgeStyle()
    frame = pipeline.input_buffer(512, 512)[0]
    (result,) = pipeline.run([FrameJob(pipeline.prepare(pipeline.parse({})), frame, 0)])
    assert result is not None
    assert result.frame.data_ptr() != frame.data_ptr()


def test_buffers_are_reused_from_frame_to_frame() -> None:
    pipeline = EdgeStyle()
    pipeline.warm(pipeline.parse({}))
    first = pipeline.input_buffer(512, 512).data_ptr()
    for size in (384, 448, 576):
        pipeline.input_buffer(size, size)
        assert pipeline.input_buffer(512, 512).data_ptr() == first


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        ({"strength": 1.5}, "strength: expected a number from 0 to 1, got 1.5"),
        ({"threshold": -0.1}, "threshold: expected a number from 0 to 1, got -0.1"),
        ({"softness": 0}, "softness: expected a number from 0.001 to 1, got 0"),
        ({"levels": 1}, "levels: expected an integer from 2 to 256, got 1"),
        ({"tint": "green"}, 'tint: expected a colour, as "#rrggbb" or three numbers from 0 to 1'),
        ({"ink": [0, 0]}, "ink: expected a colour"),
        ({"width": 500}, "width: expected an integer from 384 to 1024, a multiple of 64, got 500"),
        ({"prompt": "flowers"}, "'prompt': unknown parameter; known: "),
    ],
)
def test_what_is_not_accepted_is_named(raw: dict[str, object], message: str) -> None:
    with pytest.raises(BadParameters) as refusal:
        built_in().create("edge-style", "cpu").parse(raw)
    assert str(refusal.value).startswith(message)


def test_every_default_is_itself_accepted() -> None:
    assert EdgeStyleParams.parse(EdgeStyleParams().as_dict()) == EdgeStyleParams()


def test_every_field_but_the_base_ones_reaches_the_drawing() -> None:
    own = {field.name for field in fields(EdgeStyleParams)} - {
        field.name for field in fields(BaseParams)
    }
    pipeline = EdgeStyle()
    plain = {"strength": 0.9, "ink": "#203040"}
    before = draw(pipeline, noise(), **plain)
    changes: dict[str, object] = {
        "strength": 0.3,
        "threshold": 0.9,
        "softness": 0.9,
        "levels": 2,
        "tint": "#ff0000",
        "ink": "#00ff00",
    }
    assert set(changes) == own
    for name, value in changes.items():
        assert not torch.equal(draw(pipeline, noise(), **{**plain, name: value}), before), name


def test_parameters_of_another_pipeline_are_a_mistake_of_the_caller() -> None:
    with pytest.raises(InvalidArgument, match="expected EdgeStyleParams, got BaseParams"):
        EdgeStyle().prepare(BaseParams())
