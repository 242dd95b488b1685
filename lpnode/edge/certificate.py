"""The node's TLS certificate and context.

No gateway verifies the certificate, so a self-signed one made once and kept in the data directory
will do; an operator who wants one that verifies gives two files.

Source: discovery.md section 1.3.
"""

import datetime
import os
import ssl
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID

from lpnode.errors import ConfigError

_VALIDITY = datetime.timedelta(hours=8765)
# A certificate that would expire while the node runs is replaced at start.
_RENEWAL = datetime.timedelta(days=30)
_CIPHERS_TLS12 = "ECDHE+AESGCM:ECDHE+CHACHA20"


@dataclass(frozen=True, slots=True, kw_only=True)
class CertificateFiles:
    """PEM files: the chain, server certificate first, and its private key."""

    certificate: Path
    key: Path


def ensure_certificate(data_dir: Path, host: str) -> CertificateFiles:
    """Returns ``cert.pem`` and ``key.pem`` of ``data_dir``, made anew if absent or near expiry.

    ``host`` becomes the one subject alternative name, as a dNSName even if it is an address. The
    key is readable by its owner only.

    Raises: ConfigError: the directory cannot be written.
    """
    files = CertificateFiles(certificate=data_dir / "cert.pem", key=data_dir / "key.pem")
    if _is_usable(files):
        return files
    key = ec.generate_private_key(ec.SECP256R1())
    certificate = _self_signed(key, host)
    key_pem = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.TraditionalOpenSSL,
        serialization.NoEncryption(),
    )
    try:
        data_dir.mkdir(parents=True, exist_ok=True)
        _write_private(files.key, key_pem)
        files.certificate.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    except OSError as error:
        raise ConfigError(f"cannot keep a certificate in data directory {data_dir}: {error}") from (
            error
        )
    return files


def server_context(files: CertificateFiles) -> ssl.SSLContext:
    """A TLS 1.2/1.3 server that prefers ``h2`` and resumes sessions by ticket.

    Raises: ConfigError: the files are no certificate with its key.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(_CIPHERS_TLS12)
    context.options |= ssl.OP_NO_RENEGOTIATION
    context.set_alpn_protocols(["h2", "http/1.1"])
    context.num_tickets = 1
    try:
        context.load_cert_chain(files.certificate, files.key)
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(
            f"cannot use certificate {files.certificate} with key {files.key}: {error}"
        ) from error
    return context


def _is_usable(files: CertificateFiles) -> bool:
    try:
        certificate = x509.load_pem_x509_certificate(files.certificate.read_bytes())
        key = serialization.load_pem_private_key(files.key.read_bytes(), password=None)
    except (OSError, ValueError, TypeError):
        return False
    now = datetime.datetime.now(datetime.UTC)
    return (
        certificate.not_valid_after_utc > now + _RENEWAL
        and certificate.public_key() == key.public_key()
    )


def _write_private(path: Path, content: bytes) -> None:
    # Written beside and moved into place: the name never stands for a readable or a half file.
    fresh = path.with_suffix(".new")
    fresh.unlink(missing_ok=True)
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
    fresh.replace(path)


def _self_signed(key: ec.EllipticCurvePrivateKey, host: str) -> x509.Certificate:
    now = datetime.datetime.now(datetime.UTC)
    name = x509.Name([])
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now)
        .not_valid_after(now + _VALIDITY)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(
            x509.KeyUsage(
                digital_signature=True,
                key_cert_sign=True,
                content_commitment=False,
                key_encipherment=False,
                data_encipherment=False,
                key_agreement=False,
                crl_sign=False,
                encipher_only=False,
                decipher_only=False,
            ),
            critical=True,
        )
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(host)]), critical=True)
        .sign(key, hashes.SHA256())
    )
