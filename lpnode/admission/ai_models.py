"""The list of models a node offers: one inline text or one JSON file (``-aiModels``).

Source: discovery.md section 5.
"""

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from fractions import Fraction
from pathlib import Path
from typing import Any

from lpnode.errors import ConfigError
from lpnode.protocol.capability import PIPELINES
from lpnode.schedule.capacity import ModelKey

DEFAULT_GATEWAY = "default"
"""Price key for every sender without a price of its own."""

_TRUE = frozenset({"1", "t", "T", "TRUE", "true", "True"})
_FALSE = frozenset({"0", "f", "F", "FALSE", "false", "False"})
# 10 ** this is still a cheap integer; a price beyond it is a slip of the keyboard.
_MAX_EXPONENT = 80


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelEntry:
    """One entry of the list. ``url`` and ``token`` concern runners outside this process.

    Attributes:
        capacity: concurrent streams or jobs of this entry; entries of one model add up.
        price_per_unit: exact, in ``currency`` (empty: wei); None means the base price.
        pixels_per_unit: positive; None means the node's general value.
        gateway: ``default`` or the lower-case sender address the price is for.
    """

    pipeline: str
    model_id: str
    warm: bool = False
    url: str = ""
    token: str = field(default="", repr=False)
    capacity: int = 1
    optimization_flags: Mapping[str, str] = field(default_factory=dict)
    price_per_unit: Fraction | None = None
    pixels_per_unit: int | None = None
    currency: str = ""
    gateway: str = DEFAULT_GATEWAY

    @property
    def key(self) -> ModelKey:
        """What capacity is counted by."""
        return ModelKey(PIPELINES[self.pipeline], self.model_id)


def load_ai_models(value: str) -> tuple[ModelEntry, ...]:
    """Reads ``-aiModels``: the path of an existing regular file, or an inline list.

    An empty value gives ``DEFAULT_AI_MODELS``.

    Raises: ConfigError: names the file, the entry, the field and what would be accepted.
    """
    if not value:
        return DEFAULT_AI_MODELS
    # os.path answers False for texts that are no path at all; pathlib raises for some of them.
    if not os.path.isfile(value):
        return checked(parse_inline(value), "-aiModels")
    try:
        text = Path(value).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{value}: cannot be read: {error}; give a UTF-8 JSON file") from error
    return checked(parse_json(text, value), value)


def parse_inline(text: str) -> tuple[ModelEntry, ...]:
    """Reads ``pipeline:model_id:warm[,…]``. Pipeline names are not looked at here.

    Raises: ConfigError.
    """
    entries = []
    for number, part in enumerate(text.split(","), 1):
        pieces = part.split(":")
        if len(pieces) < 3:
            raise ConfigError(
                "-aiModels: invalid AI model config expected <pipeline>:<model_id>:<warm>, "
                f"got {part!r} in entry {number}; if a file was meant, there is none of that name"
            )
        pipeline, model_id, warm = pieces[:3]
        if warm not in _TRUE | _FALSE:
            raise ConfigError(
                f"-aiModels: entry {number} ({pipeline}, {model_id}): warm: "
                f'parsing "{warm}": invalid syntax; write true or false'
            )
        entries.append(ModelEntry(pipeline=pipeline, model_id=model_id, warm=warm in _TRUE))
    return tuple(entries)


def parse_json(text: str, source: str) -> tuple[ModelEntry, ...]:
    """Reads a JSON array of entries. Pipeline names are not looked at here.

    Raises: ConfigError: its text begins with ``source``.
    """
    try:
        document = json.loads(text, parse_float=_decimal, parse_constant=_no_constant)
    except json.JSONDecodeError as error:
        is_cut_short = error.pos >= len(text.rstrip())
        what = "unexpected end of JSON input" if is_cut_short else error.msg
        raise ConfigError(
            f"{source}: line {error.lineno}, column {error.colno}: {what}; "
            "the file must be one JSON array of model entries"
        ) from error
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{source}: {error}; write plain JSON with ordinary numbers") from error
    if not isinstance(document, list):
        raise ConfigError(
            f"{source}: the top level must be an array of model entries, got "
            f"{_json_kind(document)}; put [ and ] around the entry"
        )
    return tuple(_entry(item, f"{source}: entry {n}") for n, item in enumerate(document, 1))


def checked(entries: tuple[ModelEntry, ...], source: str) -> tuple[ModelEntry, ...]:
    """Returns the entries when they can be offered together.

    Raises: ConfigError: an unknown pipeline, or one model both warm and cold.
    """
    warm: dict[tuple[str, str], bool] = {}
    for number, entry in enumerate(entries, 1):
        where = f"{source}: entry {number} ({entry.pipeline}, {entry.model_id})"
        if entry.pipeline not in PIPELINES:
            raise ConfigError(
                f"{where}: pipeline: Pipeline is not valid capability: {entry.pipeline}; "
                f"use one of {', '.join(PIPELINES)}"
            )
        if not entry.model_id:
            raise ConfigError(f"{where}: model_id: must not be empty; name the model")
        if warm.setdefault((entry.pipeline, entry.model_id), entry.warm) != entry.warm:
            raise ConfigError(
                f"{where}: warm: Cannot have same model_id ({entry.model_id}) as cold and warm in "
                "same AI worker, please fix aiModels json config; give all its entries the same"
            )
    return entries


