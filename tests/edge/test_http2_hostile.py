"""Peers that break HTTP/2's rules, or keep them in the most expensive way."""

import asyncio
import contextlib
import sys
import time
from dataclasses import replace

import pytest
from edge.conftest import Serve, Waiting
from edge.raw_http2 import POST_PING, RawHttp2, connected, request

from lpnode.edge.http2 import frames
from lpnode.edge.http2.connection import Http2Config
from lpnode.edge.http2.frames import ErrorCode, frame
from lpnode.edge.listener import ListenerConfig

GET_WAITING = request("GET", "/waiting")
POST_ECHO = request("POST", "/echo")


async def still_serves(client: RawHttp2, stream_id: int) -> None:
    client.send(client.headers(stream_id, request("GET", "/healthz")))
    fields, _ = await client.response(stream_id)
    assert fields[":status"] == "200"


async def goes_away(client: RawHttp2) -> int:
    last = [one for one in await client.closes() if one.kind == frames.GOAWAY][-1]
    return last.code


async def test_rapid_resets_end_the_connection_and_leave_no_handler(
    serve: Serve, waiting: Waiting
) -> None:
    async with serve() as listener, connected(listener) as client:
        block = client.block(GET_WAITING)
        for stream_id in range(1, 4001, 2):
            client.send(
                frames.header_frames(stream_id, block, 16384, end_stream=True),
                frames.reset(stream_id, ErrorCode.CANCEL),
            )
            block = client.block(GET_WAITING)
        assert await goes_away(client) == ErrorCode.ENHANCE_YOUR_CALM
        assert waiting.num_started == waiting.num_stopped


@pytest.mark.parametrize(
    "flood",
    [
        frame(frames.PING, 0, 0, bytes(8)),
        frame(frames.SETTINGS, 0, 0, b""),
        frame(frames.PRIORITY, 0, 1, bytes(5)),
        frame(0x99, 0, 0, b""),
    ],
    ids=["ping", "settings", "priority", "unknown"],
)
async def test_a_flood_of_idle_frames_ends_the_connection(serve: Serve, flood: bytes) -> None:
    async with serve() as listener, connected(listener) as client:
        client.send(flood * 20_000)
        assert await goes_away(client) == ErrorCode.ENHANCE_YOUR_CALM


async def test_a_flood_of_empty_data_ends_the_connection(serve: Serve) -> None:
    async with serve() as listener, connected(listener) as client:
        client.send(client.headers(1, POST_ECHO, end_stream=False))
        client.send(frame(frames.DATA, 0, 1, b"") * 20_000)
        assert await goes_away(client) == ErrorCode.ENHANCE_YOUR_CALM


async def test_a_flood_of_empty_continuations_ends_the_connection(serve: Serve) -> None:
    async with serve() as listener, connected(listener) as client:
        client.send(frame(frames.HEADERS, 0, 1, b"\x83"))
        client.send(frame(frames.CONTINUATION, 0, 1, b"") * 20_000)
        assert await goes_away(client) == ErrorCode.ENHANCE_YOUR_CALM


