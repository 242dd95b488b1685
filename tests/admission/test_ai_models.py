"""The model list: what is read, and what an operator is told when it cannot be."""

import contextlib
import json
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lpnode.admission.ai_models import (
    DEFAULT_AI_MODELS,
    DEFAULT_GATEWAY,
    ModelEntry,
    load_ai_models,
    parse_inline,
    parse_json,
    slots_of,
)
from lpnode.errors import ConfigError
from lpnode.schedule.capacity import ModelKey

VECTORS: dict[str, Any] = json.loads(
    (Path(__file__).parent.parent / "vectors" / "discovery.json").read_text()
)


def read(case: dict[str, Any]) -> tuple[ModelEntry, ...]:
    return parse_inline(case["in"]) if case["form"] == "inline" else parse_json(case["in"], "f")


def expected_entry(fields: dict[str, Any]) -> ModelEntry:
    numbers = {
        "price_per_unit": Fraction(fields["price_per_unit"])
        if "price_per_unit" in fields
        else None,
        "pixels_per_unit": int(fields["pixels_per_unit"]) if "pixels_per_unit" in fields else None,
    }
    gateway = fields.get("gateway") or DEFAULT_GATEWAY
    return ModelEntry(**{**fields, **numbers, "gateway": gateway})


@pytest.mark.parametrize("case", [c for c in VECTORS["ai_models"] if "models" in c])
def test_a_listed_text_gives_the_listed_models(case: dict[str, Any]) -> None:
    assert read(case) == tuple(expected_entry(fields) for fields in case["models"])


@pytest.mark.parametrize("case", [c for c in VECTORS["ai_models"] if "error" in c])
def test_a_listed_text_is_refused(case: dict[str, Any]) -> None:
    with pytest.raises(ConfigError) as refusal:
        read(case)
    # The library's own name in front of the reference's text is no part of what was wrong.
    expected = case["error"].removeprefix("strconv.ParseBool: ")
    assert expected in str(refusal.value)


def entry(**fields: Any) -> str:
    return json.dumps([{"pipeline": "llm", "model_id": "m", **fields}])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('[{"model_id": "m"}]', ["entry 1 (m)", "pipeline", "is missing"]),
        ('[{"pipeline": "llm"}]', ["entry 1 (llm)", "model_id", "is missing"]),
        ('[{"pipeline": "llm", "model_id": ""}]', ["entry 1", "model_id", "empty"]),
        (
            '[{"pipeline": "lmm", "model_id": "m"}]',
            ["(lmm, m)", "not valid capability: lmm", "llm"],
        ),
        ('[{"pipeline": 5, "model_id": "m"}]', ["pipeline", "text in quotes", "the number 5"]),
        ("[7]", ["entry 1", "must be an object"]),
        (entry(warm="yes"), ["entry 1 (llm, m)", "warm", "true or false", 'the text "yes"']),
        (entry(warm=1), ["warm", "the number 1"]),
        (entry(url=1), ["url", "text in quotes"]),
        (entry(token=[]), ["token", "an array"]),
        (entry(capacity=-1), ["capacity", "at least 1", "-1"]),
        (entry(capacity=1.5), ["capacity", "whole number", "1.5"]),
        (entry(capacity=True), ["capacity", "the boolean true"]),
        (entry(optimization_flags=[]), ["optimization_flags", "object"]),
        (entry(optimization_flags={"X": 1}), ["optimization_flags: X", "the number 1"]),
        (entry(price_per_unit=-1), ["price_per_unit", "0 or more", "-1"]),
        (entry(price_per_unit=True), ["price_per_unit", "not a number: true"]),
        (
            '[{"pipeline":"llm","model_id":"m","price_per_unit":1e999999999}]',
            ["1e999999999 is out"],
        ),
        (
            '[{"pipeline":"llm","model_id":"m","price_per_unit":1e9999999999999999999}]',
            ["is out of"],
        ),
        ('[{"pipeline":"llm","model_id":"m","price_per_unit":NaN}]', ["NaN"]),
        (entry(pixels_per_unit=0), ["pixels_per_unit", "positive integer", "got 0"]),
        (entry(pixels_per_unit=0.5), ["pixels_per_unit", "positive integer", "1/2"]),
        (entry(pixels_per_unit="1"), ["pixels_per_unit", "without quotes"]),
        (entry(currency=5), ["currency", "text in quotes"]),
        ("[1,]", ["line 1, column 4"]),
        ("[" * 100_000, []),
    ],
)
def test_an_error_names_the_file_the_entry_and_the_field(
    tmp_path: Path, text: str, words: list[str]
) -> None:
    file = tmp_path / "aiModels.json"
    file.write_text(text)
    with pytest.raises(ConfigError) as refusal:
        load_ai_models(str(file))
    message = str(refusal.value)
    assert message.startswith(f"{file}: ")
    for word in words:
        assert word in message, message


def test_a_model_cannot_be_cold_and_warm(tmp_path: Path) -> None:
    file = tmp_path / "aiModels.json"
    twice = [{"pipeline": "llm", "model_id": "m", "warm": warm} for warm in (True, False)]
    file.write_text(json.dumps(twice))
    with pytest.raises(ConfigError, match=r"entry 2 \(llm, m\).*same model_id \(m\) as cold and"):
        load_ai_models(str(file))


def test_the_same_model_with_the_same_warm_adds_up() -> None:
    text = "llm:m:true,llm:other:false,llm:m:true"
    assert slots_of(load_ai_models(text)) == {ModelKey(33, "m"): 2, ModelKey(33, "other"): 1}


def test_capacity_counts_and_zero_means_one() -> None:
    entries = parse_json(entry(capacity=4), "f") + parse_json(entry(capacity=0), "f")
    assert slots_of(entries) == {ModelKey(33, "m"): 5}


def test_keys_are_read_without_case_and_unknown_ones_are_left_alone() -> None:
    text = '[{"Pipeline":"llm","MODEL_ID":"m","Warm":true,"nonsense":{"a":[1]}}]'
    assert parse_json(text, "f") == (ModelEntry(pipeline="llm", model_id="m", warm=True),)


def test_prices_are_exact_rationals() -> None:
    text = '[{"pipeline":"llm","model_id":"m","price_per_unit":0.1,"pixels_per_unit":1e12}]'
    (read_entry,) = parse_json(text, "f")
    assert read_entry.price_per_unit == Fraction(1, 10)
    assert read_entry.pixels_per_unit == 10**12


def test_a_token_is_not_shown() -> None:
    assert "hush" not in repr(ModelEntry(pipeline="llm", model_id="m", token="hush"))


def test_nothing_given_means_everything_that_runs_without_a_gpu() -> None:
    assert load_ai_models("") == DEFAULT_AI_MODELS
    assert slots_of(DEFAULT_AI_MODELS) == {
        ModelKey(35, "noop"): 2,
        ModelKey(35, "passthrough"): 2,
        ModelKey(35, "edge-style"): 2,
        ModelKey(35, "lpnode/shapes"): 2,
    }
    # Loading a diffusion model takes seconds, which nodes that are asked for none should not pay.
    cold = [entry.model_id for entry in DEFAULT_AI_MODELS if not entry.warm]
    assert cold == ["lpnode/shapes"]


@given(st.text(max_size=300))
def test_any_text_is_a_list_of_models_or_a_clear_error(text: str) -> None:
    with contextlib.suppress(ConfigError):
        assert all(isinstance(entry, ModelEntry) for entry in load_ai_models(text))
    with contextlib.suppress(ConfigError):
        assert all(isinstance(entry, ModelEntry) for entry in parse_json(text, "f"))
