"""Streams that are paid for per second, through processes as operators and gateways run them."""

import asyncio
import json
import sqlite3
import sys
from contextlib import closing
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from end_to_end.paid_node import MODEL, paid_node
from end_to_end.whole_node import eventually
from evm import ETHER, Evm, EvmAccount

from lpnode.command.node_process import NodeProcess
from lpnode.payment.params import win_prob
from lpnode.payment.ticket import MAX_WIN_PROB
from lpnode.payment.work_units import LIVE_PREPAID_S, LIVE_UNITS_PER_S
from lpnode.protocol.ethereum import Address, checksum_text
from lpnode.protocol.keccak import keccak256

# Gas costs a thousand times what it does on Arbitrum, so tickets have to be worth as much more:
# two of five win, and a win is worth redeeming.
EV_WEI = 2 * 10**14
FACE_VALUE_WEI = 5 * 10**14
PRICE_WEI = 1_200_000
PAID_S = 60
LIFETIME_BLOCKS = 40
INTERVAL_S = 5


async def run_lpnode(*words: str) -> tuple[int, Any]:
    """Runs a command. Returns: its exit code and the JSON that it printed."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-P", "-m", "lpnode", *words),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, errors = await process.communicate()
    assert process.returncode is not None
    assert out, errors.decode()
    return process.returncode, json.loads(out)


async def stream(
    node: NodeProcess, folder: Path, gateway: EvmAccount, duration_s: float, *words: str
) -> tuple[int, Any]:
    """``lpnode stream --pay`` of a small test picture; ``gateway``'s key is put into a file."""
    key = folder / f"{gateway.address.hex()}.key"
    key.touch(mode=0o600)
    key.write_text(gateway.private_key.hex())
    return await run_lpnode(
        *("stream", node.service_uri, "--model", MODEL, "--json"),
        *("--size", "320x240", "--fps", "15", "--duration", str(duration_s)),
        *("--pay", str(key), "--max-ticket-ev", str(10**15), "--max-total-ev", str(10**16)),
        *words,
    )


async def earnings(folder: Path, *words: str) -> Any:
    """``lpnode earnings --json`` of the node with its data there."""
    _, report = await run_lpnode("earnings", "--json", "-dataDir", str(folder / "data"), *words)
    return report


def transfers(evm: Evm, sender: EvmAccount) -> int:
    """Wei that TicketBroker's events say were paid out of the sender's funds."""
    topic = "0x" + keccak256(b"WinningTicketTransfer(address,address,uint256)").hex()
    query = {
        "address": "0x" + evm.ticket_broker.hex(),
        "fromBlock": "0x0",
        "topics": [topic, "0x" + sender.address.rjust(32, b"\0").hex()],
    }
    return sum(int(log["data"], 16) for log in evm.rpc("eth_getLogs", query))


def deposit_of(evm: Evm, sender: EvmAccount) -> int:
    answer = evm.call(evm.ticket_broker, "getSenderInfo(address)", sender.address)
    return int.from_bytes(answer[:32])


def balances_in(folder: Path) -> dict[str, Fraction]:
    """The balances on the node's disk, by the sender's address."""
    sums: dict[str, Fraction] = {}
    with closing(sqlite3.connect(f"file:{folder}/data/payments.db?mode=ro", uri=True)) as store:
        for sender, amount in store.execute("SELECT sender, amount FROM balances"):
            name = checksum_text(Address(sender))
            sums[name] = sums.get(name, Fraction(0)) + Fraction(amount)
    return sums


@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_a_minute_is_paid_per_second_and_books_and_chain_agree_to_the_wei(
    evm: Evm, tmp_path: Path
) -> None:
    """Beside it a gateway that pays for its first minute only is cut after just that."""
    payer, miser = evm.accounts[2], evm.accounts[3]
    for gateway in (payer, miser):
        evm.fund(gateway.address, deposit_wei=ETHER, reserve_wei=ETHER)
    words = (
        *("-ticketEV", str(EV_WEI), "-maxFaceValue", str(FACE_VALUE_WEI)),
        *("-autoAdjustPrice=false", "-reward=false"),
    )
    async with paid_node(evm, tmp_path, *words, price_wei=PRICE_WEI) as node:
        (code, paid), (cut_code, cut) = await asyncio.gather(
            stream(node, tmp_path, payer, PAID_S),
            stream(node, tmp_path, miser, 3 * PAID_S, "--stop-paying", "0"),
        )
        assert (code, cut_code) == (0, 1)
        evm.mine(LIFETIME_BLOCKS)

        async def are_all_redeemed() -> bool:
            return not (await earnings(tmp_path))["total"]["num_pending"]

        await eventually(are_all_redeemed, within_s=120)
        report = await earnings(tmp_path, "--by", "gateway")
    books = {group["gateway"]: group for group in report["groups"]}
    balances = balances_in(tmp_path)
    for gateway, sent in ((payer, paid["payment"]), (miser, cut["payment"])):
        name = checksum_text(gateway.address)
        book = books[name]
        # Every ticket that was sent is credited, with its exact EV.
        assert book["num_credited"] == book["num_tickets"] == sent["tickets"]
        ev_wei = Fraction(FACE_VALUE_WEI * win_prob(FACE_VALUE_WEI, EV_WEI), MAX_WIN_PROB)
        assert Fraction(book["credit_wei"]) == sent["tickets"] * ev_wei
        # What was not used for work is the balance.
        assert Fraction(book["fee_wei"]) == book["units"] * PRICE_WEI
        assert Fraction(book["credit_wei"]) - Fraction(book["fee_wei"]) == balances[name]
        # And what won is what left the sender's deposit.
        assert book["num_lost"] == 0
        payout_wei = book["num_redeemed"] * FACE_VALUE_WEI
        assert int(book["payout_wei"]) == payout_wei == transfers(evm, gateway)
        assert deposit_of(evm, gateway) == ETHER - payout_wei
    total = report["total"]
    assert total["num_redeemed"] > 0
    assert evm.pending_fees(evm.accounts[1].address) == int(total["payout_wei"])
    # A minute is billed at whole intervals; one that pays no more is cut by the one that it lacks.
    interval_units = LIVE_UNITS_PER_S * INTERVAL_S
    assert books[checksum_text(payer.address)]["units"] >= LIVE_UNITS_PER_S * (PAID_S - 10)
    bought = -(-LIVE_PREPAID_S * LIVE_UNITS_PER_S * PRICE_WEI // EV_WEI) * EV_WEI
    unused_wei = balances[checksum_text(miser.address)]
    assert 0 <= unused_wei < 2 * interval_units * PRICE_WEI
    assert books[checksum_text(miser.address)]["units"] * PRICE_WEI <= bought
    assert "insufficient balance" in json.dumps(cut)
