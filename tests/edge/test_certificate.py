"""The node's certificate, and the TLS it is used for."""

import asyncio
import datetime
import ssl
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from edge.conftest import Serve

from lpnode.edge.certificate import CertificateFiles, ensure_certificate, server_context
from lpnode.edge.listener import ListenerConfig
from lpnode.errors import ConfigError


def unverified(*protocols: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    if protocols:
        context.set_alpn_protocols(list(protocols))
    return context


def test_the_certificate_is_what_the_reference_makes(tmp_path: Path) -> None:
    files = ensure_certificate(tmp_path / "new", "node.example")
    certificate = x509.load_pem_x509_certificate(files.certificate.read_bytes())
    key = certificate.public_key()
    assert isinstance(key, ec.EllipticCurvePublicKey)
    assert key.curve.name == "secp256r1"
    assert certificate.subject.rdns == []
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["node.example"]
    assert certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    lifetime = certificate.not_valid_after_utc - certificate.not_valid_before_utc
    assert lifetime == datetime.timedelta(hours=8765)
    assert b"BEGIN EC PRIVATE KEY" in files.key.read_bytes()


def test_the_key_is_its_owners_alone(tmp_path: Path) -> None:
    assert ensure_certificate(tmp_path, "node").key.stat().st_mode & 0o777 == 0o600


def test_the_certificate_is_kept_across_restarts(tmp_path: Path) -> None:
    before = ensure_certificate(tmp_path, "node").certificate.read_bytes()
    assert ensure_certificate(tmp_path, "node").certificate.read_bytes() == before


@pytest.mark.parametrize("broken", ["cert.pem", "key.pem"])
def test_a_broken_file_is_replaced(tmp_path: Path, broken: str) -> None:
    ensure_certificate(tmp_path, "node")
    (tmp_path / broken).write_text("nonsense")
    server_context(ensure_certificate(tmp_path, "node"))


def test_an_operators_files_that_do_not_fit_are_named(tmp_path: Path) -> None:
    own = ensure_certificate(tmp_path / "a", "node")
    other = ensure_certificate(tmp_path / "b", "node")
    mixed = CertificateFiles(certificate=own.certificate, key=other.key)
    with pytest.raises(ConfigError, match=r"a/cert\.pem with key .*b/key\.pem"):
        server_context(mixed)


@pytest.mark.parametrize(
    ("offered", "selected"),
    [
        (("h2", "http/1.1"), "h2"),
        (("http/1.1", "h2"), "h2"),
        (("http/1.1",), "http/1.1"),
        ((), None),
    ],
)
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_h2_is_preferred_whatever_the_clients_order(
    serve: Serve,
    tls: ssl.SSLContext,
    offered: tuple[str, ...],
    selected: str | None,
    version: ssl.TLSVersion,
) -> None:
    context = unverified(*offered)
    context.minimum_version = context.maximum_version = version
    async with serve(tls=tls) as listener:
        reader, writer = await asyncio.open_connection("127.0.0.1", listener.port, ssl=context)
        session = writer.get_extra_info("ssl_object")
        assert session.selected_alpn_protocol() == selected
        assert session.version() == version.name.replace("_", ".")
        if selected == "h2":
            first = await reader.readexactly(9)  # our SETTINGS, before the client said a word
            assert first[3] == 4
        else:
            writer.write(b"GET /healthz HTTP/1.1\r\nHost: n\r\nConnection: close\r\n\r\n")
            assert (await reader.read()).startswith(b"HTTP/1.1 200 ")
        writer.close()


@pytest.mark.parametrize("name", [None, "some.other.name"])
async def test_any_server_name_will_do(serve: Serve, tls: ssl.SSLContext, name: str | None) -> None:
    async with serve(tls=tls) as listener:
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", listener.port, ssl=unverified("http/1.1"), server_hostname=name or ""
        )
        writer.write(b"GET /healthz HTTP/1.1\r\nHost: n\r\nConnection: close\r\n\r\n")
        assert (await reader.read()).startswith(b"HTTP/1.1 200 ")
        writer.close()


def _resumes(port: int) -> bool:
    import socket

    context = unverified("http/1.1")
    session = None
    reused = False
    for _ in range(2):
        with (
            socket.create_connection(("127.0.0.1", port), timeout=5) as raw,
            context.wrap_socket(raw, session=session) as sock,
        ):
            sock.sendall(b"GET /healthz HTTP/1.1\r\nHost: n\r\nConnection: close\r\n\r\n")
            while sock.recv(4096):
                pass
            session, reused = sock.session, bool(sock.session_reused)
    return reused


async def test_sessions_are_resumed_by_ticket(serve: Serve, tls: ssl.SSLContext) -> None:
    async with serve(tls=tls) as listener:
        assert await asyncio.to_thread(_resumes, listener.port)


async def test_what_is_not_tls_is_dropped(serve: Serve, tls: ssl.SSLContext) -> None:
    async with serve(tls=tls) as listener:
        reader, writer = await asyncio.open_connection("127.0.0.1", listener.port)
        writer.write(b"GET /healthz HTTP/1.1\r\n\r\n")
        assert b"HTTP/1.1 200" not in await reader.read()
        writer.close()
        assert listener.num_connections == 0


async def test_a_peer_that_never_begins_its_handshake_is_dropped(
    serve: Serve, tls: ssl.SSLContext
) -> None:
    async with serve(ListenerConfig(handshake_timeout_s=0.2), tls=tls) as listener:
        reader, writer = await asyncio.open_connection("127.0.0.1", listener.port)
        async with asyncio.timeout(5):
            assert await reader.read() == b""
        writer.close()
