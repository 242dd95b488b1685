"""Everything a node is told at start, checked once.

``NodeConfig`` is what ``node.py`` builds from; ``node_config`` makes it from settings by name.
"""

import re
import socket
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self
from urllib.parse import urlsplit

from lpnode.admission.ai_models import load_ai_models
from lpnode.admission.price import parse_price_per_unit
from lpnode.admission.tariff import BasePrice, TariffConfig, parse_gateway_prices, parse_pixels
from lpnode.chain.connection import ChainConfig
from lpnode.config.chain_config import OFF_CHAIN, chain_config, ticket_config
from lpnode.config.settings import Settings
from lpnode.errors import ConfigError
from lpnode.log import LogConfig
from lpnode.payment.meter import MeterConfig
from lpnode.payment.params import PricingConfig
from lpnode.protocol.service_uri import DEFAULT_PORT, check_service_uri
from lpnode.trickle.channels import TrickleConfig

DEFAULT_OPERATOR_PORT = 7935
PAYMENT_STORE = "payments.db"


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """Where to listen. An empty ``host`` means all interfaces, port 0 any free port."""

    host: str
    port: int

    def __post_init__(self) -> None:
        if not 0 <= self.port <= 65535:
            raise ConfigError(f"port must be 0 to 65535, got {self.port}")

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can connect."""
        return self.host in {"localhost", "::1"} or self.host.startswith("127.")

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @classmethod
    def parse(cls, text: str, *, name: str, default_port: int | None = None) -> Self:
        """Reads ``host:port``, ``:port`` or ``[v6]:port``; a port may be left out if it has a
        default. Raises: ConfigError: names the setting ``name``."""
        match = re.fullmatch(r"(\[[0-9A-Fa-f:.%]*\]|[^:\[\]/\s]*)(?::(\d{1,5}))?", text)
        port = match[2] if match and match[2] else default_port
        if match is None or port is None:
            raise ConfigError(f"{name}: {text!r} is not host:port, for example 127.0.0.1:8935")
        return cls(host=match[1].strip("[]"), port=int(port))


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeConfig:
    """One node. Times are in seconds."""

    service_uri: str
    """Advertised to gateways, ``https://host:port``; empty: a directory node that does no work."""
    listen: Address = field(default_factory=lambda: Address(host="", port=DEFAULT_PORT))
    is_tls: bool = True
    operator: Address = field(
        default_factory=lambda: Address(host="127.0.0.1", port=DEFAULT_OPERATOR_PORT)
    )
    network: str = OFF_CHAIN
    chain: ChainConfig | None = None
    """None off-chain, where nobody pays; never because a chain cannot be reached."""
    tariff: TariffConfig = field(default_factory=TariffConfig)
    tickets: PricingConfig = field(default_factory=PricingConfig)
    meter: MeterConfig = field(default_factory=MeterConfig)
    ledger_retention_s: float = 400 * 86_400.0
    data_dir: Path = field(default_factory=lambda: Path("~/.lpData/offchain").expanduser())
    certificate_path: Path | None = None
    """The operator's own certificate chain; None: self-signed, kept in the data directory."""
    key_path: Path | None = None
    nodes: tuple[str, ...] = ()
    """Further instances to advertise."""
    auth_webhook_url: str = ""
    max_sessions: int = 10
    """Transcoding sessions only; does not limit AI."""
    is_checked_at_start: bool = True
    """Ping the service URI once after start."""
    ai_models: str = ""
    """File name or inline list; empty: the default list of this node."""
    models_dir: Path | None = None
    """Folder of diffusion models; None: ``models`` in the data directory."""
    gpu: int | None = None
    """Which GPU models run on; None: the first one if there is one."""
    may_use_gpu: bool = True
    ai_backend: str = "auto"
    """What runs diffusion networks; ``auto``: the fastest that agrees with torch."""
    ai_precision: str = "auto"
    """What they compute in; ``auto``: float16 on a GPU, float32 on the processor."""
    is_monitored: bool = True
    """Serve ``/metrics`` on the operator port."""
    live_input_timeout_s: float = 60.0
    """A live session without an input frame for this long is stopped."""
    trickle: TrickleConfig = field(default_factory=TrickleConfig)
    drain_deadline_s: float = 30.0
    """How long running sessions may go on after SIGTERM."""
    log: LogConfig = field(default_factory=LogConfig)

    def __post_init__(self) -> None:
        if (self.chain is None) != (self.network == OFF_CHAIN):
            raise ConfigError(f"-network {self.network!r} and the settings of the chain disagree")
        if self.service_uri:
            check_service_uri(self.service_uri)
        elif not self.nodes:
            raise ConfigError("-serviceAddr none does no work: it needs -nodes to advertise")
        if (self.certificate_path is None) != (self.key_path is None):
            raise ConfigError("-certFile and -keyFile go together: give both or neither")
        if self.max_sessions <= 0:
            raise ConfigError(f"-maxSessions must be positive, got {self.max_sessions}")
        if self.live_input_timeout_s <= 0:
            raise ConfigError(
                f"-liveInputTimeout must be positive, got {self.live_input_timeout_s:g} s"
            )
        if self.drain_deadline_s < 0:
            raise ConfigError(f"-drainTimeout must not be negative, got {self.drain_deadline_s} s")

    @property
    def diffusion_models(self) -> Path:
        """Where diffusion models and LoRAs are looked for."""
        return self.models_dir or self.data_dir / "models"

    @property
    def payment_store(self) -> Path:
        """Where everything that is worth money is kept."""
        return self.data_dir / PAYMENT_STORE


