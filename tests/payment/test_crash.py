"""kill -9 at random moments: nothing that was acknowledged is lost, nothing is taken twice."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

TESTS = Path(__file__).parent.parent


@pytest.mark.parametrize(
    ("num_kills", "seed"),
    [
        pytest.param(20, 1, id="20 kills"),
        pytest.param(
            400,
            2,
            id="400 kills",
            marks=[pytest.mark.slow, pytest.mark.campaign, pytest.mark.timeout(600)],
        ),
    ],
)
def test_a_killed_node_loses_no_ticket_and_takes_no_nonce_twice(
    num_kills: int, seed: int, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    """D1, R6, A6; payments.md section 9.4."""
    run = subprocess.run(
        [
            sys.executable,
            str(TESTS / "crash_campaign.py"),
            str(tmp_path),
            str(num_kills),
            str(seed),
        ],
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(TESTS), *sys.path])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    figures = json.loads(run.stdout)
    record_property("crash figures", figures)
    print(figures)
    lost = {"winners_lost", "tickets_lost", "nonces_reused", "balances_wrong"}
    assert {name: figures[name] for name in lost} == dict.fromkeys(lost, 0)
    assert figures["kills"] == num_kills
    # Something was at stake each time.
    assert figures["tickets_accepted"] > 10 * num_kills
    assert figures["winners"] > num_kills
    assert figures["replays_refused"] > 0
