"""``lpnode tickets`` beside a node that runs, and over its store when none does."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from payment.redeeming import FACE_VALUE, RedeemBench, running

from lpnode.cli import main
from lpnode.command import ticket_retry
from lpnode.edge.http.operator import Operator, OperatorConfig, OperatorState
from lpnode.errors import ChainError
from lpnode.payment.winning import Winner

Command = Callable[..., "tuple[int, str, str]"]


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Command:
    """Runs ``lpnode tickets`` over the store of the test: exit code, output, errors."""

    def run(*words: str) -> tuple[int, str, str]:
        code = main(["tickets", *words, "-dataDir", str(tmp_path)])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


@asynccontextmanager
async def operator_of(bench: RedeemBench) -> AsyncIterator[int]:
    """The node's operator port, as far as payments go. Yields the port."""
    state = OperatorState(
        version="0.9.1",
        sessions=list,
        metrics=bytes,
        base_prices=dict,
        log_level=lambda: 3,
        set_log_level=lambda level: None,
        payments=lambda: bench.payments.summary().as_fields(),
        retry_tickets=bench.redemption.retry,
    )
    operator = Operator(OperatorConfig(port=0), state)
    await operator.bind()
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(operator.run(), name="operator port")
        yield operator.port
        await operator.drain()


async def expired(bench: RedeemBench) -> Winner:
    (winner,) = await bench.win(1)
    bench.chain.num_rounds_ahead = 2
    await bench.settle()
    bench.chain.num_rounds_ahead = 0
    return winner


async def test_tickets_are_listed_by_state(tmp_path: Path, command: Command) -> None:
    async with running(tmp_path) as bench:
        lost = await expired(bench)
        won = await bench.win(2)
        code, out, _ = command("list", "--json")
        tickets: list[dict[str, Any]] = json.loads(out)["tickets"]
        assert {each["hash"] for each in tickets} == {f"0x{w.hash.hex()}" for w in [lost, *won]}
        code, out, _ = command("list", "--state", "expired", "--json")
        (ticket,) = json.loads(out)["tickets"]
        assert (ticket["hash"], ticket["face_value_wei"]) == (
            f"0x{lost.hash.hex()}",
            str(FACE_VALUE),
        )
        assert "can no longer be redeemed" in ticket["reason"]
        code, out, _ = command("list")
        assert code == 0
        assert f"0x{lost.hash.hex()}"[:12] in out
        assert command("list", "--state", "void")[1] == "no such tickets\n"


async def test_a_ticket_is_shown_from_its_payment_to_its_transaction(
    tmp_path: Path, command: Command
) -> None:
    async with running(tmp_path) as bench:
        (winner,) = await bench.win(1)
        await bench.settle()
        text = f"0x{winner.hash.hex()}"
        document = json.loads(command("show", text, "--json")[1])
        assert [step["state"] for step in document["ticket"]["history"]] == [
            *("submitted", "confirmed"),
        ]
        assert document["ticket"]["tx_hash"] == f"0x{bytes(32).hex()}"
        assert document["ticket"]["payout_wei"] == str(FACE_VALUE)
        assert document["payment"]["num_credited"] == 1
        code, out, _ = command("show", text[:8])
        assert code == 0
        assert text in out.replace("\n", "")
        assert f"{FACE_VALUE:,} wei" in out
        document = json.loads(command("manifest", "m", "--json")[1])
        assert [each["hash"] for each in document["tickets"]] == [text]
        assert command("manifest", "m")[0] == 0


async def test_no_text_of_a_stranger_steers_the_terminal(tmp_path: Path, command: Command) -> None:
    async with running(tmp_path) as bench:
        (winner,) = await bench.win(1)
        bench.broker.failures[winner.hash] = [ChainError("no \x1b[2J[bold]answer")]
        await bench.settle()
        for words in (("list",), ("show", winner.hash.hex()), ("manifest", "m")):
            out = command(*words)[1]
            assert "\x1b[2J" not in out
            assert "[bold]" in "".join(out.split())


async def test_a_hash_that_names_no_ticket_says_so(tmp_path: Path, command: Command) -> None:
    async with running(tmp_path):
        for words, message in (
            (["show", "0xabcd"], "no ticket 0xabcd that won is kept"),
            (["retry", "hash"], "'hash' is not the hash of a ticket"),
            (["show", "0xab"], "give 0x and its 64 hex digits"),
            (["manifest", "x"], "nothing is kept of a manifest 'x'"),
        ):
            code, _, err = command(*words)
            assert (code, message in err) == (2, True), err


async def test_a_running_node_is_asked_to_try_a_ticket_again(
    tmp_path: Path, command: Command
) -> None:
    async with running(tmp_path) as bench, operator_of(bench) as port:
        winner = await expired(bench)
        text = f"0x{winner.hash.hex()}"
        words = ("retry", text, "-cliAddr", f"127.0.0.1:{port}")
        code, out, _ = await asyncio.to_thread(command, *words)
        assert (code, out.splitlines()) == (
            0,
            [f"{text} stored: tried again on request", "the node tries them now"],
        )
        assert bench.payments.winners.total_pending_wei == FACE_VALUE
        await bench.settle()
        assert bench.broker.sent == [winner.hash]
        code, _, err = await asyncio.to_thread(command, *words)
        assert code == 1
        assert f"ticket {text} is confirmed: the chain has paid it" in err
        words = ("retry", "--all", f"-cliAddr=127.0.0.1:{port}")
        assert (await asyncio.to_thread(command, *words))[1] == "every ticket is paid\n"


async def test_without_a_node_the_store_is_changed_and_the_next_node_acts(
    tmp_path: Path, command: Command
) -> None:
    async with running(tmp_path) as bench:
        winner = await expired(bench)
    code, out, _ = await asyncio.to_thread(command, "retry", "--all")
    assert code == 0
    assert out.splitlines()[-1] == "no node runs; the next one tries them"
    async with running(tmp_path, bench.chain) as again:
        assert [w.hash for w in again.payments.winners.open()] == [winner.hash]
        await again.settle()
        assert again.broker.sent == [winner.hash]
        states = json.loads(command("show", winner.hash.hex(), "--json")[1])["ticket"]["history"]
    assert [state["state"] for state in states] == [
        *("expired", "stored", "submitted", "confirmed"),
    ]
    code, _, err = await asyncio.to_thread(command, "retry", winner.hash.hex())
    assert code == 1
    assert "is confirmed" in err


async def test_a_node_that_does_not_answer_is_named_with_the_setting(
    tmp_path: Path, command: Command
) -> None:
    async with running(tmp_path) as bench:
        await expired(bench)
        code, _, err = await asyncio.to_thread(command, "retry", "--all", "-cliAddr", "127.0.0.1:1")
    assert code == 1
    assert "does not answer at 127.0.0.1:1" in err
    assert "give -cliAddr as the node has it" in err


async def test_a_node_that_says_nothing_is_waited_for_so_long_and_named(
    tmp_path: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ticket_retry, "_TIMEOUT_S", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        async with running(tmp_path) as bench:
            await expired(bench)
            code, _, err = await asyncio.to_thread(command, "retry", "--all", "-cliAddr", address)
    assert code == 1
    assert f"does not answer at {address}: nothing within 0.2 s" in err
