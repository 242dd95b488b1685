"""What a log line looks like, and which lines there are."""

import io
import json
import logging
from collections.abc import Iterator

import pytest

from lpnode.errors import ConfigError
from lpnode.log import LogConfig, configure_logging, session_id, set_verbosity


@pytest.fixture(autouse=True)
def logging_as_before() -> Iterator[None]:
    root, own = logging.getLogger(), logging.getLogger("lpnode")
    before = root.handlers[:], root.level, own.level
    yield
    root.handlers[:] = before[0]
    root.setLevel(before[1])
    own.setLevel(before[2])


def test_a_text_line_names_subject_and_session() -> None:
    out = io.StringIO()
    configure_logging(LogConfig(), out)
    token = session_id.set("cafe01")
    logging.getLogger("lpnode.session.live").info("opened for %s", "noop")
    session_id.reset(token)
    logging.getLogger("lpnode.node").warning("outside")
    first, second = out.getvalue().splitlines()
    assert first.endswith(" I session.live [cafe01]: opened for noop")
    assert second.endswith(" W node: outside")


def test_a_json_line_is_one_object_with_session_and_trace() -> None:
    out = io.StringIO()
    configure_logging(LogConfig(is_json=True), out)
    token = session_id.set("cafe01")
    try:
        raise ValueError("odd")
    except ValueError:
        logging.getLogger("lpnode.session.live").exception("failed")
    session_id.reset(token)
    (line,) = out.getvalue().splitlines()
    fields = json.loads(line)
    assert (fields["level"], fields["session"], fields["message"]) == ("error", "cafe01", "failed")
    assert fields["trace"].endswith("ValueError: odd")
    assert fields["time"].endswith("+00:00")


def test_verbosity_goes_from_errors_to_the_libraries() -> None:
    own, library = logging.getLogger("lpnode.x"), logging.getLogger("aiohttp.x")
    seen = []
    for verbosity in (0, 1, 3, 5, 6):
        set_verbosity(verbosity)
        seen.append((own.getEffectiveLevel(), library.getEffectiveLevel()))
    assert seen == [
        (logging.ERROR, logging.ERROR),
        (logging.WARNING, logging.WARNING),
        (logging.INFO, logging.WARNING),
        (logging.DEBUG, logging.WARNING),
        (logging.DEBUG, logging.DEBUG),
    ]


def test_a_verbosity_out_of_range_is_refused() -> None:
    with pytest.raises(ConfigError, match="0 to 6, got 7"):
        LogConfig(verbosity=7)
