"""What a node is told at start: settings by name, and the checked configuration they make."""

from lpnode.config.node_config import Address, NodeConfig, node_config
from lpnode.config.serve_flags import SERVE_FLAGS, flags_help
from lpnode.config.settings import Flag, Kind, Settings, parse_duration, read_settings

__all__ = [
    "SERVE_FLAGS",
    "Address",
    "Flag",
    "Kind",
    "NodeConfig",
    "Settings",
    "flags_help",
    "node_config",
    "parse_duration",
    "read_settings",
]
