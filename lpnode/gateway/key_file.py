"""The key of a paying account, from a file: hex digits, or an encrypted keystore."""

import json
import logging
from pathlib import Path

from lpnode.chain.keystore import KeystoreConfig, open_keystore
from lpnode.errors import ConfigError
from lpnode.protocol.ethereum import Account

_MAX_FILE_BYTES = 2**16
_KEY_DIGITS = 64
_KEYSTORE_VERSION = 3

_log = logging.getLogger(__name__)


def read_key_file(path: Path, password_file: Path | None = None) -> Account:
    """Opens the account. A keystore takes about a second: the format is slow on purpose.

    Args:
        path: 32 bytes as hex, with or without ``0x``, or a keystore file of version 3.
        password_file: its first line is the password of the keystore; None: an empty one.

    Raises: ConfigError: what the file is not; never shows what is in it.
    """
    try:
        raw = path.read_bytes()[: _MAX_FILE_BYTES + 1]
    except OSError as error:
        raise ConfigError(f"key file {path}: {error.strerror}") from error
    if _is_keystore(raw):
        return _from_keystore(path, password_file)
    digits = raw.decode(errors="replace").strip().removeprefix("0x")
    try:
        key = bytes.fromhex(digits) if len(digits) == _KEY_DIGITS else b""
    except ValueError:
        key = b""
    if not key:
        raise ConfigError(
            f"key file {path}: must hold {_KEY_DIGITS} hex digits, or a keystore of version 3"
        )
    if path.stat().st_mode & 0o077:
        _log.warning("%s can be read by others; make it owner-only (chmod 600)", path)
    try:
        return Account(key)
    except ConfigError as error:
        raise ConfigError(f"key file {path}: {error}") from error


def _is_keystore(raw: bytes) -> bool:
    try:
        document = json.loads(raw)
    except (ValueError, RecursionError):
        return False
    return isinstance(document, dict) and document.get("version") == _KEYSTORE_VERSION


def _from_keystore(path: Path, password_file: Path | None) -> Account:
    if password_file is not None and not password_file.is_file():
        raise ConfigError(f"password file {password_file}: there is no such file")
    password = "" if password_file is None else str(password_file)
    try:
        return open_keystore(KeystoreConfig(path=path, password=password)).account
    except ConfigError as error:
        if password_file is None:
            raise ConfigError(
                f"key file {path}: cannot be opened with an empty password; give the file with "
                "its password (--password-file)"
            ) from error
        raise ConfigError(
            f"key file {path}: the password in {password_file} does not open it"
        ) from error