def node_config(settings: Settings) -> NodeConfig:
    """Turns the settings of ``lpnode serve`` into a checked configuration.

    Raises: ConfigError: says which setting, what it was, and what would be accepted.
    """
    for role in ("orchestrator", "aiWorker"):
        if not settings.boolean(role):
            raise ConfigError(
                f"{settings.origin(role)}: this node is orchestrator and AI worker in one process; "
                "leave the setting out"
            )
    listen_text, is_tls = _split_listener(settings.text("httpAddr"))
    advertised = _service_uri(settings.text("serviceAddr"))
    port = (urlsplit(advertised).port if advertised else None) or DEFAULT_PORT
    listen = Address.parse(listen_text, name=settings.origin("httpAddr"), default_port=port)
    if advertised is None:
        advertised = f"{'https' if is_tls else 'http'}://{_outgoing_host()}:{listen.port}"
    network = settings.text("network")
    data_dir = data_directory(settings)
    tariff = _tariff(settings)
    models = load_ai_models(settings.text("aiModels")) if network != OFF_CHAIN else ()
    sessions = settings.text("maxSessions")
    if sessions != "auto" and not sessions.isdecimal():
        raise ConfigError(
            f"{settings.origin('maxSessions')}: {sessions!r} is neither auto nor a positive integer"
        )
    return NodeConfig(
        service_uri=advertised,
        listen=listen,
        is_tls=is_tls,
        operator=operator_address(settings),
        network=network,
        chain=chain_config(settings, data_dir, needs_rate=tariff.needs_rate(models)),
        tariff=tariff,
        tickets=ticket_config(settings),
        meter=MeterConfig(interval_s=settings.seconds("livePaymentInterval")),
        ledger_retention_s=settings.seconds("ledgerRetention"),
        data_dir=data_dir,
        certificate_path=_path(settings.text("certFile")),
        key_path=_path(settings.text("keyFile")),
        nodes=tuple(_node_uris(settings.text("nodes"))),
        auth_webhook_url=_webhook(settings.text("authWebhookUrl")),
        max_sessions=10 if sessions == "auto" else int(sessions),
        is_checked_at_start=settings.boolean("startupAvailabilityCheck"),
        ai_models=settings.text("aiModels"),
        models_dir=_path(settings.text("aiModelsDir")),
        gpu=_gpu(settings),
        may_use_gpu=settings.text("nvidia") != "none",
        ai_backend=settings.text("aiBackend"),
        ai_precision=settings.text("aiPrecision"),
        is_monitored=settings.boolean("monitor"),
        live_input_timeout_s=settings.seconds("liveInputTimeout"),
        trickle=TrickleConfig(
            idle_timeout_s=settings.seconds("trickleIdleTimeout"),
            sweep_interval_s=settings.seconds("trickleSweepInterval"),
        ),
        drain_deadline_s=settings.seconds("drainTimeout"),
        log=LogConfig(verbosity=settings.integer("v"), is_json=settings.boolean("logJson")),
    )


def data_directory(settings: Settings) -> Path:
    """Where keys and state are kept: ``-dataDir``, else one for each network."""
    text = settings.text("dataDir") or f"~/.lpData/{settings.text('network')}"
    return Path(text).expanduser()


def operator_address(settings: Settings) -> Address:
    """Where the operator port is. Raises: ConfigError."""
    return Address.parse(
        settings.text("cliAddr"),
        name=settings.origin("cliAddr"),
        default_port=DEFAULT_OPERATOR_PORT,
    )


def _tariff(settings: Settings) -> TariffConfig:
    base = parse_gateway_prices(settings.text("pricePerGateway"))
    price = settings.text("pricePerUnit")
    if price:
        pixels = parse_pixels(settings.text("pixelsPerUnit"))
        base[None] = BasePrice(parse_price_per_unit(price), pixels)
    return TariffConfig(base=base, is_adjusted=settings.boolean("autoAdjustPrice"))


def _split_listener(text: str) -> tuple[str, bool]:
    scheme, separator, rest = text.partition("://")
    if not separator:
        scheme, rest = "https", text
    if scheme not in {"http", "https"}:
        raise ConfigError(f'unsupported -httpAddr scheme "{scheme}"')
    if "/" in rest:
        raise ConfigError("-httpAddr must not include a path")
    return rest, scheme == "https"


def _service_uri(text: str) -> str | None:
    if text in {"", "none"}:
        return "" if text == "none" else None
    uri = text if text.startswith(("http://", "https://")) else f"https://{text}"
    uri = uri.removesuffix("/")
    check_service_uri(uri)
    return uri


def _node_uris(text: str) -> list[str]:
    uris = []
    for entry in filter(None, (part.strip() for part in text.split(","))):
        uri = entry if "://" in entry else f"https://{entry}"
        if not uri.startswith("https://"):
            raise ConfigError(f"-nodes: {entry!r} must be https://host:port")
        check_service_uri(uri)
        uris.append(uri)
    return uris


def _webhook(text: str) -> str:
    if text and not text.startswith(("http://", "https://")):
        raise ConfigError(f"-authWebhookUrl: {text!r} must be an http or https URL")
    return text


def _gpu(settings: Settings) -> int | None:
    text = settings.text("nvidia")
    if text in {"", "none"}:
        return None
    if not text.isdecimal():
        raise ConfigError(
            f"{settings.origin('nvidia')}: expected the number of one GPU, or none, got {text!r}; "
            "models run on one GPU of a node"
        )
    return int(text)


def _path(text: str) -> Path | None:
    return Path(text).expanduser() if text else None


def _outgoing_host() -> str:
    # Connecting a datagram socket sends nothing; it only asks the kernel which address it takes.
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
        except OSError:
            return "127.0.0.1"
        host: str = probe.getsockname()[0]
    return host
