"""``lpnode wallet status`` on a real chain."""

import json
from pathlib import Path

import pytest
from end_to_end.paid_node import chain_words, keystore_in, models_in
from evm import ETHER, Evm

from lpnode.cli import main
from lpnode.command.doctor import examine
from lpnode.command.verdict import Grade
from lpnode.protocol.ethereum import checksum_text


def words_of(evm: Evm, folder: Path) -> list[str]:
    # A password that is wrong shows that none is needed.
    keystore = keystore_in(folder, evm.accounts[1])
    return [*keystore[:2], "-ethPassword", "wrong", *chain_words(evm), *models_in(folder)]


def test_a_wallet_tells_what_the_account_has_and_what_redeeming_costs(
    evm: Evm, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    account = evm.accounts[1].address
    evm.activate(account)
    evm.next_round()
    evm.send(account, evm.service_registry, "setServiceURI(string)", "https://a.example:8935")
    assert main(["wallet", "status", "--json", *words_of(evm, tmp_path)]) == 0
    status = json.loads(capsys.readouterr().out)
    assert status["account"] == status["recipient"] == checksum_text(account)
    assert status["balance_wei"] == str(evm.balance(account))
    assert status["chain_id"] == evm.chain_id
    assert status["is_active"] is True
    assert status["round"] == evm.last_initialized_round
    assert status["service_uri"] == "https://a.example:8935"
    assert int(status["redemption_wei"]) == 400_000 * int(status["gas_price_wei"])
    assert status["advice"] == []


def test_a_wallet_says_what_keeps_the_node_from_earning(
    evm: Evm, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    poor = checksum_text(b"\x99" * 20)
    words = [*words_of(evm, tmp_path), "-ethSigner", "http://signer", "-ethAcctAddr", poor]
    assert main(["wallet", "status", *words]) == 1
    shown = capsys.readouterr().out
    assert "NOT active" in shown
    assert "0.000000000 ETH (0 wei)" in shown
    for advice in ("no active orchestrator", f"send ether to {poor}", "no service address"):
        assert advice in shown
    assert f"{ETHER:,}" not in shown


def test_a_node_off_chain_has_no_wallet(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["wallet", "status"]) == 2
    assert "say which chain with -network" in capsys.readouterr().err


def test_a_chain_that_does_not_answer_is_an_error(
    tmp_path: Path, evm: Evm, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [*words_of(evm, tmp_path), "-ethUrl", "http://127.0.0.1:9"]
    assert main(["wallet", "status", *words]) == 1
    assert "lpnode: RpcUnavailable" in capsys.readouterr().err


def test_the_doctor_looks_at_the_chain_too(evm: Evm, tmp_path: Path) -> None:
    words = [*words_of(evm, tmp_path), "-serviceAddr", "127.0.0.1:8935"]
    found = {verdict.subject: verdict for verdict in examine(words, {})}["chain"]
    assert found.grade is Grade.WARNING
    assert "no active orchestrator" in found.fix
    lost = examine([*words, "-ethUrl", "http://127.0.0.1:9"], {})
    assert {verdict.subject: verdict for verdict in lost}["chain"].grade is Grade.MISSING
