"""What does relaying cost the server, and how soon is the first byte of a segment there?

One publisher of 1 MiB a second (10 to a lone subscriber) to 1, 10 and 100 subscribers, plaintext
and TLS, against the same relay written with aiohttp. The server has a process of its own, whose CPU
time alone counts: read ``cpu_s_per_gb`` (GB out) in ``extra_info``, not the scenario's wall time.
"""

import json
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

HERE = Path(__file__).parent
SEGMENT_BYTES = 1 << 20


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "relay")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    path = tmp_path_factory.mktemp("relay") / "relay.pem"
    path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        + made.public_bytes(serialization.Encoding.PEM)
    )
    return path


class RelayServer:
    """The server's process."""

    def __init__(self, kind: str, certificate: Path | None) -> None:
        command = [sys.executable, str(HERE / "relay_server.py"), kind]
        self._process = subprocess.Popen(
            command + ([str(certificate)] if certificate else []),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.port = int(self._line())

    def _line(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline()

    def cpu_s(self) -> float:
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        return float(self._line())

    def stop(self) -> None:
        self._process.communicate(timeout=10)


def relay(
    server: RelayServer, transport: str, num_subscribers: int, num_segments: int, segment_s: float
) -> dict[str, float]:
    before_s = server.cpu_s()
    load = subprocess.run(
        [
            sys.executable,
            str(HERE / "relay_load.py"),
            str(server.port),
            transport,
            str(num_subscribers),
            str(num_segments),
            str(segment_s),
        ],
        capture_output=True,
        check=True,
        text=True,
        timeout=120,
    )
    figures: dict[str, float] = json.loads(load.stdout)
    figures["cpu_s_per_gb"] = (server.cpu_s() - before_s) / figures["num_bytes"] * 1e9
    return figures


@pytest.mark.parametrize("transport", ["plain", "tls"])
@pytest.mark.parametrize("num_subscribers", [1, 10, 100])
@pytest.mark.parametrize("kind", ["lpnode", "aiohttp"])
def bench_relay(
    benchmark: Any, certificate: Path, kind: str, num_subscribers: int, transport: str
) -> None:
    benchmark.group = f"relay to {num_subscribers}, {transport}"
    num_segments, segment_s = (60, 0.1) if num_subscribers == 1 else (6, 1.0)
    if not benchmark.enabled:
        num_segments, segment_s = 2, 0.1
    server = RelayServer(kind, certificate if transport == "tls" else None)
    try:
        figures = benchmark.pedantic(
            relay, args=(server, transport, num_subscribers, num_segments, segment_s)
        )
    finally:
        server.stop()
    assert figures["num_bytes"] == num_subscribers * num_segments * SEGMENT_BYTES
    benchmark.extra_info.update(figures)
