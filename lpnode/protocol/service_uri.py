"""The address that gateways dial: scheme, host and port, and nothing else.

Source: discovery.md section 1.1.
"""

import re
from urllib.parse import urlsplit

from lpnode.errors import ConfigError

DEFAULT_PORT = 8935

_PORT = re.compile(r":\d*$")


def check_service_uri(uri: str) -> None:
    """Accepts only what every gateway can dial and append paths to.

    Raises: ConfigError: no http(s) scheme, host or port; or a user, path, query or trailing slash.
    """
    try:
        parts = urlsplit(uri)
        port = parts.port
    except ValueError as error:
        raise ConfigError(f"the service address {uri!r} cannot be read: {error}") from error
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ConfigError(
            f"the service address must be host:port or https://host:port, got {uri!r}"
        )
    if not port:
        raise ConfigError(
            f"the service address needs an explicit port, got {uri!r}; "
            f"write {parts.scheme}://{_PORT.sub('', parts.netloc)}:{DEFAULT_PORT}"
        )
    if uri != f"{parts.scheme}://{parts.netloc}" or parts.username is not None:
        raise ConfigError(
            f"the service address is scheme, host and port only, got {uri!r}; "
            "leave out the user, path, query and trailing slash"
        )
