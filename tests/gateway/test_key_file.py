"""Keys of paying accounts from files."""

import json
import logging
from pathlib import Path

import pytest

from lpnode.chain.eth_account import Account as KeystoreAccount
from lpnode.errors import ConfigError
from lpnode.gateway.key_file import read_key_file
from lpnode.protocol.ethereum import Account

KEY = bytes(31) + b"\x07"
ADDRESS = Account(KEY).address


def written(path: Path, text: str) -> Path:
    path.write_text(text)
    path.chmod(0o600)
    return path


@pytest.mark.parametrize("text", [KEY.hex(), f"0x{KEY.hex()}\n", f"  {KEY.hex().upper()}\n\n"])
def test_hex_digits_are_a_key(tmp_path: Path, text: str) -> None:
    assert read_key_file(written(tmp_path / "key", text)).address == ADDRESS


def test_a_keystore_opens_with_the_password_of_another_file(tmp_path: Path) -> None:
    keystore = KeystoreAccount.encrypt(KEY, "secret", kdf="pbkdf2", iterations=1000)
    path = written(tmp_path / "key.json", json.dumps(keystore))
    password = written(tmp_path / "password", "secret\n")
    assert read_key_file(path, password).address == ADDRESS
    with pytest.raises(ConfigError, match="give the file with its password"):
        read_key_file(path)
    with pytest.raises(ConfigError, match="does not open it"):
        read_key_file(path, written(tmp_path / "wrong", "guess\n"))
    with pytest.raises(ConfigError, match="no such file"):
        read_key_file(path, tmp_path / "nowhere")


@pytest.mark.parametrize(
    "text", ["", "07", KEY.hex() + "00", "g" * 64, "é" * 64, "{ no", '{"version": 1}', "[" * 60_000]
)
def test_anything_else_is_refused_and_not_shown(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigError, match="64 hex digits") as refusal:
        read_key_file(written(tmp_path / "key", text))
    assert not text or text not in str(refusal.value).removeprefix(f"key file {tmp_path}/key")


def test_no_file_and_no_key_of_the_curve_are_settings_to_correct(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No such file"):
        read_key_file(tmp_path / "nowhere")
    with pytest.raises(ConfigError, match=r"key: .* between 1 and the curve's order"):
        read_key_file(written(tmp_path / "key", "0" * 64))


def test_a_key_that_others_can_read_is_warned_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = written(tmp_path / "key", KEY.hex())
    path.chmod(0o644)
    with caplog.at_level(logging.WARNING):
        read_key_file(path)
    assert "owner-only" in caplog.text
