"""Auth tokens: fresh, checked, and valid across a restart."""

import errno
import os
import stat
from pathlib import Path

import pytest

from lpnode.admission.auth_token import AuthTokens, auth_token, load_secret
from lpnode.errors import ConfigError, NotAuthorised
from lpnode.protocol import lp_rpc_pb2 as pb

NOW = 1_767_225_600
SECRET = bytes(range(32))


class Clock:
    def __init__(self, now: float = NOW) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def tokens(clock: Clock) -> AuthTokens:
    return AuthTokens(SECRET, clock=clock)


def test_a_token_is_the_mac_of_a_random_session(clock: Clock) -> None:
    tokens = AuthTokens(SECRET, clock=clock, entropy=lambda n: bytes(range(n)))
    token = pb.AuthToken.FromString(tokens.issue())
    assert token.session_id == "00010203"
    assert token.expiration == NOW + 1800
    assert token.token == auth_token(SECRET, "00010203", NOW + 1800)
    assert token.SerializeToString() == tokens.issue()


@pytest.mark.parametrize("now", [0, 127, NOW, 2**31, 2**35])
def test_a_token_of_any_year_is_well_formed(tokens: AuthTokens, clock: Clock, now: int) -> None:
    clock.now = now
    token = pb.AuthToken.FromString(tokens.issue())
    assert token.expiration == now + 1800
    tokens.check(token)


def test_a_missing_token_is_refused(tokens: AuthTokens) -> None:
    with pytest.raises(NotAuthorised) as refusal:
        tokens.check(None)
    assert str(refusal.value) == "missing auth token"


@pytest.mark.parametrize(
    "change",
    [
        {"token": bytes(32)},
        {"token": b""},
        {"session_id": "ffffffff"},
        {"session_id": ""},
        {"expiration": NOW + 100_000},
        {"expiration": -(NOW + 1800)},
    ],
)
def test_an_altered_token_is_refused(tokens: AuthTokens, change: dict[str, object]) -> None:
    token = pb.AuthToken.FromString(tokens.issue())
    for name, value in change.items():
        setattr(token, name, value)
    with pytest.raises(NotAuthorised) as refusal:
        tokens.check(token)
    assert str(refusal.value) == "invalid auth token"


def test_a_digit_cannot_move_from_the_session_into_the_expiration() -> None:
    secret = b"\3" + bytes(31)
    moved = pb.AuthToken(
        token=auth_token(secret, "4b1f9c2e", 1893456000),
        session_id="4b1f9c2",
        expiration=435685152896,
    )
    assert auth_token(secret, moved.session_id, moved.expiration) == moved.token
    with pytest.raises(NotAuthorised, match="invalid auth token"):
        AuthTokens(secret, clock=lambda: NOW).check(moved)


def test_a_token_expires_after_its_last_second(tokens: AuthTokens, clock: Clock) -> None:
    token = pb.AuthToken.FromString(tokens.issue())
    clock.now = NOW + 1800
    tokens.check(token)
    clock.now = NOW + 1801
    with pytest.raises(NotAuthorised) as refusal:
        tokens.check(token)
    assert str(refusal.value) == "expired auth token"
    assert tokens.is_genuine(token)


def test_a_token_outlives_a_restart(tmp_path: Path, clock: Clock) -> None:
    path = tmp_path / "data" / "auth_secret"
    token = pb.AuthToken.FromString(AuthTokens(load_secret(path), clock=clock).issue())
    AuthTokens(load_secret(path), clock=clock).check(token)


def test_the_secret_is_for_the_owner_only(tmp_path: Path) -> None:
    path = tmp_path / "auth_secret"
    assert len(load_secret(path)) == 32
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert list(tmp_path.iterdir()) == [path]


def test_two_nodes_have_different_secrets(tmp_path: Path) -> None:
    assert load_secret(tmp_path / "a") != load_secret(tmp_path / "b")


def test_a_damaged_secret_is_a_clear_error(tmp_path: Path) -> None:
    path = tmp_path / "auth_secret"
    path.write_bytes(b"short")
    with pytest.raises(ConfigError, match=r"auth_secret: .* 32 bytes, got 5; delete the file"):
        load_secret(path)


def test_a_data_directory_that_is_a_file_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("")
    with pytest.raises(ConfigError, match="data directory"):
        load_secret(tmp_path / "data" / "auth_secret")


def test_a_file_system_without_hard_links_keeps_a_secret_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_links(*_: object) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", no_links)
    path = tmp_path / "auth_secret"
    secret = load_secret(path)
    assert load_secret(path) == secret
    assert list(tmp_path.iterdir()) == [path]


def test_the_first_of_two_instances_decides_the_secret(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "auth_secret"
    link = os.link

    def another_was_faster(fresh: Path, final: Path) -> None:
        final.write_bytes(SECRET)
        link(fresh, final)

    monkeypatch.setattr(os, "link", another_was_faster)
    assert load_secret(path) == SECRET


def test_a_secret_that_others_can_read_is_warned_about(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "auth_secret"
    secret = load_secret(path)
    path.chmod(0o644)
    assert load_secret(path) == secret
    assert "chmod 600" in caplog.text
