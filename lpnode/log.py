"""Logging set-up, and the context that says which session a line belongs to."""

import json
import logging
import sys
import traceback
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TextIO

from lpnode.errors import ConfigError

session_id: ContextVar[str] = ContextVar("session_id", default="")
"""Manifest id of the session whose task is running; set once when the session's tasks start."""

MAX_VERBOSITY = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class LogConfig:
    """How much is logged, and in which form.

    ``verbosity`` counts as go-livepeer's ``-v``: 0 errors, 1 warnings, 2 to 4 information,
    5 decisions of this node, 6 also those of the libraries below it.
    """

    verbosity: int = 3
    is_json: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.verbosity <= MAX_VERBOSITY:
            raise ConfigError(f"-v must be 0 to {MAX_VERBOSITY}, got {self.verbosity}")


def configure_logging(config: LogConfig, stream: TextIO | None = None) -> None:
    """Sends every log line of the process to ``stream`` (standard error when None)."""
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(JsonFormatter() if config.is_json else TextFormatter())
    root = logging.getLogger()
    for previous in root.handlers[:]:
        root.removeHandler(previous)
    root.addHandler(handler)
    set_verbosity(config.verbosity)


def set_verbosity(verbosity: int) -> None:
    """Changes how much is logged while the node runs. ``verbosity`` is 0 to 6."""
    level = {0: logging.ERROR, 1: logging.WARNING}.get(verbosity, logging.INFO)
    logging.getLogger("lpnode").setLevel(logging.DEBUG if verbosity >= 5 else level)
    libraries = logging.DEBUG if verbosity >= MAX_VERBOSITY else max(level, logging.WARNING)
    logging.getLogger().setLevel(libraries)


class TextFormatter(logging.Formatter):
    """One line for people: time, level letter, subject, session, message."""

    def format(self, record: logging.LogRecord) -> str:
        """Renders the record, with its traceback below when it has one."""
        moment = datetime.fromtimestamp(record.created).strftime("%H:%M:%S.%f")[:-3]
        subject = record.name.removeprefix("lpnode.")
        session = session_id.get()
        mark = f" [{session}]" if session else ""
        line = f"{moment} {record.levelname[0]} {subject}{mark}: {record.getMessage()}"
        return f"{line}\n{_trace(record)}" if record.exc_info else line


class JsonFormatter(logging.Formatter):
    """One JSON object a line: ``time`` (UTC), ``level``, ``logger``, ``session``, ``message``."""

    def format(self, record: logging.LogRecord) -> str:
        """Renders the record; a traceback becomes the text field ``trace``."""
        fields = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if session := session_id.get():
            fields["session"] = session
        if record.exc_info:
            fields["trace"] = _trace(record)
        return json.dumps(fields, ensure_ascii=False)


def _trace(record: logging.LogRecord) -> str:
    assert record.exc_info is not None
    return "".join(traceback.format_exception(*record.exc_info)).rstrip()
