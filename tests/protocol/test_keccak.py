"""Keccak-256 against digests published with go-ethereum and the Keccak team's test vectors."""

import pytest

from lpnode.protocol.keccak import keccak256

PUBLISHED = [
    (b"", "c5d2460186f7233c927e7db2dcc703c0e500b653ca82273b7bfad8045d85a470"),
    (b"abc", "4e03657aea45a94fc7d47ba826c8d667c0d1e6e33a64a036ec44f58fa12d6c45"),
    (b"a" * 135, "34367dc248bbd832f4e3e69dfaac2f92638bd0bbd18f2912ba4ef454919cf446"),
    (b"a" * 136, "a6c4d403279fe3e0af03729caada8374b5ca54d8065329a3ebcaeb4b60aa386e"),
]


@pytest.mark.parametrize(("message", "digest"), PUBLISHED)
def test_digest_is_the_published_one(message: bytes, digest: str) -> None:
    assert keccak256(message).hex() == digest


def test_any_contiguous_buffer_is_read_in_place() -> None:
    expected = keccak256(b"abc")
    assert keccak256(bytearray(b"abc")) == expected
    assert keccak256(memoryview(b"xabcx")[1:4]) == expected


@pytest.mark.parametrize("message", ["text", 3, memoryview(b"abcdef")[::2]])
def test_what_is_no_contiguous_buffer_is_refused(message: object) -> None:
    with pytest.raises((TypeError, BufferError)):
        keccak256(message)  # type: ignore[arg-type]
