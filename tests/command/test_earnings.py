"""``lpnode earnings`` over a store in which real tickets were credited."""

import csv
import io
import json
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from paying_gateway import GATEWAY, PaymentBench, pay
from payment.receiving import KEY, MANIFEST, OFTEN_WON, params_for

from lpnode.cli import main
from lpnode.command.amounts import eth_text, wei_text
from lpnode.payment.ledger import Job
from lpnode.protocol.ethereum import checksum_text

Printed = Callable[..., str]


@pytest.fixture
def bench(tmp_path: Path) -> PaymentBench:
    return PaymentBench(tmp_path)


@pytest.fixture
def printed(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Printed:
    """Runs the command over the store of the test and returns what it prints."""

    def run(*words: str) -> str:
        assert main(["earnings", *words, "-dataDir", str(tmp_path)]) == 0
        return capsys.readouterr().out

    return run


@dataclass(frozen=True)
class Paid:
    """What a gateway has paid, and for how many tickets one won."""

    credit_wei: Fraction
    num_won: int
    face_value_wei: int


async def paid(bench: PaymentBench) -> Paid:
    """50 tickets, and 1000 units of work at a third of a wei."""
    bench.pricing = OFTEN_WON
    async with bench.running() as payments:
        params = await params_for(payments)
        receipt = await payments.recipient.receive(pay(params, range(50)), MANIFEST)
        purse = await payments.open_job(
            Job(key=KEY, capability=35, model_id="edge-style", price=Fraction(1, 3))
        )
        assert purse.debit(1000, Fraction(1000, 3))
    return Paid(receipt.credit_wei, receipt.num_won, params.face_value_wei)


async def test_json_has_exact_wei_as_text(bench: PaymentBench, printed: Printed) -> None:
    expected = await paid(bench)
    document: dict[str, Any] = json.loads(printed("--by", "model", "--json"))
    (group,) = document["groups"]
    assert (group["model"], document["by"]) == ("edge-style", "model")
    assert {name: group[name] for name in document["total"]} == document["total"]
    assert Fraction(group["credit_wei"]) == expected.credit_wei
    assert (group["fee_wei"], group["units"]) == ("1000/3", 1000)
    assert group["num_pending"] == expected.num_won
    assert group["pending_face_value_wei"] == str(expected.num_won * expected.face_value_wei)
    assert document["store"]["chain_id"] == 42161
    assert document["lost"] == {}


async def test_csv_is_a_line_a_group_in_exact_wei(bench: PaymentBench, printed: Printed) -> None:
    expected = await paid(bench)
    (row,) = csv.DictReader(io.StringIO(printed("--by=gateway", "--csv")))
    assert row["gateway"] == checksum_text(GATEWAY.address)
    assert Fraction(row["credit_wei"]) == expected.credit_wei
    (row,) = csv.DictReader(io.StringIO(printed("--csv")))
    assert row["fee_wei"] == "1000/3"
    (row,) = csv.DictReader(io.StringIO(printed("--csv", "--by", "day")))
    assert row["day"] == "2027-01-15"


async def test_people_get_tables_in_eth_and_in_wei_however_narrow_the_terminal(
    bench: PaymentBench, printed: Printed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    expected = await paid(bench)
    text = printed("--by", "model")
    assert "edge" in text
    assert eth_text(expected.credit_wei) in text
    assert wei_text(expected.credit_wei) in text
    assert f"{50:,} of {50:,}" in text


async def test_serves_own_settings_lead_to_the_store(
    bench: PaymentBench,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    await paid(bench)
    config = tmp_path / "node.toml"
    config.write_text(f'dataDir = "{tmp_path}"\nserviceAddr = "my.host:8935"\n')
    for words in (
        [f"-dataDir={tmp_path}"],
        ["--data-dir", str(tmp_path)],
        ["-config", str(config)],
        # What the node needs besides is no business of this command.
        ["-dataDir", str(tmp_path), "-orchestrator", "-network", "arbitrum-one-mainnet"],
    ):
        assert main(["earnings", "--json", *words]) == 0
        assert json.loads(capsys.readouterr().out)["total"]["num_credited"] == 50
    monkeypatch.setenv("LP_DATADIR", str(tmp_path))
    assert main(["earnings"]) == 0


def test_no_store_there_is_one_line_and_exit_code_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["earnings", "-dataDir", str(tmp_path)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"lpnode: there is no payment store {tmp_path}/payments.db; give")


@pytest.mark.parametrize(
    ("amount_wei", "text"),
    [
        (0, "0.000000000"),
        (1, "<0.000000001"),
        (Fraction(-1, 3), "-<0.000000001"),
        (10**9, "0.000000001"),
        (Fraction(1234567890123456789012, 1), "1,234.567890123"),
        (-(10**18), "-1.000000000"),
    ],
)
def test_eth_is_cut_to_whole_gwei_and_never_shows_something_as_nothing(
    amount_wei: int | Fraction, text: str
) -> None:
    assert eth_text(amount_wei) == text
