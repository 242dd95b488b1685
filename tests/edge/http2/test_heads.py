"""Request heads: large ones, bombs, and what a request may not say."""

import pytest
from edge.conftest import Serve
from edge.raw_http2 import connected, goes_away, request, still_serves

from lpnode.edge.http2 import frames
from lpnode.edge.http2.frames import ErrorCode, frame


async def test_a_head_of_one_mebibyte_reaches_its_handler(serve: Serve) -> None:
    async with serve() as listener, connected(listener) as client:
        size = (1 << 20) - 200
        client.send(client.headers(1, request("GET", "/header", ("livepeer-payment", "a" * size))))
        fields, body = await client.response(1)
        assert (fields[":status"], body) == ("200", b"%d" % size)


async def test_a_head_over_the_limit_is_431_and_the_connection_goes_on(serve: Serve) -> None:
    async with serve() as listener, connected(listener) as client:
        client.send(
            client.headers(1, request("GET", "/header", ("livepeer-payment", "a" * 1_200_000)))
        )
        fields, _ = await client.response(1)
        assert fields[":status"] == "431"
        await still_serves(client, 3)


async def test_a_head_far_over_the_limit_ends_the_connection(serve: Serve) -> None:
    async with serve() as listener, connected(listener) as client:
        client.send(frame(frames.HEADERS, 0, 1, b"\x83"))
        client.send(frame(frames.CONTINUATION, 0, 1, b"\xff" * 60_000) * 50)
        assert await goes_away(client) == ErrorCode.ENHANCE_YOUR_CALM


async def test_a_header_bomb_is_refused_without_being_unpacked(serve: Serve) -> None:
    async with serve() as listener, connected(listener) as client:
        block = b"\x40\x01x" + b"\x7f\xa1\x1e" + b"v" * 4000  # one field of 4 kB, then its index
        block += b"\xbe" * 60_000
        client.send(frames.header_frames(1, block, 16384, end_stream=True))
        assert await goes_away(client) == ErrorCode.COMPRESSION_ERROR


async def test_a_megabyte_of_tiny_fields_costs_time_in_proportion(serve: Serve) -> None:
    async with serve() as listener, connected(listener) as client:
        head = b"\x82\x86\x04\x08/healthz"
        client.send(
            frames.header_frames(1, head + b"\x00\x01x\x1e" + b"v" * 30, 16384, end_stream=True)
        )
        await client.response(1)
        block = head + (b"\x00\x01x\x1e" + b"v" * 30) * 16_000
        client.send(frames.header_frames(3, block, 16384, end_stream=True))
        assert (await client.response(3))[0][":status"] == "200"


@pytest.mark.parametrize(
    "fields",
    [
        request("GET", "/healthz", ("Upper", "x")),
        request("GET", "/healthz", ("connection", "close")),
        request("GET", "/healthz", ("transfer-encoding", "chunked")),
        request("GET", "/healthz", ("te", "gzip")),
        request("GET", "/healthz", ("x", "a\r\nb: c")),
        request("GET", "/healthz", (":late", "x")),
        request("GET", "no-slash"),
        request("POST", "/echo", ("content-length", "abc")),
        request("POST", "/echo", ("content-length", "1"), ("content-length", "2")),
        request("POST", "/echo", ("content-length", "3")),
        [(":method", "GET"), (":scheme", "http")],
        [(":method", "GET"), *request("GET", "/healthz")],
        [("x", "1"), *request("GET", "/healthz")],
    ],
)
async def test_a_malformed_request_is_reset_and_the_connection_goes_on(
    serve: Serve, fields: list[tuple[str, str]]
) -> None:
    async with serve() as listener, connected(listener) as client:
        client.send(client.headers(1, fields))
        reset = await client.until(frames.RST_STREAM)
        assert (reset.stream_id, reset.code) == (1, ErrorCode.PROTOCOL_ERROR)
        await still_serves(client, 3)


async def test_a_peer_that_shrinks_its_header_table_is_told_so(serve: Serve) -> None:
    tiny = [(frames.SETTING_HEADER_TABLE_SIZE, 0)]
    async with serve() as listener, connected(listener, settings=tiny) as client:
        client.send(client.headers(1, request("GET", "/healthz")))
        block = (await client.until(frames.HEADERS)).payload
        assert block[:2] == b"\x20\x88"
