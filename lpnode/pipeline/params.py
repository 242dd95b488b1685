"""Pipeline parameters: a frozen dataclass a pipeline, parsed from JSON and always complete."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self, TypeVar

from lpnode.errors import BadParameters
from lpnode.pipeline.accepts import Accepts, Flag, Integer, shown

T = TypeVar("T")


def parameter(default: T, accepts: Accepts) -> T:
    """Declares one field of a params class: its default and what a peer may send for it."""
    field: T = dataclasses.field(default=default, metadata={"accepts": accepts})
    return field


def checked_values(
    params: type, raw: Mapping[str, Any] | None, *, refuses_unknown: bool
) -> dict[str, Any]:
    """The values of a decoded JSON object for a class whose fields ``parameter`` declared.

    Args:
        params: a dataclass.
        raw: None stands for an empty object.
        refuses_unknown: whether a key that is no field is an error; otherwise it is left out.
    Raises: BadParameters: names the field, what would be accepted and what came.
    """
    if raw is None:
        return {}
    if not isinstance(raw, Mapping):
        raise BadParameters(f"params: expected an object, got {shown(raw)}")
    fields = {field.name: field for field in dataclasses.fields(params)}
    values: dict[str, Any] = {}
    for name, value in raw.items():
        field = fields.get(name)
        if field is None:
            if refuses_unknown:
                raise BadParameters(f"{shown(name)}: unknown parameter; known: {', '.join(fields)}")
            continue
        accepts: Accepts = field.metadata["accepts"]
        try:
            values[name] = accepts.check(value)
        except ValueError as error:
            raise BadParameters(
                f"{name}: expected {accepts.describe()}, got {shown(value)}"
            ) from error
    return values


@dataclass(frozen=True, slots=True, kw_only=True)
class BaseParams:
    """What every pipeline takes; a subclass adds its own fields with ``parameter``.

    Source: live.md section 7.1; ``max_framerate`` is section 4.2's cap, as pytrickle names it.
    """

    refuses_unknown: ClassVar[bool] = True
    """Whether a key that is no field is an error; otherwise it is ignored."""

    width: int = parameter(512, Integer(384, 1024, multiple_of=64))
    height: int = parameter(512, Integer(384, 1024, multiple_of=64))
    show_reloading_frame: bool = parameter(True, Flag())
    max_framerate: int = parameter(24, Integer(1, 60))

    @classmethod
    def parse(cls, raw: Mapping[str, Any] | None) -> Self:
        """Validates a full parameter set; a key that is absent takes its default.

        Args:
            raw: a decoded JSON object; None stands for an empty one.
        Raises: BadParameters: names the field, what would be accepted and what came.
        Source: live.md section 7.1.
        """
        return cls(**checked_values(cls, raw, refuses_unknown=cls.refuses_unknown))

    def as_dict(self) -> dict[str, Any]:
        """Every field with its value, fit for JSON."""
        return dataclasses.asdict(self)