async def test_a_peer_that_pings_and_never_reads_is_not_buffered_without_end(serve: Serve) -> None:
    async with serve() as listener, connected(listener) as client:
        client.send(client.headers(1, POST_PING, end_stream=False))
        client.send(frame(frames.PING, 0, 0, bytes(8)) * 4000)
        await still_serves(client, 3)


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
    ("sent", "code"),
    [
        (frame(frames.DATA, 0, 1, b"x"), ErrorCode.PROTOCOL_ERROR),
        (frame(frames.DATA, 0, 0, b"x"), ErrorCode.PROTOCOL_ERROR),
        (frame(frames.HEADERS, frames.END_HEADERS, 2, b"\x82"), ErrorCode.PROTOCOL_ERROR),
        (frame(frames.HEADERS, frames.END_HEADERS, 0, b"\x82"), ErrorCode.PROTOCOL_ERROR),
        (frame(frames.HEADERS, frames.END_HEADERS, 1, b"\xff"), ErrorCode.COMPRESSION_ERROR),
        (frame(frames.HEADERS, frames.END_HEADERS, 1, b"\x80"), ErrorCode.COMPRESSION_ERROR),
        (frame(frames.HEADERS, frames.END_HEADERS, 1, b"\x3f\xe2\x1f"),
         ErrorCode.COMPRESSION_ERROR),
        (frame(frames.HEADERS, frames.PADDED, 1, b"\xff"), ErrorCode.PROTOCOL_ERROR),
        (frame(frames.HEADERS, frames.PRIORITISED, 1, b"abc"), ErrorCode.FRAME_SIZE_ERROR),
        (frame(frames.HEADERS, 0, 1, b"") + frame(frames.PING, 0, 0, bytes(8)),
         ErrorCode.PROTOCOL_ERROR),
        (frame(frames.CONTINUATION, 0, 1, b""), ErrorCode.PROTOCOL_ERROR),
        (frame(frames.RST_STREAM, 0, 1, bytes(4)), ErrorCode.PROTOCOL_ERROR),
        (frame(frames.RST_STREAM, 0, 1, bytes(3)), ErrorCode.FRAME_SIZE_ERROR),
        (frame(frames.SETTINGS, 0, 1, b""), ErrorCode.PROTOCOL_ERROR),
        (frame(frames.SETTINGS, 0, 0, bytes(5)), ErrorCode.FRAME_SIZE_ERROR),
        (frame(frames.SETTINGS, frames.ACK, 0, bytes(6)), ErrorCode.FRAME_SIZE_ERROR),
        (frames.settings([(4, 1 << 31)]), ErrorCode.FLOW_CONTROL_ERROR),
        (frames.settings([(5, 100)]), ErrorCode.PROTOCOL_ERROR),
        (frames.settings([(2, 2)]), ErrorCode.PROTOCOL_ERROR),
        (frame(frames.PUSH_PROMISE, 0, 1, bytes(4)), ErrorCode.PROTOCOL_ERROR),
        (frame(frames.PING, 0, 0, b"short"), ErrorCode.FRAME_SIZE_ERROR),
        (frame(frames.PING, 0, 1, bytes(8)), ErrorCode.PROTOCOL_ERROR),
        (frames.window_update(0, 0), ErrorCode.PROTOCOL_ERROR),
        (frames.window_update(0, frames.MAX_WINDOW), ErrorCode.FLOW_CONTROL_ERROR),
        (frames.window_update(5, 1), ErrorCode.PROTOCOL_ERROR),
        (frame(frames.WINDOW_UPDATE, 0, 0, b""), ErrorCode.FRAME_SIZE_ERROR),
        (frames.frame_head(1 << 20, frames.DATA, 0, 1), ErrorCode.FRAME_SIZE_ERROR),
    ],
)  # fmt: skip
async def test_a_broken_connection_rule_is_answered_with_goaway(
    serve: Serve, sent: bytes, code: ErrorCode
) -> None:
    async with serve() as listener, connected(listener) as client:
        client.send(sent)
        assert await goes_away(client) == code


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


async def test_a_body_longer_than_announced_is_reset(serve: Serve) -> None:
    async with serve() as listener, connected(listener) as client:
        head = request("POST", "/echo", ("content-length", "3"))
        client.send(client.headers(1, head, end_stream=False))
        client.send(frame(frames.DATA, frames.END_STREAM, 1, b"12345"))
        assert (await client.until(frames.RST_STREAM)).code == ErrorCode.PROTOCOL_ERROR
        await still_serves(client, 3)


async def test_data_after_the_end_is_reset(serve: Serve) -> None:
    async with serve() as listener, connected(listener) as client:
        client.send(client.headers(1, GET_WAITING))
        client.send(frame(frames.DATA, 0, 1, b"late"))
        assert (await client.until(frames.RST_STREAM)).code == ErrorCode.STREAM_CLOSED
        await still_serves(client, 3)


