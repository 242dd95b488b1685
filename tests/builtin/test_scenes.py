"""What the renderer draws is what captions say, and the geometry finds it again."""

import numpy as np
import pytest

from lpnode.builtin.caption import caption
from lpnode.builtin.clutter import clutter
from lpnode.builtin.edits import sample_edit
from lpnode.builtin.geometry import count_things, find
from lpnode.builtin.render import render
from lpnode.builtin.scene import (
    BACKGROUND,
    NUM_CHANCES,
    PLACE,
    SIZE,
    contrast,
    redrawn,
    sample_scene,
    single,
)
from lpnode.builtin.vocabulary import PALETTE, SHAPES, STYLES, TEXTURES, words


def test_a_seed_draws_the_same_picture_again() -> None:
    pictures = []
    for _ in range(2):
        rng = np.random.default_rng(7)
        pictures.append(np.stack([render(sample_scene(rng), rng=rng) for _ in range(5)]))
    assert np.array_equal(*pictures)


def test_every_word_of_a_caption_is_in_the_vocabulary() -> None:
    rng, known = np.random.default_rng(0), set(words())
    for _ in range(500):
        text = caption(sample_scene(rng), rng).text
        assert set(text.replace(",", " ,").split()) <= known, text


def test_a_caption_says_all_that_is_never_left_to_chance() -> None:
    rng = np.random.default_rng(1)
    for _ in range(300):
        scene = sample_scene(rng)
        text = caption(scene, rng).text
        for item in scene.items:
            assert item.shape in text
            assert item.colour in text
            assert (item.texture in text) == (item.texture in TEXTURES)
        assert (scene.style in text) == (scene.style in STYLES)


def test_what_a_caption_says_is_not_open() -> None:
    rng = np.random.default_rng(2)
    for _ in range(300):
        scene = sample_scene(rng)
        words_said = caption(scene, rng, is_exact=False)
        is_said = "background" in words_said.text or " on " in words_said.text.replace(
            " on the", ""
        )
        assert words_said.is_open[BACKGROUND].any() != is_said, words_said.text
        if len(scene.items) == 1:
            says_size = words_said.text.replace(",", "").split()
            assert words_said.is_open[SIZE].any() != bool({"small", "big"} & set(says_size))
            says_place = any(f" {w} the " in words_said.text for w in ("in", "at", "on"))
            assert words_said.is_open[PLACE].any() != says_place


@pytest.mark.parametrize("shape", SHAPES)
def test_geometry_finds_what_was_drawn(shape: str) -> None:
    rng = np.random.default_rng(SHAPES.index(shape))
    for colour in PALETTE:
        chance = rng.normal(size=NUM_CHANCES).astype(np.float32)
        scene = single(shape, colour, chance)
        found = find(render(scene, rng=rng))
        assert found is not None
        asked = (shape, colour, scene.background)
        assert (found.shape, found.colour, found.background) == asked


def test_geometry_finds_nothing_on_an_empty_picture() -> None:
    assert find(np.full((128, 128, 3), 90, np.uint8)) is None


def test_geometry_knows_no_shape_in_a_shapeless_blot() -> None:
    picture = np.full((128, 128, 3), 245, np.uint8)
    picture[60:64, 10:118] = picture[20:110, 30:33] = (215, 38, 38)
    found = find(picture)
    assert found is not None
    assert (found.shape, found.colour) == (None, "red")


def test_geometry_counts_separate_things() -> None:
    rng = np.random.default_rng(4)
    scenes = [sample_scene(rng) for _ in range(120)]
    several = [
        scene
        for scene in scenes
        if len(scene.items) > 1
        and scene.relation is None
        and scene.gradient_to is None
        and (scene.style, scene.items[0].texture) == ("flat", "plain")
    ]
    assert len(several) > 5
    assert [count_things(render(s)) for s in several] == [len(s.items) for s in several]


def test_things_stand_out_from_their_background() -> None:
    rng = np.random.default_rng(5)
    for _ in range(300):
        scene = sample_scene(rng)
        assert all(contrast(item.colour, scene.background) > 90 for item in scene.items)


def test_a_redrawn_scene_keeps_its_layout() -> None:
    rng = np.random.default_rng(6)
    scene = sample_scene(rng)
    other = redrawn(scene, rng, keeps_background=True)
    assert other.background == scene.background
    assert [(i.x, i.y, i.radius) for i in other.items] == [
        (i.x, i.y, i.radius) for i in scene.items
    ]


def test_other_pictures_have_the_size_asked_for() -> None:
    rng = np.random.default_rng(8)
    pairs = [sample_edit(rng, 64) for _ in range(6)]
    shapes = {picture.shape for pair in pairs for picture in (pair.before, pair.after)}
    shapes |= {clutter(rng, 64).shape for _ in range(8)}
    assert shapes == {(64, 64, 3)}


def test_an_exact_caption_says_every_place_but_the_middle() -> None:
    rng = np.random.default_rng(9)
    for _ in range(300):
        scene = sample_scene(rng)
        words_said = caption(scene, rng)
        if len(scene.items) == 1:
            assert scene.position == "in the middle" or str(scene.position) in words_said.text
            assert (scene.size or "") in words_said.text
            assert not words_said.is_open[PLACE].any()


def test_a_narrow_spread_keeps_things_near_the_middle_of_their_range() -> None:
    def radii(spread: float) -> list[float]:
        rng = np.random.default_rng(10)
        scenes = [sample_scene(rng, spread) for _ in range(200)]
        return [s.items[0].radius for s in scenes if len(s.items) == 1 and s.size is None]

    assert np.ptp(radii(0.3)) < 0.35 * np.ptp(radii(1.0))
