"""Every setting of ``lpnode serve``: go-livepeer's names, and this node's few own.

Source: discovery.md section 8. Names marked unused are accepted with a warning.
"""

import textwrap

from lpnode.config.chain_flags import CHAIN_FLAGS, PRICE_FLAGS
from lpnode.config.settings import Flag, Kind, used_flag

_TEXT, _BOOL, _INT, _DURATION = Kind.TEXT, Kind.BOOL, Kind.INT, Kind.DURATION


def _unused(name: str, kind: Kind, default: str, *aliases: str, is_secret: bool = False) -> Flag:
    return Flag(name, kind, default, "", "Accepted", aliases, is_used=False, is_secret=is_secret)


_NETWORK = [
    used_flag(
        "Network",
        "serviceAddr",
        _TEXT,
        "",
        "address advertised to gateways: host:port, a URL, or none; "
        "empty: this machine's outgoing address and the listener's port",
    ),
    used_flag(
        "Network",
        "httpAddr",
        _TEXT,
        "",
        "where to listen; http:// in front makes it plaintext; empty: all interfaces, port of "
        "the service address",
    ),
    used_flag("Network", "nodes", _TEXT, "", "further instances to advertise, comma list"),
    used_flag(
        "Network", "cliAddr", _TEXT, "127.0.0.1:7935", "operator port: /status /healthz /metrics"
    ),
    used_flag(
        "Network", "certFile", _TEXT, "", "certificate chain (PEM); empty: self-signed, kept"
    ),
    used_flag("Network", "keyFile", _TEXT, "", "private key of -certFile (PEM)"),
    used_flag(
        "Network",
        "authWebhookUrl",
        _TEXT,
        "",
        "asked before each GetOrchestrator answer",
        is_secret=True,  # its path or query often holds a key
    ),
    used_flag(
        "Network", "startupAvailabilityCheck", _BOOL, "true", "ping the service address at start"
    ),
    used_flag(
        "Network",
        "network",
        _TEXT,
        "offchain",
        "offchain: nothing is paid; arbitrum-one-mainnet or mainnet; any other name goes with "
        "-ethController",
    ),
]

_NODE = [
    used_flag("Node", "orchestrator", _BOOL, "true", "always so on this node"),
    used_flag("Node", "aiWorker", _BOOL, "true", "always so: models run in the same process"),
    used_flag(
        "Node", "dataDir", _TEXT, "", "keys and state; empty: ~/.lpData/<network>", "datadir"
    ),
    used_flag(
        "Node", "maxSessions", _TEXT, "10", "transcoding sessions or auto; does not limit AI"
    ),
    used_flag(
        "Node", "drainTimeout", _DURATION, "30s", "how long sessions may go on after SIGTERM"
    ),
    used_flag("Node", "config", _TEXT, "", "file of settings: lines 'name value', or TOML (.toml)"),
]

_AI = [
    used_flag(
        "AI",
        "aiModels",
        _TEXT,
        "",
        "JSON file or pipeline:model:warm list; empty: noop, passthrough, edge-style and "
        "lpnode/shapes, the diffusion model that ships with the node",
    ),
    used_flag(
        "AI",
        "aiModelsDir",
        _TEXT,
        "",
        "folder of diffusion models, see lpnode model; empty: models in the data directory",
    ),
    used_flag(
        "AI",
        "nvidia",
        _TEXT,
        "",
        "number of the GPU that models run on, or none for the processor; empty: the first GPU "
        "if there is one",
    ),
    used_flag(
        "AI",
        "aiBackend",
        _TEXT,
        "auto",
        "what runs diffusion networks: torch, compiled, tensorrt, onnxruntime, openvino; auto: the "
        "fastest that agrees with torch",
    ),
    used_flag(
        "AI",
        "aiPrecision",
        _TEXT,
        "auto",
        "what diffusion networks compute in: fp32, bf16 (on the processor torch alone has it); on "
        "a GPU also fp16, and int8 and fp8 for UNets that TensorRT runs (fp8 from compute "
        "capability 8.9); auto: fp16 on a GPU, fp32 on the processor",
    ),
    used_flag(
        "AI", "liveInputTimeout", _DURATION, "60s", "a live session without input this long ends"
    ),
    used_flag(
        "AI", "trickleIdleTimeout", _DURATION, "5m", "an idle trickle channel lives this long"
    ),
    used_flag(
        "AI", "trickleSweepInterval", _DURATION, "1m", "how often idle channels are looked for"
    ),
]

