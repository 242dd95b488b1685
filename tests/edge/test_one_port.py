"""Discovery checklist 1 to 6: everything on one port, as stock clients see it."""

import asyncio
import ssl
from collections.abc import Awaitable
from pathlib import Path

import grpc
import httpx
import pytest
from edge.conftest import Serve, Waiting
from edge.raw_http2 import POST_PING, connected, request

from lpnode.edge.exchange import Request, Response
from lpnode.edge.http2 import frames
from lpnode.edge.listener import Listener, ListenerConfig
from lpnode.errors import ConfigError


def _call(channel: grpc.aio.Channel, name: str, message: bytes = b"", **options: object) -> object:
    method = channel.unary_unary(f"/net.Orchestrator/{name}")
    return method(message, timeout=5, **options)


def _insecure_channel(listener: Listener) -> grpc.aio.Channel:
    return grpc.aio.insecure_channel(f"127.0.0.1:{listener.port}")


@pytest.fixture
def root(tmp_path: Path, tls: ssl.SSLContext) -> bytes:
    return (tmp_path / "cert.pem").read_bytes()


async def test_one_tls_port_answers_grpc_http2_and_http1(
    serve: Serve, tls: ssl.SSLContext, root: bytes
) -> None:
    async with serve(tls=tls) as listener:
        url = f"https://127.0.0.1:{listener.port}/healthz"
        async with grpc.aio.secure_channel(
            f"127.0.0.1:{listener.port}",
            grpc.ssl_channel_credentials(root),
            [("grpc.ssl_target_name_override", "127.0.0.1")],
        ) as channel:
            assert await _call(channel, "Ping", b"\x0a\x01x") == b"\x0a\x01x"
        for http2, version in ((True, "HTTP/2"), (False, "HTTP/1.1")):
            async with httpx.AsyncClient(verify=False, http2=http2) as client:
                answer = await client.get(url)
                assert (answer.status_code, answer.content) == (200, b"")
                assert answer.http_version == version


async def test_plaintext_port_answers_prior_knowledge_grpc_and_http1(serve: Serve) -> None:
    async with serve() as listener:
        async with _insecure_channel(listener) as channel:
            assert await _call(channel, "Ping", b"\x0a\x01x") == b"\x0a\x01x"
            assert await _call(channel, "EndTranscodingSession", b"") == b""
            assert len(await _call(channel, "Big", b"")) == 3_000_000
        async with httpx.AsyncClient() as client:
            answer = await client.get(f"http://127.0.0.1:{listener.port}/healthz")
            assert answer.status_code == 200


async def test_one_http2_connection_carries_grpc_and_json(serve: Serve) -> None:
    """Discovery checklist 3."""
    async with serve() as listener, connected(listener) as client:
        message = frames.frame(frames.DATA, frames.END_STREAM, 1, b"\0\0\0\0\0")
        client.send(client.headers(1, POST_PING, end_stream=False), message)
        fields = [("content-type", "application/json"), ("content-length", "2")]
        body = frames.frame(frames.DATA, frames.END_STREAM, 3, b"{}")
        client.send(client.headers(3, request("POST", "/echo", *fields), end_stream=False), body)
        assert (await client.response(3))[1] == b"{}"
        client.send(client.headers(5, POST_PING, end_stream=False))
        client.send(frames.frame(frames.DATA, frames.END_STREAM, 5, b"\0\0\0\0\0"))
        assert (await client.response(5))[0]["grpc-status"] == "0"


async def test_a_grpc_refusal_arrives_with_status_2_and_its_exact_text(serve: Serve) -> None:
    async with serve() as listener, _insecure_channel(listener) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await _call(channel, "GetOrchestrator")
        assert caught.value.code() is grpc.StatusCode.UNKNOWN
        assert caught.value.details() == "Invalid orchestrator request: OrchestratorCapped"


@pytest.mark.parametrize(
    ("name", "code"),
    [("Nonsense", grpc.StatusCode.UNIMPLEMENTED), ("Crash", grpc.StatusCode.INTERNAL)],
)
async def test_other_failures_have_their_grpc_status(
    serve: Serve, name: str, code: grpc.StatusCode
) -> None:
    async with serve() as listener, _insecure_channel(listener) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await _call(channel, name)
        assert caught.value.code() is code
        assert "secret" not in caught.value.details()


async def test_compressed_messages_are_unimplemented(serve: Serve) -> None:
    async with serve() as listener, _insecure_channel(listener) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await _call(channel, "Ping", bytes(5000), compression=grpc.Compression.Gzip)
        assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


async def test_many_calls_share_one_connection(serve: Serve) -> None:
    async with serve() as listener, _insecure_channel(listener) as channel:
        messages = [b"%d" % number * 50 for number in range(300)]
        answers = await asyncio.gather(*(_call(channel, "Ping", one) for one in messages))
        assert answers == messages
        assert listener.num_connections == 1


async def test_a_listener_that_is_drained_before_it_runs_ends_at_once() -> None:
    async def no_routes(request: Request) -> Response:
        return Response(404)

    listener = Listener(ListenerConfig(host="127.0.0.1", port=0))
    await listener.bind()
    await listener.drain(1.0)
    await listener.run(no_routes)


async def test_cancelling_a_listener_leaves_nothing(waiting: Waiting) -> None:
    listener = Listener(ListenerConfig(host="127.0.0.1", port=0))
    await listener.bind()
    async with httpx.AsyncClient() as client:
        base = f"http://127.0.0.1:{listener.port}"
        async with asyncio.TaskGroup() as tasks:
            serving = tasks.create_task(listener.run(waiting), name="listener")
            asking = tasks.create_task(_swallow(client.get(f"{base}/waiting")), name="client")
            await waiting.until(started=1)
            serving.cancel()
            await asking
    assert waiting.num_stopped == 1
    assert listener.num_connections == 0


async def _swallow(request: Awaitable[object]) -> None:
    with pytest.raises(httpx.HTTPError):
        await request


async def test_a_port_that_is_taken_is_a_configuration_error() -> None:
    first = Listener(ListenerConfig(host="127.0.0.1", port=0))
    await first.bind()
    with pytest.raises(ConfigError, match=f"cannot listen on 127.0.0.1:{first.port}"):
        await Listener(ListenerConfig(host="127.0.0.1", port=first.port)).bind()
    await first.drain(0)
