"""Source: live.md section 5; checklist L23, L25."""

import pytest

from lpnode.errors import BadParameters
from lpnode.session.control import parse_control


@pytest.mark.parametrize("message", [b'{"keep":"alive"}', b' { "keep" : "alive" }\n'])
def test_a_keep_alive_is_no_update(message: bytes) -> None:
    assert parse_control(message) is None


@pytest.mark.parametrize("message", [b"{}", b'{"keep":"alive","x":1}', b'{"keep":"dead"}'])
def test_anything_else_that_is_an_object_is_an_update(message: bytes) -> None:
    assert parse_control(message) is not None


@pytest.mark.parametrize(
    "message",
    [b"", b"{", b"[]", b'"x"', b"null", b"\xff\xfe", b"[" * 100_000],
    ids=["empty", "cut", "array", "string", "null", "utf8", "deep"],
)
def test_what_is_no_json_object_is_refused_with_a_reason(message: bytes) -> None:
    with pytest.raises(BadParameters, match="control message"):
        parse_control(message)
