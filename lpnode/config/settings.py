"""Settings by name from command line, environment and file, as go-livepeer reads them.

Flags take one or two dashes; a value follows ``=`` or is the next argument; a boolean stands alone
or takes ``=``. Strength: flag, then ``LP_<NAME>``, then the ``-config`` file.
Source: discovery.md section 8.
"""

import difflib
import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

from lpnode.errors import ConfigError

_TRUE = frozenset({"1", "t", "T", "TRUE", "true", "True"})
_FALSE = frozenset({"0", "f", "F", "FALSE", "false", "False"})
_SECONDS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_DURATION_PART = re.compile(r"(\d+(?:\.\d*)?|\.\d+)(ns|us|µs|ms|s|m|h)")


class Kind(Enum):
    """What a flag's text must be."""

    TEXT = "text"
    BOOL = "true or false"
    INT = "an integer"
    DURATION = "a duration such as 500ms, 5s or 25m"


@dataclass(frozen=True, slots=True)
class Flag:
    """One setting. ``is_used`` is False for names that mean nothing on this node (yet)."""

    name: str
    kind: Kind
    default: str
    help: str
    group: str
    aliases: tuple[str, ...] = ()
    is_used: bool = True
    is_secret: bool = False


def used_flag(
    group: str,
    name: str,
    kind: Kind,
    default: str,
    text: str,
    *aliases: str,
    is_secret: bool = False,
) -> Flag:
    """A flag that means something on this node; the line of a table."""
    return Flag(name, kind, default, text, group, aliases, is_secret=is_secret)


@dataclass(frozen=True, slots=True)
class Given:
    """A value somebody gave, and where: a flag, a variable, or a line of a file."""

    text: str
    origin: str


class Settings:
    """The values of a table of flags; those nobody gave have their default."""

    def __init__(self, flags: Iterable[Flag], given: Mapping[str, Given]) -> None:
        self._flags = {flag.name: flag for flag in flags}
        self._given = dict(given)
        for name, value in self._given.items():
            _check(self._flags[name], value)

    def is_given(self, name: str) -> bool:
        """Whether anybody set it, be it to the default."""
        return name in self._given

    def origin(self, name: str) -> str:
        """Where the value comes from, for messages: ``-name``, ``LP_NAME``, ``file: name``."""
        return self._given[name].origin if name in self._given else f"-{name}"

    def text(self, name: str) -> str:
        """The value as it was written."""
        return self._given[name].text if name in self._given else self._flags[name].default

    def boolean(self, name: str) -> bool:
        """The value of a boolean flag."""
        return self.text(name) in _TRUE

    def integer(self, name: str) -> int:
        """The value of an integer flag."""
        return int(self.text(name))

    def seconds(self, name: str) -> float:
        """The value of a duration flag, in seconds."""
        return parse_duration(self.text(name))

    def unused(self) -> list[str]:
        """Origins of the values given that mean nothing on this node."""
        return [
            given.origin for name, given in self._given.items() if not self._flags[name].is_used
        ]

    def masked(self) -> dict[str, str]:
        """What was given, by name, with secrets hidden; for the log."""
        return {
            name: "***" if self._flags[name].is_secret else given.text
            for name, given in self._given.items()
        }


def read_settings(
    flags: Sequence[Flag], arguments: Sequence[str], environment: Mapping[str, str]
) -> Settings:
    """Puts together what the command line, the environment and the ``-config`` file say.

    Raises: ConfigError: an unknown name, a missing or unusable value, an unreadable file.
    """
    by_name = {name: flag for flag in flags for name in (flag.name, *flag.aliases)}
    given = _from_environment(by_name, environment) | _from_arguments(by_name, arguments)
    config = given.pop("config", None)
    if config is not None:
        given = _from_file(by_name, Path(config.text).expanduser(), config.origin) | given
        given.pop("config", None)
    return Settings(flags, given)


