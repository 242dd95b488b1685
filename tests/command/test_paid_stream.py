"""``lpnode stream --pay`` and ``lpnode probe --key`` against a node that asks a price."""

import asyncio
import json
import sys
import time
from fractions import Fraction
from pathlib import Path

import pytest
from node_bench import MODEL
from paid_node import PRICE, PaidNode, serving_paid_node

from lpnode.admission.price import PriceBook

GATEWAY_KEY = (bytes(31) + b"\x07").hex()


def key_file(folder: Path) -> str:
    path = folder / "key"
    path.write_text(GATEWAY_KEY)
    path.chmod(0o600)
    return str(path)


async def lpnode(*words: str) -> tuple[int, str, str]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-P", "-m", "lpnode", *words),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await process.communicate()
    assert process.returncode is not None
    return process.returncode, out.decode(), err.decode()


async def stream(node: PaidNode, *words: str, duration_s: int = 2) -> tuple[int, str, str]:
    return await lpnode(
        *("stream", node.service_uri, "--model", MODEL, "--size", "320x240"),
        *("--duration", str(duration_s), *words),
    )


async def test_it_pays_and_says_what_it_paid(tmp_path: Path) -> None:
    async with serving_paid_node(tmp_path) as node:
        code, out, err = await stream(
            node, "--pay", key_file(tmp_path), "--payment-interval", "0.5", "--json"
        )
        assert code == 0, err
        report = json.loads(out)
        paid = report["payment"]
        assert Fraction(paid["price"]) == PRICE * Fraction(101, 100)
        assert paid["payments"] >= 3
        assert (paid["refused"], paid["lost"], paid["has_stopped"]) == (0, 0, False)
        assert int(paid["ev_wei"]) >= int(paid["fee_wei"]) > 0
        balance = node.balance(report["manifest_id"])
        assert balance is not None
        assert 0 < balance <= int(paid["ev_wei"]) + 1
        code, out, err = await stream(node, "--pay", key_file(tmp_path))
        assert code == 0, err
        assert "each ticket" in out
        assert "1212 wei per unit" in out


async def test_it_shows_how_a_node_cuts_what_is_paid_no_more(tmp_path: Path) -> None:
    """The node's meter runs sixty times as fast: the prepaid minute is over in a second."""
    async with serving_paid_node(tmp_path, now_ns=lambda: time.monotonic_ns() * 60) as node:
        code, out, err = await stream(
            node, "--pay", key_file(tmp_path), "--stop-paying", "0", "--json", duration_s=60
        )
        assert code == 1, err
        report = json.loads(out)
        assert report["payment"]["payments"] == 1
        assert report["payment"]["has_stopped"]
        assert report["errors"][-1].startswith("insufficient balance, mid=")
        assert "the node closed the" in report["failure"]


async def test_a_price_without_a_key_and_a_price_too_high_are_said(tmp_path: Path) -> None:
    async with serving_paid_node(tmp_path) as node:
        code, _, err = await stream(node)
        assert code == 1
        assert "--pay KEYFILE" in err
        code, _, err = await stream(node, "--pay", key_file(tmp_path), "--max-price", "1000.5")
        assert code == 1
        assert "the node asks 1212 wei per unit" in err
        assert "1000.5 wei per unit" in err
        assert len(node.payments.balances) == 0


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (("--max-price", "12"), "--max-price needs --pay KEYFILE"),
        (("--pay", "/nowhere"), "key file /nowhere: No such file"),
        (("--pay", "KEY", "--max-price", "cheap"), "--max-price 'cheap': must be wei per unit"),
        (("--pay", "KEY", "--max-price", "-1"), "--max-price '-1': must be wei per unit"),
        (("--pay", "KEY", "--stop-paying", "nan"), "--stop-paying must not be negative"),
        (("--pay", "KEY", "--max-total-ev", "0"), "--max-total-ev"),
        (("--pay", "KEY", "--payment-interval", "0"), "--payment-interval"),
        (("--pay", "KEY", "--eth-url", "ftp://x"), "--eth-url"),
        (("--pay", "KEY", "--eth-url", "http://"), "--eth-url"),
        (("--pay", "KEY", "--eth-controller", "0x12"), "--eth-controller: an address is 0x"),
    ],
)
async def test_arguments_that_cannot_be_used_are_exit_code_2(
    tmp_path: Path, words: tuple[str, ...], complaint: str
) -> None:
    key = key_file(tmp_path)
    words = tuple(key if word == "KEY" else word for word in words)
    code, _, err = await lpnode("stream", "https://127.0.0.1:1", "--duration", "1", *words)
    assert code == 2, err
    assert complaint in err


async def test_probe_shows_what_tickets_must_look_like_if_it_signs(tmp_path: Path) -> None:
    async with serving_paid_node(tmp_path) as node:
        node.prices.replace(PriceBook(base={None: PRICE}))
        code, _, err = await lpnode("probe", node.service_uri)
        assert code == 1
        assert "give a key with --key" in err
        code, out, err = await lpnode("probe", node.service_uri, "--key", key_file(tmp_path))
        assert code == 0, err + out
        for part in ("1212 wei per unit", "one in 150000 wins", "L1 block 140", "0.0012 ETH"):
            assert part in out
