"""How long is a byte on its way, and a publisher's answer? (trickle.md T57 and T58)

The server has a process of its own; the client measures on one raw connection each way.
``extra_info`` has p50 and p99: from a chunk's write to its arrival at a subscriber, plaintext, and
from the last byte of a segment to the answer while 50 channels are being written.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent


def measure(num_rounds: int) -> dict[str, float]:
    server = subprocess.Popen(
        [sys.executable, str(HERE / "relay_server.py"), "lpnode"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert server.stdout is not None
    port = server.stdout.readline().strip()
    try:
        load = subprocess.run(
            [sys.executable, str(HERE / "latency_load.py"), port, str(num_rounds)],
            capture_output=True,
            check=True,
            text=True,
            timeout=120,
        )
    finally:
        server.communicate(timeout=10)
    figures: dict[str, float] = json.loads(load.stdout)
    return figures


def bench_trickle_latency(benchmark: Any) -> None:
    num_rounds = 1000 if benchmark.enabled else 20
    figures = benchmark.pedantic(measure, args=(num_rounds,))
    assert figures["num_chunks"] == num_rounds
    benchmark.extra_info.update(figures)
