"""One server of ``net.Orchestrator`` in a process of its own, for bench_get_orchestrator.

Usage: python orchestrator_server.py edge|grpc.aio CERTIFICATE_DIR [--plaintext]
Prints its port, then serves until its standard input closes.
"""

import asyncio
import sys
from collections.abc import Callable
from pathlib import Path

import grpc
import uvloop

from lpnode.admission.ai_models import DEFAULT_AI_MODELS, slots_of
from lpnode.admission.auth_token import AuthTokens
from lpnode.admission.quote import Quote, QuoteConfig
from lpnode.edge.certificate import ensure_certificate, server_context
from lpnode.edge.exchange import Request, Response
from lpnode.edge.grpc.orchestrator import Orchestrator
from lpnode.edge.listener import Listener, ListenerConfig
from lpnode.schedule.capacity import Capacity


def orchestrator() -> Orchestrator:
    """The node's own methods, off-chain."""
    capacity = Capacity(slots_of(DEFAULT_AI_MODELS))
    tokens = AuthTokens(bytes(32))
    quote = Quote(
        QuoteConfig(service_uri="https://127.0.0.1:8935"),
        models=DEFAULT_AI_MODELS,
        capacity=capacity,
        tokens=tokens,
        gpus=(),
    )
    return Orchestrator(quote=quote, capacity=capacity, tokens=tokens)


async def until_input_closes() -> None:
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


async def no_routes(request: Request) -> Response:
    return Response(404)


async def serve_edge(directory: Path, *, is_tls: bool) -> None:
    tls = server_context(ensure_certificate(directory, "127.0.0.1")) if is_tls else None
    listener = Listener(ListenerConfig(host="127.0.0.1", port=0), tls=tls)
    await listener.bind()
    print(listener.port, flush=True)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(listener.run(no_routes, orchestrator().methods()))
        await until_input_closes()
        await listener.drain(1.0)


class _SameMethods(grpc.GenericRpcHandler):
    """The same methods for grpc.aio: bytes in, bytes out, no serialiser in between."""

    def __init__(self) -> None:
        self._handlers = {
            path: grpc.unary_unary_rpc_method_handler(_as_coroutine(method))
            for path, method in orchestrator().methods().items()
        }

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler | None:
        return self._handlers.get(details.method)


def _as_coroutine(method: Callable[[bytes], bytes]) -> Callable[..., object]:
    async def call(message: bytes, context: object) -> bytes:
        return method(message)

    return call


async def serve_grpc_aio(directory: Path, *, is_tls: bool) -> None:
    files = ensure_certificate(directory, "127.0.0.1")
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((_SameMethods(),))
    if is_tls:
        pair = (files.key.read_bytes(), files.certificate.read_bytes())
        port = server.add_secure_port("127.0.0.1:0", grpc.ssl_server_credentials([pair]))
    else:
        port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    print(port, flush=True)
    await until_input_closes()
    await server.stop(None)


def main() -> None:
    kind, directory = sys.argv[1], Path(sys.argv[2])
    is_tls = "--plaintext" not in sys.argv
    if kind == "edge":
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(serve_edge(directory, is_tls=is_tls))
    elif kind == "grpc.aio":
        asyncio.run(serve_grpc_aio(directory, is_tls=is_tls))
    elif kind == "grpc.aio+uvloop":
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(serve_grpc_aio(directory, is_tls=is_tls))
    else:
        sys.exit(f"unknown server {kind!r}")


if __name__ == "__main__":
    main()