async def test_a_handler_that_does_not_read_stops_its_peer_at_the_window(
    serve: Serve, waiting: Waiting
) -> None:
    config = ListenerConfig(http2=Http2Config(stream_window_bytes=100_000))
    async with serve(config) as listener, connected(listener) as client:
        client.send(client.headers(1, request("POST", "/waiting"), end_stream=False))
        for _ in range(10):
            client.send(frame(frames.DATA, 0, 1, bytes(10_000)))
        await still_serves(client, 3)
        client.send(frame(frames.DATA, 0, 1, b"x"))
        reset = await client.until(frames.RST_STREAM)
        assert (reset.stream_id, reset.code) == (1, ErrorCode.FLOW_CONTROL_ERROR)
        await waiting.until(stopped=1)


async def test_the_connection_window_survives_abandoned_bodies(serve: Serve) -> None:
    config = ListenerConfig(
        http2=Http2Config(stream_window_bytes=70_000, connection_window_bytes=100_000)
    )
    async with serve(config) as listener, connected(listener) as client:
        for stream_id in range(1, 41, 2):
            client.send(client.headers(stream_id, request("POST", "/waiting"), end_stream=False))
            client.send(frame(frames.DATA, 0, stream_id, bytes(50_000)))
            client.send(frames.reset(stream_id, ErrorCode.CANCEL))
        await still_serves(client, 41)


async def test_padding_is_given_back_to_the_window(serve: Serve) -> None:
    config = ListenerConfig(
        http2=Http2Config(stream_window_bytes=70_000, connection_window_bytes=70_000)
    )
    async with serve(config) as listener, connected(listener) as client:
        client.send(client.headers(1, POST_ECHO, end_stream=False))
        for _ in range(400):
            client.send(frame(frames.DATA, frames.PADDED, 1, b"\xff" + b"y" + bytes(255)))
            await asyncio.sleep(0)
        client.send(frame(frames.DATA, frames.END_STREAM, 1, b""))
        assert await client.response(1) != ({}, b"")


async def test_streams_over_the_limit_are_refused(serve: Serve, waiting: Waiting) -> None:
    config = ListenerConfig(http2=Http2Config(max_streams=3))
    async with serve(config) as listener, connected(listener) as client:
        for stream_id in (1, 3, 5, 7):
            client.send(client.headers(stream_id, GET_WAITING))
        reset = await client.until(frames.RST_STREAM)
        assert (reset.stream_id, reset.code) == (7, ErrorCode.REFUSED_STREAM)
        client.send(frames.reset(1, ErrorCode.CANCEL))
        await waiting.until(stopped=1)
        await still_serves(client, 9)


@pytest.mark.parametrize("how", ["reset", "disconnect", "half-close"])
async def test_a_handler_stops_when_its_peer_leaves(
    serve: Serve, waiting: Waiting, how: str
) -> None:
    async with serve() as listener, connected(listener) as client:
        client.send(client.headers(1, GET_WAITING))
        await waiting.until(started=1)
        if how == "reset":
            client.send(frames.reset(1, ErrorCode.CANCEL))
        elif how == "disconnect":
            client.writer.transport.abort()
        else:
            client.writer.write_eof()
        await waiting.until(stopped=1)


async def test_an_answer_before_the_end_of_the_body_closes_the_request_side(serve: Serve) -> None:
    async with serve() as listener, connected(listener) as client:
        client.send(client.headers(1, request("POST", "/early"), end_stream=False))
        fields, body = await client.response(1)
        assert (fields[":status"], body) == ("409", b"no need to read\n")
        assert (await client.until(frames.RST_STREAM)).code == ErrorCode.NO_ERROR
        client.send(frame(frames.DATA, frames.END_STREAM, 1, b"late"))
        await still_serves(client, 3)


@pytest.mark.parametrize("announced", [True, False])
async def test_a_body_over_its_routes_limit_is_413(serve: Serve, announced: bool) -> None:
    async with serve() as listener, connected(listener) as client:
        extra = [("content-length", "5000")] if announced else []
        client.send(client.headers(1, request("POST", "/small", *extra), end_stream=False))
        client.send(frame(frames.DATA, 0, 1, bytes(2000)))
        fields, body = await client.response(1)
        assert (fields[":status"], body) == ("413", b"request body is over 1000 bytes\n")
        await still_serves(client, 3)


