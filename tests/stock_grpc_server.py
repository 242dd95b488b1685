"""A gRPC server over TLS that is not ours, around methods that take and give bytes."""

import datetime
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpclib.const
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from grpclib.encoding.base import CodecBase
from grpclib.exceptions import GRPCError
from grpclib.server import Server, Stream

from lpnode.errors import DiscoveryRefused


class BytesCodec(CodecBase):
    """Messages pass as they are on the wire."""

    __content_subtype__ = "proto"

    def encode(self, message: Any, message_type: Any) -> bytes:
        return bytes(message)

    def decode(self, data: bytes, message_type: Any) -> Any:
        return data


class Methods:
    def __init__(self, methods: dict[str, Callable[[bytes], Any]]) -> None:
        self._methods = methods

    def __mapping__(self) -> dict[str, grpclib.const.Handler]:
        return {
            path: grpclib.const.Handler(
                self._handler(method), grpclib.const.Cardinality.UNARY_UNARY, bytes, bytes
            )
            for path, method in self._methods.items()
        }

    @staticmethod
    def _handler(method: Callable[[bytes], Any]) -> Any:
        async def handle(stream: "Stream[bytes, bytes]") -> None:
            request = await stream.recv_message()
            assert request is not None
            try:
                await stream.send_message(method(request))
            except DiscoveryRefused as error:
                raise GRPCError(grpclib.const.Status.UNKNOWN, str(error)) from error

        return handle


def self_signed(directory: Path) -> ssl.SSLContext:
    """TLS with a certificate for another name that expired long ago."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "elsewhere.example")])
    born = datetime.datetime(2001, 1, 1)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(born)
        .not_valid_after(born + datetime.timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    pem = directory / "server.pem"
    pem.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.TraditionalOpenSSL,
            serialization.NoEncryption(),
        )
        + certificate.public_bytes(serialization.Encoding.PEM)
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    context.set_alpn_protocols(["h2"])
    return context


@asynccontextmanager
async def serving(
    methods: dict[str, Callable[[bytes], Any]], tls: ssl.SSLContext | None
) -> AsyncIterator[str]:
    """Serves on loopback and gives the address."""
    server = Server([Methods(methods)], codec=BytesCodec())
    await server.start("127.0.0.1", 0, ssl=tls)
    assert server._server is not None
    port = server._server.sockets[0].getsockname()[1]
    try:
        yield f"{'https' if tls else 'http'}://127.0.0.1:{port}"
    finally:
        server.close()
        await server.wait_closed()
