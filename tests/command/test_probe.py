"""``lpnode probe`` as a command: exit codes and what it prints."""

import argparse
import asyncio
import json
import threading
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import pytest
from stock_grpc_server import self_signed, serving

from lpnode.admission.ai_models import DEFAULT_AI_MODELS, slots_of
from lpnode.admission.auth_token import AuthTokens
from lpnode.admission.quote import Quote, QuoteConfig
from lpnode.command import probe
from lpnode.command.payment_report import odds_text
from lpnode.edge.grpc.orchestrator import Orchestrator
from lpnode.schedule.capacity import Capacity


@pytest.fixture
def node_uri(tmp_path: Path) -> Iterator[str]:
    """A node in a thread of its own, because the command runs its own event loop."""
    capacity = Capacity(slots_of(DEFAULT_AI_MODELS))
    tokens = AuthTokens(bytes(32))
    quote = Quote(
        QuoteConfig(service_uri="https://127.0.0.1:8935"),
        models=DEFAULT_AI_MODELS,
        capacity=capacity,
        tokens=tokens,
    )
    methods = Orchestrator(quote=quote, capacity=capacity, tokens=tokens).methods()
    started = threading.Event()
    found: list[str] = []
    loop = asyncio.new_event_loop()
    over = asyncio.Event()

    async def serve() -> None:
        async with serving(methods, self_signed(tmp_path)) as uri:
            found.append(uri)
            started.set()
            await over.wait()

    def serve_until_over() -> None:
        loop.run_until_complete(serve())
        loop.close()

    thread = threading.Thread(target=serve_until_over, name="node")
    thread.start()
    assert started.wait(10)
    yield found[0]
    loop.call_soon_threadsafe(over.set)
    thread.join()


def probe_of(url: str, *, is_json: bool = False) -> int:
    return probe.run(
        argparse.Namespace(
            url=url, json=is_json, timeout=3.0, key=None, password_file=None, model=None
        )
    )


def test_a_sound_node_is_shown_and_exits_with_0(
    node_uri: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert probe_of(node_uri) == 0
    shown = capsys.readouterr().out
    assert "edge-style" in shown
    assert "off-chain" in shown


def test_json_is_what_a_gateway_would_list(
    node_uri: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert probe_of(node_uri, is_json=True) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["orchestrators"][0]["orch_uri"] == "https://127.0.0.1:8935"


def test_no_answer_exits_with_1_and_says_why(capsys: pytest.CaptureFixture[str]) -> None:
    assert probe_of("https://127.0.0.1:1") == 1
    assert "cannot be reached" in capsys.readouterr().err


def test_no_address_exits_with_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert probe_of("https://host") == 2
    assert "https://host:port" in capsys.readouterr().err


def test_odds_near_certainty_are_not_rounded_to_one_in_one() -> None:
    assert odds_text(Fraction(5, 4)) == "80 in 100 win"
    assert odds_text(Fraction(1250)) == "one in 1250 wins"
