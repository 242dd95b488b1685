"""HTTP/1.1 as peers of every kind see it: well-behaved, slow, broken and gone."""

import asyncio
import contextlib
import socket
import ssl
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import pytest
from edge.conftest import Serve, Waiting

from lpnode.edge.listener import Listener
from lpnode.gateway.http2_post import gateway_tls

HEALTHZ = b"GET /healthz HTTP/1.1\r\nHost: node\r\n\r\n"


class Raw:
    """A socket and its answers."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    async def head(self) -> bytes:
        async with asyncio.timeout(10):
            return await self.reader.readuntil(b"\r\n\r\n")

    async def rest(self) -> bytes:
        """Everything until the server closes; empty when it breaks the connection off."""
        async with asyncio.timeout(10):
            try:
                return await self.reader.read()
            except ConnectionResetError:
                return b""


@asynccontextmanager
async def connected(listener: Listener) -> AsyncIterator[Raw]:
    reader, writer = await asyncio.open_connection("127.0.0.1", listener.port, limit=1 << 24)
    try:
        yield Raw(reader, writer)
    finally:
        writer.transport.abort()


async def until_received(listener: Listener, num: int = 1) -> None:
    """Waits until the listener has ``num`` connections and has read what they have sent."""
    for _ in range(100):
        await asyncio.sleep(0.02)
        if listener.num_connections == num:
            return
    raise AssertionError(f"{listener.num_connections} connections, not {num}")


async def test_keep_alive_serves_one_request_after_another(serve: Serve) -> None:
    async with serve() as listener, connected(listener) as peer:
        for _ in range(3):
            peer.send(HEALTHZ)
            assert (await peer.head()).startswith(b"HTTP/1.1 200 ")
        assert listener.num_connections == 1


async def test_pipelined_requests_are_answered_in_order(serve: Serve) -> None:
    async with serve() as listener, connected(listener) as peer:
        nowhere = b"GET /nowhere HTTP/1.1\r\nHost: node\r\nConnection: close\r\n\r\n"
        peer.send(HEALTHZ + HEALTHZ + nowhere)
        answers = await peer.rest()
        assert answers.count(b"HTTP/1.1 200 ") == 2
        assert answers.index(b"HTTP/1.1 404 ") > answers.rindex(b"HTTP/1.1 200 ")


async def test_unknown_paths_and_methods_are_told_apart(serve: Serve) -> None:
    async with serve() as listener, httpx.AsyncClient() as client:
        base = f"http://127.0.0.1:{listener.port}"
        missing = await client.get(base + "/nowhere")
        assert (missing.status_code, missing.text) == (404, "404 page not found\n")
        wrong = await client.get(base + "/echo")
        assert (wrong.status_code, wrong.headers["allow"]) == (405, "POST")
        wrong = await client.delete(base + "/waiting")
        assert wrong.headers["allow"] == "GET, HEAD, POST"
        head = await client.head(base + "/header")
        assert (head.status_code, head.content) == (200, b"")


@pytest.mark.parametrize("http2", [True, False])
async def test_large_bodies_go_both_ways(serve: Serve, tls: object, http2: bool) -> None:
    body = bytes(range(256)) * 40_000
    async with (
        serve(tls=tls) as listener,
        httpx.AsyncClient(verify=False, http2=http2, timeout=30) as client,
    ):
        base = f"https://127.0.0.1:{listener.port}"
        echoed = await client.post(base + "/echo", content=body)
        assert echoed.content == body
        mirrored = await client.post(base + "/mirror", content=body)
        assert mirrored.content == body
        assert mirrored.http_version == ("HTTP/2" if http2 else "HTTP/1.1")


@pytest.mark.parametrize("target", ["/echo?a=b", "http://node:8935/echo?a=b"])
async def test_origin_and_absolute_form_reach_the_same_route(serve: Serve, target: str) -> None:
    async with serve() as listener, connected(listener) as peer:
        peer.send(f"POST {target} HTTP/1.1\r\nHost: node\r\nContent-Length: 2\r\n\r\nhi".encode())
        assert b"X-Said: POST /echo 2 1.1\r\n" in await peer.head()


async def test_a_body_announced_with_expect_is_asked_for(serve: Serve) -> None:
    async with serve() as listener, connected(listener) as peer:
        head = b"POST /echo HTTP/1.1\r\nHost: node\r\nContent-Length: 2\r\nExpect: 100-continue\r\n"
        peer.send(head + b"\r\n")
        assert await peer.head() == b"HTTP/1.1 100 Continue\r\n\r\n"
        peer.send(b"hi")
        assert (await peer.head()).startswith(b"HTTP/1.1 200 ")


async def test_http_1_0_gets_an_answer_that_ends_with_the_connection(serve: Serve) -> None:
    async with serve() as listener, connected(listener) as peer:
        peer.send(b"POST /mirror HTTP/1.0\r\nContent-Length: 5\r\n\r\nhello")
        answer = await peer.rest()
        assert answer.endswith(b"\r\n\r\nhello")
        assert b"chunked" not in answer.lower()


async def test_a_head_of_one_mebibyte_reaches_its_handler(serve: Serve) -> None:
    async with serve() as listener, connected(listener) as peer:
        size = (1 << 20) - 100
        head = b"GET /header HTTP/1.1\r\nHost: node\r\nLivepeer-Payment: %b\r\n" % (b"a" * size)
        peer.send(head + b"Connection: close\r\n\r\n")
        assert (await peer.rest()).endswith(b"\r\n\r\n%d" % size)


@pytest.mark.parametrize(
    "head",
    [
        b"GET /header HTTP/1.1\r\nHost: node\r\nX: " + b"a" * 3_000_000,
        b"GET /" + b"a" * 3_000_000,
        b"GET /healthz HTTP/1.1\r\n" + b"A: b\r\n" * 500_000,
    ],
    ids=["field", "line", "fields"],
)
async def test_a_head_over_the_limit_is_refused(serve: Serve, head: bytes) -> None:
    async with serve() as listener, connected(listener) as peer:
        peer.send(head)
        answer = await peer.rest()
        assert answer.startswith(b"HTTP/1.1 431 ")


@pytest.mark.parametrize("part", [b"G", b"GET /healthz HTT", HEALTHZ[:-2]])
async def test_a_head_that_never_ends_is_timed_out(serve: Serve, part: bytes) -> None:
    async with serve() as listener, connected(listener) as peer:
        peer.send(part)
        await until_received(listener)
        listener.sweep(time.monotonic() + 29)
        assert listener.num_connections == 1
        listener.sweep(time.monotonic() + 31)
        assert (await peer.rest()).startswith(b"HTTP/1.1 408 ")


async def test_a_second_head_that_never_ends_is_timed_out(serve: Serve) -> None:
    async with serve() as listener, connected(listener) as peer:
        peer.send(HEALTHZ)
        await peer.head()
        peer.send(HEALTHZ[:-2])
        await until_received(listener)
        listener.sweep(time.monotonic() + 31)
        assert (await peer.rest()).startswith(b"HTTP/1.1 408 ")


async def test_a_connection_may_be_silent_for_five_minutes_before_its_first_head(
    serve: Serve,
) -> None:
    async with serve() as listener, connected(listener) as peer:
        await until_received(listener)
        listener.sweep(time.monotonic() + 301)
        peer.send(HEALTHZ)
        assert (await peer.head()).startswith(b"HTTP/1.1 200 ")


async def test_a_connection_that_says_nothing_at_all_is_closed_in_the_end(serve: Serve) -> None:
    async with serve() as listener, connected(listener) as peer:
        await until_received(listener)
        listener.sweep(time.monotonic() + 601)
        assert await peer.rest() == b""


@pytest.mark.parametrize(
    "garbage",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"\x00\x00\x00\x00",
        b"hello there\r\n\r\n",
        b"GET\r\n\r\n",
        b"GET /healthz SMTP/9\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nno colon\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n",
        b"POST /echo HTTP/1.1\r\nHost: n\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n",
        b"POST /echo HTTP/1.1\r\nHost: n\r\nContent-Length: -5\r\n\r\n",
    ],
)
async def test_what_is_not_http_is_a_400(serve: Serve, garbage: bytes) -> None:
    async with serve() as listener, connected(listener) as peer:
        peer.send(garbage)
        assert (await peer.rest()).startswith((b"HTTP/1.1 400 ", b"HTTP/1.0 400 "))


async def test_a_malformed_chunk_is_an_error_and_stops_the_handler(serve: Serve) -> None:
    async with serve() as listener, connected(listener) as peer:
        peer.send(b"POST /echo HTTP/1.1\r\nHost: n\r\nTransfer-Encoding: chunked\r\n\r\n")
        peer.send(b"5\r\nhello\r\nzz\r\n")
        assert (await peer.rest()).startswith((b"HTTP/1.1 400 ", b"HTTP/1.0 400 "))


@pytest.mark.parametrize("announced", [True, False])
async def test_a_body_over_its_routes_limit_is_413(serve: Serve, announced: bool) -> None:
    async with serve() as listener, connected(listener) as peer:
        how = b"Content-Length: 5000" if announced else b"Transfer-Encoding: chunked"
        body = bytes(2000) if announced else b"7d0\r\n" + bytes(2000) + b"\r\n"
        peer.send(b"POST /small HTTP/1.1\r\nHost: n\r\n" + how + b"\r\n\r\n" + body)
        head = await peer.head()
        assert head.startswith(b"HTTP/1.1 413 ")
        assert b"connection: close" in head.lower()


async def test_an_early_answer_is_sent_before_the_body_ends(serve: Serve) -> None:
    async with serve() as listener, connected(listener) as peer:
        peer.send(b"POST /early HTTP/1.1\r\nHost: n\r\nContent-Length: 100000\r\n\r\nabc")
        head = await peer.head()
        assert head.startswith(b"HTTP/1.1 409 ")
        assert b"connection: close" in head.lower()


async def test_a_handler_stops_when_its_peer_disconnects(serve: Serve, waiting: Waiting) -> None:
    async with serve() as listener, connected(listener) as peer:
        peer.send(b"GET /waiting HTTP/1.1\r\nHost: n\r\n\r\n")
        await waiting.until(started=1)
        peer.writer.transport.abort()
        await waiting.until(stopped=1)


async def test_a_tls_peer_that_ends_in_mid_request_is_gone_without_a_warning(
    serve: Serve, waiting: Waiting, tls: object, caplog: pytest.LogCaptureFixture
) -> None:
    async with serve(tls=tls) as listener:
        context = gateway_tls()
        context.set_alpn_protocols(["http/1.1"])
        _, writer = await asyncio.open_connection("127.0.0.1", listener.port, ssl=context)
        writer.write(b"GET /waiting HTTP/1.1\r\nHost: n\r\n\r\n")
        await waiting.until(started=1)
        writer.close()
        await waiting.until(stopped=1)
    assert "eof_received" not in caplog.text


async def test_a_half_closed_peer_still_gets_its_answer(serve: Serve) -> None:
    async with serve() as listener, connected(listener) as peer:
        peer.send(b"POST /echo HTTP/1.1\r\nHost: n\r\nContent-Length: 2\r\n\r\nhi")
        peer.writer.write_eof()
        assert (await peer.rest()).endswith(b"\r\n\r\nhi")


async def test_a_peer_that_ends_tls_early_is_no_reason_to_complain(
    serve: Serve, tls: ssl.SSLContext, caplog: pytest.LogCaptureFixture
) -> None:
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname, client.verify_mode = False, ssl.CERT_NONE

    def half_close(port: int) -> None:
        plain = socket.create_connection(("127.0.0.1", port), timeout=5)
        with plain, client.wrap_socket(plain) as secure:
            secure.sendall(HEALTHZ.replace(b"/healthz", b"/waiting"))
            with contextlib.suppress(OSError):
                secure.unwrap()

    async with serve(tls=tls) as listener:
        await asyncio.to_thread(half_close, listener.port)
    assert not caplog.records


async def test_a_half_closed_peer_does_not_keep_a_waiting_handler(
    serve: Serve, waiting: Waiting
) -> None:
    async with serve() as listener, connected(listener) as peer:
        peer.send(b"GET /waiting HTTP/1.1\r\nHost: n\r\n\r\n")
        await waiting.until(started=1)
        peer.writer.write_eof()
        await waiting.until(stopped=1)


@pytest.mark.parametrize("path", [b"/echo", b"/mirror"])
async def test_a_peer_that_leaves_in_mid_body_leaves_nothing(serve: Serve, path: bytes) -> None:
    async with serve() as listener:
        async with connected(listener) as peer:
            head = b"POST " + path + b" HTTP/1.1\r\nHost: n\r\nContent-Length: 100\r\n\r\nabc"
            peer.send(head)
            await until_received(listener)
        await until_received(listener, 0)


async def test_a_failing_handler_is_a_500_without_its_reason(serve: Serve) -> None:
    async with serve() as listener, httpx.AsyncClient() as client:
        answer = await client.get(f"http://127.0.0.1:{listener.port}/broken")
        assert (answer.status_code, answer.text) == (500, "internal error\n")


async def test_draining_closes_idle_connections_and_finishes_the_others(serve: Serve) -> None:
    async with serve() as listener, connected(listener) as idle, connected(listener) as busy:
        idle.send(HEALTHZ)
        await idle.head()
        busy.send(b"POST /echo HTTP/1.1\r\nHost: n\r\nContent-Length: 4\r\n\r\nhal")
        await until_received(listener, 2)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(listener.drain(5.0), name="drain")
            assert await idle.rest() == b""
            busy.send(b"f")
            assert (await busy.rest()).endswith(b"\r\n\r\nhalf")