async def test_a_frame_that_never_ends_is_timed_out(serve: Serve) -> None:
    async with serve() as listener, connected(listener) as client:
        await client.until(frames.SETTINGS)
        client.send(frames.frame_head(1000, frames.HEADERS, 0, 1) + b"\x82")
        await client.until(frames.SETTINGS)  # the answer to ours: the rest is being read
        await asyncio.sleep(0.01)
        listener.sweep(time.monotonic() + 29)
        assert listener.num_connections == 1
        listener.sweep(time.monotonic() + 31)
        await client.closes()


async def test_a_header_block_that_drips_is_timed_out_as_a_whole(serve: Serve) -> None:
    later = 0.0
    async with (
        serve(clock=lambda: time.monotonic() + later) as listener,
        connected(listener) as client,
    ):
        client.send(frame(frames.HEADERS, 0, 1, b"\x82"))
        for _ in range(3):
            client.send(frame(frames.CONTINUATION, 0, 1, b"\x86"))
            await asyncio.sleep(0.05)
            later += 12.0
        listener.sweep(time.monotonic() + later)
        assert await goes_away(client) == ErrorCode.NO_ERROR


async def test_an_idle_connection_is_closed_and_one_with_a_stream_is_not(
    serve: Serve, waiting: Waiting
) -> None:
    async with serve() as listener, connected(listener) as client:
        client.send(client.headers(1, GET_WAITING))
        await waiting.until(started=1)
        listener.sweep(time.monotonic() + 86_400)
        await still_serves(client, 3)
        client.send(frames.reset(1, ErrorCode.CANCEL))
        await waiting.until(stopped=1)
        listener.sweep(time.monotonic() + 601)
        assert await goes_away(client) == ErrorCode.NO_ERROR


async def test_a_slow_reader_holds_up_nobody_else(serve: Serve) -> None:
    async with serve() as listener, connected(listener) as client:
        big = [(n, "/net.Orchestrator/Big" if n == ":path" else v) for n, v in POST_PING]
        client.send(client.headers(1, big, end_stream=False))
        client.send(frame(frames.DATA, frames.END_STREAM, 1, bytes(5)))
        received = 0
        while received < frames.DEFAULT_WINDOW:
            received += len((await client.until(frames.DATA)).payload)
        await still_serves(client, 3)
        client.send(frames.window_update(0, 1 << 24), frames.window_update(1, 1 << 24))
        while True:
            one = await client.until(frames.DATA, frames.HEADERS)
            received += len(one.payload) if one.kind == frames.DATA else 0
            if one.ends_stream:
                break
        assert received == 3_000_005


async def test_windows_set_to_zero_and_back_release_the_answer(serve: Serve) -> None:
    no_window = [(frames.SETTING_INITIAL_WINDOW_SIZE, 0)]
    async with serve() as listener, connected(listener, settings=no_window) as client:
        client.send(client.headers(1, POST_PING, end_stream=False))
        client.send(frame(frames.DATA, frames.END_STREAM, 1, b"\0\0\0\0\3abc"))
        client.send(client.headers(3, request("POST", "/echo"), end_stream=False))
        client.send(frame(frames.DATA, frames.END_STREAM, 3, b"hello"))
        await client.until(frames.HEADERS)
        client.send(frames.settings([(frames.SETTING_INITIAL_WINDOW_SIZE, 100)]))
        bodies = {}
        while len(bodies) < 2:
            one = await client.until(frames.DATA)
            bodies[one.stream_id] = one.payload
        assert bodies == {1: b"\0\0\0\0\3abc", 3: b"hello"}


async def test_a_peer_that_shrinks_its_header_table_is_told_so(serve: Serve) -> None:
    tiny = [(frames.SETTING_HEADER_TABLE_SIZE, 0)]
    async with serve() as listener, connected(listener, settings=tiny) as client:
        client.send(client.headers(1, request("GET", "/healthz")))
        block = (await client.until(frames.HEADERS)).payload
        assert block[:2] == b"\x20\x88"


