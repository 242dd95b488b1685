"""Checks of what ``lpnode serve`` would do with given settings: ports, certificate, models."""

import errno
import os
import socket
import stat
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from urllib.parse import urlsplit

from cryptography import x509

from lpnode.admission.ai_models import DEFAULT_AI_MODELS, ModelEntry, load_ai_models
from lpnode.command.verdict import Verdict
from lpnode.config import Address, NodeConfig
from lpnode.errors import ConfigError

_SOON_DAYS = 14


def _data_directory(config: NodeConfig) -> Verdict:
    existing = config.data_dir
    while not existing.exists():
        existing = existing.parent
    if not (existing.is_dir() and os.access(existing, os.W_OK | os.X_OK)):
        return Verdict.missing(
            "data directory",
            f"{config.data_dir}: {existing} cannot be written",
            "give another with -dataDir, or make it writable for this user",
        )
    is_new = existing != config.data_dir
    return Verdict.ok("data directory", f"{config.data_dir}{' (will be made)' if is_new else ''}")


def _certificate(config: NodeConfig) -> Verdict:
    if not config.is_tls:
        return Verdict.note(
            "certificate",
            "plaintext listener",
            "put a proxy that terminates TLS and passes HTTP/2 with trailers in front",
        )
    own = config.certificate_path
    path = own or config.data_dir / "cert.pem"
    key = config.key_path or config.data_dir / "key.pem"
    if own is None and not path.exists():
        return Verdict.ok("certificate", "self-signed, will be made at the first start")
    try:
        certificate = x509.load_pem_x509_certificate(path.read_bytes())
        mode = key.stat().st_mode
    except (OSError, ValueError) as error:
        fix = "check -certFile and -keyFile" if own else f"delete {path}: a new one is made"
        return Verdict.missing("certificate", f"{path}: {error}", fix)
    days = (certificate.not_valid_after_utc - datetime.now(UTC)).days
    found = f"{path}, valid for {days} more days"
    if mode & (stat.S_IRWXG | stat.S_IRWXO):
        return Verdict.note("certificate", f"{key} can be read by others", f"chmod 600 {key}")
    if days < _SOON_DAYS:
        fix = "renew it" if own else f"delete {path}: a new one is made at start"
        return Verdict.note("certificate", found, fix)
    return Verdict.ok("certificate", found)


def _service_port(config: NodeConfig) -> Verdict:
    return _port("service port", config.listen, "-httpAddr")


def _operator_port(config: NodeConfig) -> Verdict:
    if not config.operator.is_loopback:
        return Verdict.note(
            "operator port",
            f"{config.operator} can be reached from outside and asks for no password",
            "leave -cliAddr at 127.0.0.1:7935, or firewall it",
        )
    return _port("operator port", config.operator, "-cliAddr")


def _service_address(config: NodeConfig) -> Verdict:
    host = urlsplit(config.service_uri).hostname or ""
    if not host:
        return Verdict.ok("service address", f"none: advertises {', '.join(config.nodes)} only")
    if host == "0.0.0.0":
        return Verdict.note(
            "service address", config.service_uri, "gateways cannot dial 0.0.0.0: -serviceAddr"
        )
    try:
        found = {info[4][0] for info in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)}
    except OSError as error:
        return Verdict.missing(
            "service address",
            f"{host} does not resolve: {error}",
            "give a name or address that gateways can dial with -serviceAddr",
        )
    text = f"{config.service_uri} ({', '.join(sorted(map(str, found)))})"
    if Address(host=host, port=0).is_loopback:
        return Verdict.note(
            "service address", text, "only gateways on this machine can dial it: -serviceAddr"
        )
    return Verdict.ok("service address", text)


def _models(config: NodeConfig) -> Verdict:
    try:
        entries = load_ai_models(config.ai_models) if config.ai_models else DEFAULT_AI_MODELS
        _find_models(entries, config)
    except ConfigError as error:
        return Verdict.missing("models", str(error), "correct the list given with -aiModels")
    return Verdict.ok(
        "models",
        ", ".join(f"{entry.pipeline}/{entry.model_id} ({entry.capacity})" for entry in entries),
    )


def _find_models(entries: Sequence[ModelEntry], config: NodeConfig) -> None:
    try:
        from lpnode.node import check_models, diffusion_config
        from lpnode.pipeline.catalog import built_in
    except ImportError:  # of native code, which has a check of its own
        return
    check_models(entries, built_in(diffusion_config(config)))


def _port(subject: str, address: Address, setting: str) -> Verdict:
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address.host, address.port))
        except OSError as error:
            fix = f"choose another with {setting}"
            if error.errno == errno.EADDRINUSE:
                who = f"ss -ltnp 'sport = :{address.port}'"
                fix = f"something listens there already ({who}): stop it, or {fix}"
            elif error.errno == errno.EACCES:
                fix = f"ports below 1024 need CAP_NET_BIND_SERVICE: {fix}"
            return Verdict.missing(subject, f"{address}: {error.strerror}", fix)
    return Verdict.ok(subject, f"{address} is free")


NODE_CHECKS: Sequence[Callable[[NodeConfig], Verdict]] = (
    _service_address,
    _service_port,
    _operator_port,
    _data_directory,
    _certificate,
    _models,
)
