"""Auth tokens: what GetOrchestrator hands out and every later request must carry.

Source: discovery.md section 3.6.
"""

import hashlib
import hmac
import logging
import os
import secrets
import time
from collections.abc import Callable
from pathlib import Path

from lpnode.errors import ConfigError, NotAuthorised
from lpnode.protocol import lp_rpc_pb2 as pb

VALID_S = 1800
SECRET_BYTES = 32
_SESSION_ID_BYTES = 4

_log = logging.getLogger(__name__)


def auth_token(secret: bytes, session_id: str, expiration: int) -> bytes:
    """Returns the 32-byte MAC over the session id and the magnitude of the expiration."""
    magnitude = abs(expiration)
    seconds = magnitude.to_bytes((magnitude.bit_length() + 7) // 8, "big")
    return hmac.digest(secret, session_id.encode() + seconds, hashlib.sha256)


def load_secret(path: Path) -> bytes:
    """Returns the 32 secret bytes kept in ``path``, made at first use, readable by the owner only.

    Instances that answer under one address must share the file's content.

    Raises: ConfigError: the file cannot be read or written, or holds something else.
    """
    try:
        try:
            secret = path.read_bytes()
        except FileNotFoundError:
            return _make_secret(path)
    except OSError as error:
        raise ConfigError(
            f"{path}: the auth secret cannot be kept: {error.strerror}; "
            "make the data directory readable and writable for this user"
        ) from error
    if path.stat().st_mode & 0o077:
        _log.warning("%s: others can read the auth secret; chmod 600 it", path)
    if len(secret) != SECRET_BYTES:
        raise ConfigError(
            f"{path}: the auth secret must be {SECRET_BYTES} bytes, got {len(secret)}; "
            "delete the file to have a new one made"
        )
    return secret


def _make_secret(path: Path) -> bytes:
    secret = secrets.token_bytes(SECRET_BYTES)
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    # Written aside and linked into place: another instance that starts now sees all or nothing,
    # and the first one wins.
    fresh = path.with_name(f"{path.name}.{secrets.token_hex(8)}.new")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(secret)
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(fresh, path)
        except FileExistsError:
            pass
        except OSError:  # a file system without hard links, such as some network volumes
            fresh.replace(path)
    finally:
        fresh.unlink(missing_ok=True)
    return path.read_bytes()


class AuthTokens:
    """Issues tokens and checks them. ``clock`` gives Unix seconds."""

    def __init__(
        self,
        secret: bytes,
        *,
        clock: Callable[[], float] = time.time,
        entropy: Callable[[int], bytes] = os.urandom,
    ) -> None:
        self._secret = secret
        self._clock = clock
        self._entropy = entropy
        self._expiration = 0
        self._expiration_field = b""

    def issue(self) -> bytes:
        """Returns a serialised ``net.AuthToken`` of a new session, valid for half an hour.

        Written by hand because it is the only part of a discovery reply that is new each time.
        """
        expiration = int(self._clock()) + VALID_S
        if expiration != self._expiration:
            self._expiration = expiration
            self._expiration_field = pb.AuthToken(expiration=expiration).SerializeToString()
        session_id = self._entropy(_SESSION_ID_BYTES).hex()
        token = auth_token(self._secret, session_id, expiration)
        return b"\x0a\x20%b\x12\x08%b%b" % (token, session_id.encode(), self._expiration_field)

    def is_genuine(self, token: pb.AuthToken) -> bool:
        """Whether this node made the token, expired or not.

        Only session ids of our own fixed length pass: the MAC's input does not say where the id
        ends, so a digit could otherwise move into the expiration.
        """
        if len(token.session_id) != 2 * _SESSION_ID_BYTES:
            return False
        expected = auth_token(self._secret, token.session_id, token.expiration)
        # The magnitude alone is covered, so the sign has to be looked at as well.
        return token.expiration >= 0 and hmac.compare_digest(expected, token.token)

    def check(self, token: pb.AuthToken | None) -> None:
        """Accepts a token of ours that has not expired.

        Raises: NotAuthorised: with the text that the reference answers.
        """
        if token is None:
            raise NotAuthorised("missing auth token")
        if not self.is_genuine(token):
            raise NotAuthorised("invalid auth token")
        if self._clock() > token.expiration:
            raise NotAuthorised("expired auth token")
