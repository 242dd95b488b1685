"""Accounts kept as encrypted files, as go-ethereum and go-livepeer keep them.

Source: Web3 Secret Storage Definition, version 3; discovery.md section 8 for the flags.
"""

import json
import logging
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lpnode.chain.signer import LocalSigner
from lpnode.errors import ConfigError, InvalidArgument
from lpnode.protocol.ethereum import Address, checksum_text, parse_address

_MAX_FILE_BYTES = 2**16
_VERSION = 3

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class KeystoreConfig:
    """Which account to open."""

    path: Path
    """A key file, or a directory of them."""
    password: str = field(default="", repr=False)
    """The password, or the name of a file whose first line it is."""
    address: Address | None = None
    """None: the only account of the directory."""


def open_keystore(config: KeystoreConfig) -> LocalSigner:
    """Decrypts the account's key. Takes about a second: the format is slow on purpose.

    Raises: ConfigError: no such account, more than one, or a wrong password.
    """
    path, keyfile = _find(config)
    _warn_if_readable(path)
    from lpnode.chain.eth_account import Account

    try:
        key = bytes(Account.decrypt(keyfile, _password(config.password)))
    except (ValueError, TypeError, KeyError, NotImplementedError) as exc:
        raise ConfigError(f"-ethPassword does not open the key file {path.name}: {exc}") from exc
    signer = LocalSigner(key)
    if config.address not in (None, signer.address):
        raise ConfigError(
            f"-ethAcctAddr: the key file {path.name} is that of {checksum_text(signer.address)}"
        )
    return signer


def keystore_address(config: KeystoreConfig) -> Address:
    """Whose key it is, as the file says; the password is not needed.

    Raises: ConfigError: no such account, more than one, or the file does not say.
    """
    path, keyfile = _find(config)
    address = config.address or _address(keyfile)
    if address is None:
        raise ConfigError(f"the key file {path.name} has no address: give it with -ethAcctAddr")
    return address


def _find(config: KeystoreConfig) -> tuple[Path, dict[str, Any]]:
    path = config.path
    if path.is_file():
        keyfile = _read(path)
        if keyfile is None:
            raise ConfigError(f"-ethKeystorePath: {path} is no keystore file of version 3")
        return path, keyfile
    if not path.is_dir():
        raise ConfigError(f"-ethKeystorePath: there is no file or directory {path}")
    found: dict[Path, dict[str, Any]] = {}
    for file in sorted(path.iterdir()):
        keyfile = _read(file) if file.is_file() else None
        if keyfile is not None and config.address in (None, _address(keyfile)):
            found[file] = keyfile
    wanted = "" if config.address is None else f" of {checksum_text(config.address)}"
    if not found:
        raise ConfigError(f"-ethKeystorePath: {path} has no key file{wanted}")
    if len(found) > 1:
        names = ", ".join(file.name for file in found)
        raise ConfigError(
            f"-ethKeystorePath: {path} has several key files{wanted} ({names}); "
            "choose with -ethAcctAddr, or name the file"
        )
    return next(iter(found.items()))


def _read(path: Path) -> dict[str, Any] | None:
    try:
        if path.stat().st_size > _MAX_FILE_BYTES:
            return None
        keyfile = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
    is_keyfile = isinstance(keyfile, dict) and keyfile.get("version") == _VERSION
    return keyfile if is_keyfile else None


def _address(keyfile: dict[str, Any]) -> Address | None:
    text = str(keyfile.get("address", "")).lower().removeprefix("0x")
    try:
        return parse_address("0x" + text)
    except InvalidArgument:
        return None


def _password(given: str) -> str:
    try:
        is_file = bool(given) and Path(given).is_file()
    except (OSError, ValueError):  # a password need not be a possible file name
        is_file = False
    if not is_file:
        return given
    _warn_if_readable(Path(given))
    lines = Path(given).read_text().splitlines()
    return lines[0] if lines else ""


def _warn_if_readable(path: Path) -> None:
    if path.stat().st_mode & 0o077:
        _log.warning("%s can be read by others; make it owner-only (chmod 600)", path)