_MONITORING = [
    used_flag("Monitoring", "monitor", _BOOL, "true", "serve /metrics on the operator port"),
    used_flag("Monitoring", "v", _INT, "3", "verbosity 0 (errors) to 6 (libraries too)"),
    used_flag("Monitoring", "logJson", _BOOL, "false", "log one JSON object a line"),
]

_UNUSED = [
    _unused("orchSecret", _TEXT, "", is_secret=True),
    _unused("orchAddr", _TEXT, ""),
    _unused("aiRunnerImage", _TEXT, ""),
    _unused("aiRunnerImageOverrides", _TEXT, ""),
    _unused("aiVerboseLogs", _BOOL, "false"),
    _unused("aiRunnerContainersPerGPU", _INT, "1"),
    _unused("aiMinRunnerVersion", _TEXT, "[]"),
    _unused("aiProcessingRetryTimeout", _DURATION, "2s"),
    _unused("aiServerless", _BOOL, "false"),
    _unused("liveAITrickleHostForRunner", _TEXT, ""),
    _unused("liveOutSegmentTimeout", _DURATION, "0s"),
    _unused("liveAICapReportInterval", _DURATION, "25m"),
    _unused("useLiveRunners", _BOOL, "false"),
    _unused("liveRunnerConfig", _TEXT, ""),
    _unused("liveRunnerAddr", _TEXT, ""),
    _unused("liveRunnerProxyUrl", _TEXT, ""),
    _unused("orchMinLivepeerVersion", _TEXT, ""),
    _unused("metricsPerStream", _BOOL, "false"),
    _unused("redeemer", _BOOL, "false"),
    _unused("redeemerAddr", _TEXT, ""),
    _unused("metricsClientIP", _BOOL, "false"),
    _unused("metadataQueueUri", _TEXT, "", is_secret=True),
    _unused("metadataAmqpExchange", _TEXT, "lp_golivepeer_metadata"),
    _unused("metadataPublishTimeout", _DURATION, "1s"),
    _unused("kafkaBootstrapServers", _TEXT, ""),
    _unused("kafkaUser", _TEXT, ""),
    _unused("kafkaPassword", _TEXT, "", is_secret=True),
    _unused("kafkaGatewayTopic", _TEXT, ""),
    _unused("objectStore", _TEXT, "", is_secret=True),
]

SERVE_FLAGS: tuple[Flag, ...] = (
    *_NETWORK,
    *_NODE,
    *_AI,
    *PRICE_FLAGS,
    *CHAIN_FLAGS,
    *_MONITORING,
    *_UNUSED,
)
"""In the order in which ``lpnode serve --help`` shows them."""


def flags_help(flags: tuple[Flag, ...] = SERVE_FLAGS) -> str:
    """The table as text for ``--help``: used flags by group, then the names merely accepted."""
    lines = []
    for group in dict.fromkeys(flag.group for flag in flags if flag.is_used):
        lines.append(f"\n{group}:")
        for flag in flags:
            if flag.is_used and flag.group == group:
                shown = f" (default {flag.default})" if flag.default else ""
                lines += textwrap.wrap(
                    flag.help + shown,
                    width=98,
                    initial_indent=f"  -{flag.name:<26} ",
                    subsequent_indent=" " * 30,
                )
    accepted = " ".join(flag.name for flag in flags if not flag.is_used)
    lines.append("\nAccepted with a warning, because they have no effect here (yet):")
    lines += textwrap.wrap(accepted, width=98, initial_indent="  ", subsequent_indent="  ")
    return "\n".join(lines)