def parse_duration(text: str) -> float:
    """Reads a Go duration (``1h30m``, ``500ms``, ``0``) and returns seconds.

    Raises: ConfigError: anything else.
    """
    if text == "0":
        return 0.0
    total, end = 0.0, 0
    for part in _DURATION_PART.finditer(text):
        if part.start() != end:
            break
        total += float(part[1]) * _SECONDS[part[2]]
        end = part.end()
    if end == 0 or end != len(text):
        raise ConfigError(f"{text!r} is not {Kind.DURATION.value}")
    return total


def _from_environment(
    by_name: Mapping[str, Flag], environment: Mapping[str, str]
) -> dict[str, Given]:
    given = {}
    for name, flag in by_name.items():
        variable = f"LP_{name.upper()}"
        if variable in environment:
            given[flag.name] = Given(environment[variable], variable)
    return given


def _from_arguments(by_name: Mapping[str, Flag], arguments: Sequence[str]) -> dict[str, Given]:
    given = {}
    rest = iter(arguments)
    for argument in rest:
        if len(argument) < 2 or argument[0] != "-" or argument == "--":
            raise ConfigError(f"unexpected argument {argument!r}: every setting is a -flag")
        name, equals, text = argument.removeprefix("-").removeprefix("-").partition("=")
        flag = _known(by_name, name, f"-{name}")
        if not equals:
            if flag.kind is Kind.BOOL:
                text = "true"
            else:
                following = next(rest, None)
                if following is None:
                    raise ConfigError(f"-{name} needs a value: {flag.kind.value}")
                text = following
        given[flag.name] = Given(text, f"-{name}")
    return given


def _from_file(by_name: Mapping[str, Flag], path: Path, origin: str) -> dict[str, Given]:
    try:
        content = path.read_text()
    except (OSError, UnicodeDecodeError) as exc:
        raise ConfigError(f"{origin}: cannot read {path}: {exc}") from exc
    lines = _toml_values(content, path) if path.suffix == ".toml" else _plain_values(content, path)
    return {_known(by_name, name, where).name: Given(text, where) for name, text, where in lines}


def _plain_values(content: str, path: Path) -> list[tuple[str, str, str]]:
    values = []
    for number, line in enumerate(content.splitlines(), start=1):
        name, _, text = line.strip().partition(" ")
        if name and not name.startswith("#"):
            text = re.sub(r"\s#.*$", "", text).strip()
            values.append((name, text or "true", f"{path} line {number}: {name}"))
    return values


def _toml_values(content: str, path: Path) -> list[tuple[str, str, str]]:
    try:
        document = tomllib.loads(content)
    except tomllib.TOMLDecodeError as exc:
        raise ConfigError(f"{path}: not TOML: {exc}") from exc
    return [
        (name, _toml_text(value, f"{path}: {name}"), f"{path}: {name}")
        for name, value in _flattened(document)
    ]


def _flattened(table: Mapping[str, Any]) -> Iterable[tuple[str, Any]]:
    # Tables only group settings for the reader; the names inside are the flags' own.
    for name, value in table.items():
        if isinstance(value, dict):
            yield from _flattened(value)
        else:
            yield name, value


def _toml_text(value: Any, where: str) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str | int | float):
        return str(value)
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return ",".join(value)
    raise ConfigError(
        f"{where} must be text, a number, true, false or a list of texts, not {value!r}"
    )


def _known(by_name: Mapping[str, Flag], name: str, where: str) -> Flag:
    if name in by_name:
        return by_name[name]
    lower = {known.lower(): known for known in by_name}
    near = difflib.get_close_matches(name.lower(), lower, n=1)
    hint = f"; did you mean -{lower[near[0]]}?" if near else "; see lpnode serve --help"
    raise ConfigError(f"unknown setting {where}{hint}")


def _check(flag: Flag, given: Given) -> None:
    try:
        if flag.kind is Kind.BOOL and given.text not in _TRUE | _FALSE:
            raise ValueError
        if flag.kind is Kind.INT:
            int(given.text)
        if flag.kind is Kind.DURATION:
            parse_duration(given.text)
    except (ValueError, ConfigError):
        shown = "***" if flag.is_secret else repr(given.text)
        raise ConfigError(f"{given.origin}: {shown} is not {flag.kind.value}") from None
