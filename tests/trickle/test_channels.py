"""Names, limits, hooks and the change feed."""

import json

import pytest

from lpnode.edge.trickle.operations import Answer, HookRefused, decide
from lpnode.errors import ConfigError, NoSuchChannel
from lpnode.trickle import Channels, TrickleConfig
from lpnode.trickle.headers import parse_integer


def ask(channels: Channels, method: str, path: str) -> Answer:
    answer = decide(channels, method, f"/ai/trickle/{path}", lambda _: "")
    assert isinstance(answer, Answer)
    return answer


@pytest.mark.parametrize(
    "path", ["", "/", "//", "ch/", "ch//", "/0", "ch/0/", "ch/0/x", "ch/next/x"]
)
def test_unknown_path_shapes_are_not_found(path: str) -> None:
    channels = Channels(TrickleConfig())
    channels.create("ch", "")
    answer = ask(channels, "GET", path)
    assert (answer.status, answer.body) == (404, b"404 page not found\n")


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("0", 0),
        ("+0", 0),
        ("-0", 0),
        ("007", 7),
        ("-1", -1),
        ("9223372036854775807", 2**63 - 1),
        ("9223372036854775808", None),
        ("-9223372036854775808", -(2**63)),
        ("-9223372036854775809", None),
        ("", None),
        ("+", None),
        ("1_0", None),
        ("0x1", None),
        (" 1", None),
        ("1\n", None),
        ("\N{ARABIC-INDIC DIGIT ONE}", None),
        ("9" * 5000, None),
    ],
)
def test_integers_are_read_as_the_reference_reads_them(text: str, number: int | None) -> None:
    assert parse_integer(text) == number


def test_a_hook_declines_with_its_own_status() -> None:
    def refuse(name: str) -> None:
        raise HookRefused(f"not {name}", status=451)

    channels = Channels(TrickleConfig(autocreate=True), before_create=refuse, before_delete=refuse)
    channels.create("ch", "")
    for method, path in (("POST", "new"), ("POST", "new/0"), ("DELETE", "ch")):
        answer = ask(channels, method, path)
        assert answer.status == 451
        assert answer.body.startswith(b"not ")
    assert "new" not in channels
    assert "ch" in channels
    assert HookRefused("x", status=500).status == 400


def test_a_hook_that_fails_stops_only_its_request() -> None:
    def fail(name: str) -> None:
        raise RuntimeError(name)

    channels = Channels(TrickleConfig(autocreate=True), before_create=fail, before_delete=fail)
    channels.create("ch", "")
    assert ask(channels, "POST", "new").status == 500
    assert ask(channels, "DELETE", "ch").status == 500
    assert "ch" in channels


def test_peers_cannot_create_channels_without_end() -> None:
    channels = Channels(TrickleConfig(autocreate=True, max_channels=3))
    for number in range(3):
        assert ask(channels, "POST", f"c{number}").status == 200
    assert ask(channels, "POST", "c3").status == 429
    assert ask(channels, "POST", "c0").status == 200


def test_the_change_feed_tells_of_channels_closed_at_shutdown() -> None:
    channels = Channels(TrickleConfig(changefeed=True))
    feed = channels.find("_changes")
    channels.create("a", "")
    channels.close_all()
    told = [json.loads(b"".join(s.pieces)) for s in feed.segments() if s.pieces]
    assert told == [{"added": ["_changes"]}, {"added": ["a"]}, {"removed": ["a"]}]
    assert feed.is_closed
    assert len(channels) == 0


def test_a_closed_name_is_free_again() -> None:
    channels = Channels(TrickleConfig())
    channels.create("ch", "")
    channels.close("ch")
    with pytest.raises(NoSuchChannel):
        channels.close("ch")
    assert channels.create("ch", "text/plain").mime == "text/plain"


def test_settings_that_cannot_work_are_named() -> None:
    with pytest.raises(ConfigError, match="base path"):
        TrickleConfig(base_path="/trickle")
    with pytest.raises(ConfigError, match="idle_timeout_s"):
        TrickleConfig(idle_timeout_s=0)
    with pytest.raises(ConfigError, match="slots"):
        TrickleConfig(ring_slots=1)