async def test_garbage_behind_the_preface_is_an_error(serve: Serve) -> None:
    async with serve() as listener, connected(listener) as client:
        client.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert await goes_away(client) == ErrorCode.FRAME_SIZE_ERROR


@pytest.mark.parametrize(
    ("body", "status", "text"),
    [
        (b"", "13", "message frame of 0 bytes is truncated"),
        (b"\0\0\0", "13", "message frame of 3 bytes is truncated"),
        (b"\0\0\0\0\5ab", "13", "message frame announces 5 bytes and 2 came"),
        (b"\0\0\0\0\1ab", "13", "message frame announces 1 bytes and 2 came"),
        (b"\0\xff\xff\xff\xffab", "13", "message frame announces 4294967295 bytes and 2 came"),
        (b"\1\0\0\0\2ab", "12", "compressed messages are not supported"),
    ],
)
async def test_a_broken_grpc_message_has_a_clear_status(
    serve: Serve, body: bytes, status: str, text: str
) -> None:
    async with serve() as listener, connected(listener) as client:
        client.send(client.headers(1, POST_PING, end_stream=False))
        client.send(frame(frames.DATA, frames.END_STREAM, 1, body))
        fields, _ = await client.response(1)
        assert fields[":status"] == "200"
        assert (fields["grpc-status"], fields["grpc-message"]) == (status, text)


async def test_an_oversized_grpc_message_is_refused_while_it_arrives(serve: Serve) -> None:
    async with serve() as listener, connected(listener) as client:
        client.send(client.headers(1, POST_PING, end_stream=False))
        client.send(frame(frames.DATA, 0, 1, b"\0\0\xff\xff\xff" + bytes(60_000)))
        client.send(*[frame(frames.DATA, 0, 1, bytes(60_000))] * 70)
        fields, _ = await client.response(1)
        assert fields["grpc-status"] == "8"
        await still_serves(client, 3)


@pytest.mark.parametrize(
    ("method", "content_type", "status"),
    [
        ("POST", "application/grpc+proto", "200"),
        ("POST", "application/grpc;charset=utf-8", "200"),
        ("POST", "application/grpc-web", "415"),
        ("POST", "application/grpcx", "415"),
        ("GET", "application/grpc", "405"),
    ],
)
async def test_what_only_looks_like_grpc_is_refused(
    serve: Serve, method: str, content_type: str, status: str
) -> None:
    async with serve() as listener, connected(listener) as client:
        head = request(method, "/net.Orchestrator/Ping", ("content-type", content_type))
        client.send(client.headers(1, head, end_stream=False))
        client.send(frame(frames.DATA, frames.END_STREAM, 1, bytes(5)))
        fields, _ = await client.response(1)
        assert fields[":status"] == status


async def test_grpc_messages_that_never_end_do_not_fill_the_memory(serve: Serve) -> None:
    async with serve() as listener, connected(listener) as client:
        part = frame(frames.DATA, 0, 0, bytes(16_384))
        num_parts = 63  # close to the window of a stream
        for stream_id in range(1, 41, 2):
            client.send(client.headers(stream_id, POST_PING, end_stream=False))
            client.send((part[:5] + stream_id.to_bytes(4, "big") + part[9:]) * num_parts)
        fields, _ = await client.response(33)
        assert fields["grpc-status"] == "8"
        assert fields["grpc-message"] == "too many unfinished messages"
        client.send(*(frames.reset(stream_id, ErrorCode.CANCEL) for stream_id in range(1, 33, 2)))
        client.send(client.headers(41, POST_PING, end_stream=False))
        client.send(frame(frames.DATA, frames.END_STREAM, 41, bytes(5)))
        fields, _ = await client.response(41)
        assert fields["grpc-status"] == "0"


