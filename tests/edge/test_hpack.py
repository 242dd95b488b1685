"""Header compression against the RFC's examples and another implementation."""

import hpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lpnode.edge.http2.hpack import HeaderDecoder, encode
from lpnode.errors import ProtocolError, TooLarge

FIELD = st.tuples(
    st.sampled_from([b":path", b"content-type", b"x-a", b"livepeer-segment", b"te"]),
    st.binary(max_size=60),
)
BLOCKS = st.lists(st.lists(FIELD, max_size=8), min_size=1, max_size=8)


@given(BLOCKS, st.booleans())
def test_what_another_encoder_writes_is_read_back(
    blocks: list[list[tuple[bytes, bytes]]], is_huffman: bool
) -> None:
    encoder = hpack.Encoder()
    decoder = HeaderDecoder(1 << 20)
    for fields in blocks:
        assert decoder.decode(encoder.encode(fields, huffman=is_huffman)) == fields


@given(BLOCKS)
def test_what_we_write_another_decoder_reads(blocks: list[list[tuple[bytes, bytes]]]) -> None:
    decoder = hpack.Decoder()
    decoder.max_allowed_table_size = 0
    decoder.header_table_size = 0
    for fields in blocks:
        decoded = decoder.decode(encode(fields), raw=True)
        assert [(bytes(name), bytes(value)) for name, value in decoded] == fields


@given(st.lists(st.binary(max_size=200), max_size=5))
def test_noise_is_decoded_or_refused_but_never_breaks(blocks: list[bytes]) -> None:
    decoder = HeaderDecoder(1 << 12)
    for block in blocks:
        try:
            decoder.decode(block)
        except ProtocolError:
            return


@given(BLOCKS, st.data())
def test_a_shrinking_table_is_followed(
    blocks: list[list[tuple[bytes, bytes]]], data: st.DataObject
) -> None:
    encoder = hpack.Encoder()
    decoder = HeaderDecoder(1 << 20)
    for fields in blocks:
        encoder.header_table_size = data.draw(st.integers(0, 4096))
        assert decoder.decode(encoder.encode(fields)) == fields


def test_the_requests_of_rfc_7541_appendix_c_4_decode() -> None:
    decoder = HeaderDecoder(1 << 20)
    blocks = [
        "828684418cf1e3c2e5f23a6ba0ab90f4ff",
        "828684be5886a8eb10649cbf",
        "828785bf408825a849e95ba97d7f8925a849e95bb8e8b4bf",
    ]
    decoded = [decoder.decode(bytes.fromhex(block)) for block in blocks]
    assert decoded[0][-1] == (b":authority", b"www.example.com")
    assert decoded[1][-1] == (b"cache-control", b"no-cache")
    assert decoded[2][-1] == (b"custom-key", b"custom-value")


@pytest.mark.parametrize(
    ("block", "reason"),
    [
        (b"\x80", "index 0"),
        (b"\xbe", "beyond the table"),
        (b"\x00\x05ab", "runs over"),
        (b"\x00", "truncated"),
        (b"\x00\x81\x00\x00", "Huffman"),
        (b"\x00\x84\xff\xff\xff\xff\x00", "end-of-string"),
        (b"\xff\xff\xff\xff\xff\xff", "too large"),
        (b"\x82\x20", "after a field"),
        (b"\x3f\xe2\x1f", "over 4096"),
    ],
)
def test_a_malformed_block_says_what_is_wrong(block: bytes, reason: str) -> None:
    with pytest.raises(ProtocolError, match=reason):
        HeaderDecoder(1 << 20).decode(block)


def test_a_list_over_the_limit_leaves_the_table_usable() -> None:
    encoder = hpack.Encoder()
    decoder = HeaderDecoder(200)
    with pytest.raises(TooLarge):
        decoder.decode(encoder.encode([(b"a", b"x" * 100), (b"b", b"y" * 100)]))
    assert decoder.decode(encoder.encode([(b"b", b"y" * 100)])) == [(b"b", b"y" * 100)]
