"""What a node is told at start: settings by name, and the checked configuration they make."""

from lpnode.config.node_config import (
    PAYMENT_STORE,
    Address,
    NodeConfig,
    data_directory,
    node_config,
    operator_address,
)
from lpnode.config.serve_flags import SERVE_FLAGS, flags_help
from lpnode.config.settings import Flag, Kind, Settings, parse_duration, read_settings

__all__ = [
    "PAYMENT_STORE",
    "SERVE_FLAGS",
    "Address",
    "Flag",
    "Kind",
    "NodeConfig",
    "Settings",
    "data_directory",
    "flags_help",
    "node_config",
    "operator_address",
    "parse_duration",
    "read_settings",
]