async def test_a_body_in_tiny_frames_is_kept_in_few_objects(serve: Serve) -> None:
    async with serve() as listener, connected(listener) as client:
        client.send(client.headers(1, POST_PING, end_stream=False))
        await still_serves(client, 3)
        before = sys.getallocatedblocks()
        client.send(*(frame(frames.DATA, 0, 1, b"ab") for _ in range(50_000)))
        await still_serves(client, 5)
        assert sys.getallocatedblocks() - before < 10_000


async def test_a_grpc_request_that_never_ends_is_timed_out(serve: Serve) -> None:
    async with serve() as listener, connected(listener) as client:
        client.send(client.headers(1, POST_PING, end_stream=False))
        await still_serves(client, 3)
        listener.sweep(time.monotonic() + 61)
        fields, _ = await client.response(1)
        assert fields["grpc-status"] == "4"


async def test_a_grpc_path_without_the_content_type_is_an_ordinary_route(serve: Serve) -> None:
    async with serve() as listener, connected(listener) as client:
        head = request("POST", "/net.Orchestrator/Ping", ("content-type", "application/json"))
        client.send(client.headers(1, head))
        fields, body = await client.response(1)
        assert (fields[":status"], body) == ("404", b"404 page not found\n")


async def test_a_failing_handler_is_a_500_without_its_reason(serve: Serve) -> None:
    async with serve() as listener, connected(listener) as client:
        client.send(client.headers(1, request("GET", "/broken")))
        fields, body = await client.response(1)
        assert (fields[":status"], body) == ("500", b"internal error\n")


async def test_draining_announces_itself_and_waits_for_open_streams(
    serve: Serve, waiting: Waiting
) -> None:
    async with serve() as listener, connected(listener) as client:
        client.send(client.headers(1, request("POST", "/mirror"), end_stream=False))
        await client.until(frames.HEADERS)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(listener.drain(5.0), name="drain")
            assert (await client.until(frames.GOAWAY)).code == ErrorCode.NO_ERROR
            client.send(client.headers(3, GET_WAITING))
            assert (await client.until(frames.RST_STREAM)).code == ErrorCode.REFUSED_STREAM
            client.send(frame(frames.DATA, frames.END_STREAM, 1, b"the rest"))
            assert (await client.until(frames.DATA)).payload == b"the rest"
            await client.closes()


async def test_draining_cuts_what_is_left_at_its_deadline(serve: Serve, waiting: Waiting) -> None:
    async with serve() as listener, connected(listener) as client:
        client.send(client.headers(1, GET_WAITING))
        await waiting.until(started=1)
        await listener.drain(0.05)
        await waiting.until(stopped=1)


async def test_connections_over_the_limit_are_closed_at_once(serve: Serve) -> None:
    config = replace(ListenerConfig(), max_connections=1)
    async with serve(config) as listener, connected(listener) as first:
        await still_serves(first, 1)
        reader, writer = await asyncio.open_connection("127.0.0.1", listener.port)
        with contextlib.suppress(ConnectionResetError):
            assert await reader.read() == b""
        writer.close()
        await still_serves(first, 3)


async def test_a_peer_that_never_reads_cannot_hold_a_closing_connection(serve: Serve) -> None:
    async with serve() as listener, connected(listener) as client:
        await client.until(frames.SETTINGS)
        client.writer.transport.pause_reading()  # type: ignore[attr-defined]
        client.send(frames.window_update(0, 1 << 30))
        client.send(frames.settings([(frames.SETTING_INITIAL_WINDOW_SIZE, 1 << 30)]))
        big = request("POST", "/net.Orchestrator/Big", ("content-type", "application/grpc"))
        for stream_id in (1, 3, 5, 7):
            client.send(client.headers(stream_id, big, end_stream=False))
            client.send(frame(frames.DATA, frames.END_STREAM, stream_id, bytes(5)))
        await asyncio.sleep(0.2)  # the socket's buffers are full
        client.send(frame(frames.PING, 0, 0, b"short"))
        await asyncio.sleep(0.7)
        now = time.monotonic()
        listener.sweep(now)
        assert listener.num_connections == 1
        listener.sweep(now + 11)
        await asyncio.sleep(0.05)
        assert listener.num_connections == 0