def slots_of(entries: Iterable[ModelEntry]) -> dict[ModelKey, int]:
    """Returns how many places each model has, in configuration order."""
    slots: dict[ModelKey, int] = {}
    for entry in entries:
        slots[entry.key] = slots.get(entry.key, 0) + entry.capacity
    return slots


def _decimal(text: str) -> Decimal:
    try:
        number = Decimal(text)
    except InvalidOperation as error:
        raise ValueError(f"{text} is out of any useful range") from error
    # Beyond this, an exact fraction would fill the memory.
    if abs(number.adjusted()) > _MAX_EXPONENT:
        raise ValueError(f"{text} is out of any useful range")
    return number


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not a JSON number")


def _json_kind(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return f"the boolean {str(value).lower()}"
    if isinstance(value, int | Decimal):
        return f"the number {value}"
    if isinstance(value, str):
        return f"the text {json.dumps(value, ensure_ascii=False)}"
    return "an array" if isinstance(value, list) else "an object"


def _entry(item: Any, where: str) -> ModelEntry:
    if not isinstance(item, dict):
        raise ConfigError(f"{where}: must be an object with pipeline and model_id")
    # The reference compares keys without case; unknown keys are allowed.
    fields = {key.lower(): value for key, value in item.items()}
    names = [value for key in ("pipeline", "model_id") if isinstance(value := fields.get(key), str)]
    if names:
        where = f"{where} ({', '.join(names)})"
    return ModelEntry(
        pipeline=_required_text(fields, "pipeline", where),
        model_id=_required_text(fields, "model_id", where),
        warm=_flag(fields, "warm", where),
        url=_text(fields, "url", where),
        token=_text(fields, "token", where),
        capacity=_capacity(fields, where),
        optimization_flags=_optimization_flags(fields, where),
        price_per_unit=_price(fields, where),
        pixels_per_unit=_pixels(fields, where),
        currency=_text(fields, "currency", where),
        gateway=_text(fields, "gateway", where).lower() or DEFAULT_GATEWAY,
    )


def _required_text(fields: Mapping[str, Any], key: str, where: str) -> str:
    if key not in fields:
        raise ConfigError(f"{where}: {key}: is missing; every entry needs pipeline and model_id")
    return _text(fields, key, where)


def _text(fields: Mapping[str, Any], key: str, where: str) -> str:
    value = fields.get(key, "")
    if not isinstance(value, str):
        raise ConfigError(f"{where}: {key}: must be a text in quotes, got {_json_kind(value)}")
    return value


def _flag(fields: Mapping[str, Any], key: str, where: str) -> bool:
    value = fields.get(key, False)
    if not isinstance(value, bool):
        raise ConfigError(
            f"{where}: {key}: must be true or false without quotes, got {_json_kind(value)}"
        )
    return value


def _capacity(fields: Mapping[str, Any], where: str) -> int:
    value = fields.get("capacity", 0)
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ConfigError(
            f"{where}: capacity: must be a whole number of streams or jobs, at least 1 "
            f"(0 means 1), got {_json_kind(value)}"
        )
    return value or 1


def _optimization_flags(fields: Mapping[str, Any], where: str) -> dict[str, str]:
    value = fields.get("optimization_flags", {})
    if not isinstance(value, dict):
        raise ConfigError(
            f'{where}: optimization_flags: must be an object such as {{"SFAST": true}}, '
            f"got {_json_kind(value)}"
        )
    flags = {}
    for name, setting in value.items():
        if isinstance(setting, bool):
            flags[name] = str(setting).lower()
        elif isinstance(setting, str):
            flags[name] = setting
        else:
            raise ConfigError(
                f"{where}: optimization_flags: {name}: flag value is neither a JSON boolean nor a "
                f"string, got {_json_kind(setting)}"
            )
    return flags


def _number(fields: Mapping[str, Any], key: str, where: str) -> Fraction | None:
    """The exact value of a JSON number, in decimal or exponent form."""
    if key not in fields:
        return None
    value = fields[key]
    if isinstance(value, bool) or not isinstance(value, int | Decimal):
        raw = json.dumps(value, ensure_ascii=False, default=str)
        raise ConfigError(
            f"{where}: {key}: value is not a number: {raw}; write a number without quotes, "
            'and the currency under "currency"'
        )
    return Fraction(value)


def _price(fields: Mapping[str, Any], where: str) -> Fraction | None:
    price = _number(fields, "price_per_unit", where)
    if price is not None and price < 0:
        raise ConfigError(f"{where}: price_per_unit: must be 0 or more, got {price}")
    return price


def _pixels(fields: Mapping[str, Any], where: str) -> int | None:
    pixels = _number(fields, "pixels_per_unit", where)
    if pixels is None:
        return None
    if pixels <= 0 or pixels.denominator != 1:
        raise ConfigError(f"{where}: pixels_per_unit: must be a positive integer, got {pixels}")
    return pixels.numerator


DEFAULT_FILE = Path(__file__).with_name("aiModels.json")

DEFAULT_AI_MODELS: tuple[ModelEntry, ...] = load_ai_models(str(DEFAULT_FILE))
"""What a node offers that was told nothing: everything that runs without a GPU."""
