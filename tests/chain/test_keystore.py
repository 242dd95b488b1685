"""Accounts open from the files that go-ethereum writes."""

import json
from pathlib import Path
from typing import Any

import pytest

from lpnode.chain.eth_account import Account
from lpnode.chain.keystore import KeystoreConfig, open_keystore
from lpnode.errors import ConfigError
from lpnode.protocol.ethereum import Address

# The two test vectors of the Web3 Secret Storage Definition.
PUBLISHED_KEY = "7a28b5ba57c53603b0b07b56bba752f7784bf506fa95edc395f5cf6c7514fe9d"
PUBLISHED = {
    "pbkdf2": {
        "cipher": "aes-128-ctr",
        "cipherparams": {"iv": "6087dab2f9fdbbfaddc31a909735c1e6"},
        "ciphertext": "5318b4d5bcd28de64ee5559e671353e16f075ecae9f99c7a79a38af5f869aa46",
        "kdf": "pbkdf2",
        "kdfparams": {
            "c": 262144,
            "dklen": 32,
            "prf": "hmac-sha256",
            "salt": "ae3cd4e7013836a3df6bd7241b12db061dbe2c6785853cce422d148a624ce0bd",
        },
        "mac": "517ead924a9d0dc3124507e3393d175ce3ff7c1e96529c6c555ce9e51205e9b2",
    },
    "scrypt": {
        "cipher": "aes-128-ctr",
        "cipherparams": {"iv": "83dbcc02d8ccb40e466191a123791e0e"},
        "ciphertext": "d172bf743a674da9cdad04534d56926ef8358534d458fffccd4e6ad2fbde479c",
        "kdf": "scrypt",
        "kdfparams": {
            "dklen": 32,
            "n": 262144,
            "p": 8,
            "r": 1,
            "salt": "ab0c7876052600dd703518d6fc3fe8984592145b591fc8fb5c6d43190334ba19",
        },
        "mac": "2103ac29920d71da29f15d75b4a16dbe95cfd7ff8faea1056c33131d846e3097",
    },
}
KEYS = [bytes([number]) * 32 for number in (1, 2)]


def write_key(folder: Path, key: bytes, password: str = "secret") -> Path:
    keyfile: dict[str, Any] = Account.encrypt(key, password, kdf="pbkdf2", iterations=1000)
    path = folder / f"UTC--2026-01-01T00-00-00Z--{keyfile['address']}"
    path.write_text(json.dumps(keyfile))
    path.chmod(0o600)
    return path


def address_of(key: bytes) -> Address:
    return Address(bytes.fromhex(Account.from_key(key).address[2:]))


@pytest.mark.parametrize("kdf", PUBLISHED)
def test_the_published_files_open(tmp_path: Path, kdf: str) -> None:
    path = tmp_path / "key.json"
    path.write_text(json.dumps({"version": 3, "crypto": PUBLISHED[kdf]}))
    signer = open_keystore(KeystoreConfig(path=path, password="testpassword"))
    assert signer.address == address_of(bytes.fromhex(PUBLISHED_KEY))


def test_the_only_account_of_a_directory_opens_without_being_named(tmp_path: Path) -> None:
    write_key(tmp_path, KEYS[0])
    (tmp_path / "notes.txt").write_text("not a key")
    signer = open_keystore(KeystoreConfig(path=tmp_path, password="secret"))
    assert signer.address == address_of(KEYS[0])


def test_an_account_is_chosen_by_its_address(tmp_path: Path) -> None:
    for key in KEYS:
        write_key(tmp_path, key)
    with pytest.raises(ConfigError, match=r"several key files.*-ethAcctAddr"):
        open_keystore(KeystoreConfig(path=tmp_path, password="secret"))
    wanted = address_of(KEYS[1])
    config = KeystoreConfig(path=tmp_path, password="secret", address=wanted)
    assert open_keystore(config).address == wanted


def test_the_password_may_be_in_a_file(tmp_path: Path) -> None:
    keys = tmp_path / "keystore"
    keys.mkdir()
    write_key(keys, KEYS[0])
    password = tmp_path / "password"
    password.write_text("secret\n")
    password.chmod(0o600)
    assert open_keystore(KeystoreConfig(path=keys, password=str(password)))


def test_a_key_that_others_can_read_is_warned_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = write_key(tmp_path, KEYS[0])
    open_keystore(KeystoreConfig(path=path, password="secret"))
    assert not caplog.records
    path.chmod(0o644)
    open_keystore(KeystoreConfig(path=path, password="secret"))
    assert "owner-only" in caplog.text


def test_what_cannot_be_opened_is_a_setting_to_correct(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"-ethKeystorePath.* has no key file"):
        open_keystore(KeystoreConfig(path=tmp_path))
    with pytest.raises(ConfigError, match="no file or directory"):
        open_keystore(KeystoreConfig(path=tmp_path / "nowhere"))
    path = write_key(tmp_path, KEYS[0])
    with pytest.raises(ConfigError, match="-ethPassword does not open") as wrong:
        open_keystore(KeystoreConfig(path=path, password="guess"))
    assert "guess" not in str(wrong.value)
    other = address_of(KEYS[1])
    with pytest.raises(ConfigError, match="-ethAcctAddr"):
        open_keystore(KeystoreConfig(path=path, password="secret", address=other))
    path.write_text('{"version": 1}')
    with pytest.raises(ConfigError, match="version 3"):
        open_keystore(KeystoreConfig(path=path))


def test_a_password_is_not_shown() -> None:
    assert "hunter2" not in repr(KeystoreConfig(path=Path("/"), password="hunter2"))
