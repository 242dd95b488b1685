"""``lpnode demo``: the whole node, as an operator first meets it."""

import asyncio
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import av
import pytest
from evm import Evm, evm_of_this_run
from PIL import Image


async def demo(folder: Path, *words: str) -> str:
    """Runs a short one, which must exit with 0. Returns: what it said."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-P", "-m", "lpnode", "demo", "--duration", "4", "--size", "640x360"),
        *("--output", str(folder), *words),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    out, _ = await process.communicate()
    said = out.decode()
    assert process.returncode == 0, said
    return " ".join(said.split())


@pytest.mark.slow
@pytest.mark.parametrize(("model", "side"), [("lpnode/shapes", 128), ("edge-style", 512)])
async def test_the_demo_shows_frames_that_came_back_changed(
    tmp_path: Path, model: str, side: int
) -> None:
    folder = tmp_path / "shown"
    said = await demo(folder, "--off-chain", "--model", model)
    assert said.count("yes ") == 3
    assert "for free" in said
    assert "glass to glass" in said
    for name in ("output.ts", "output.mp4"):
        with av.open(str(folder / name)) as container:
            (video,) = container.streams.video
            assert (video.codec_context.name, video.width, video.height) == ("h264", side, side)
            assert sum(1 for _ in container.decode(video)) > 30
    with Image.open(folder / "frames.png") as sheet:
        assert sheet.size[1] == 2 * 512 + 22  # small pictures are shown larger
    assert "session closed" in (folder / "node.log").read_text()


@pytest.mark.slow
async def test_where_an_evm_runs_the_demo_is_paid_and_redeems_what_won(
    evm_process: Evm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = Path(evm_of_this_run().command[0])
    monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")
    said = await demo(tmp_path / "shown", "--model", "edge-style")
    assert "paid on a local chain" in said
    assert said.count("yes ") == 4
    assert "node and chain agree to the wei" in said


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGKILL])
def test_a_demo_that_is_told_to_end_leaves_no_node_behind(
    tmp_path: Path, number: signal.Signals
) -> None:
    is_killed = number is signal.SIGKILL
    if is_killed and shutil.which("setpriv") is None:
        pytest.skip("without setpriv nothing ends the node of a process that was killed")
    with subprocess.Popen(
        (sys.executable, "-P", "-m", "lpnode", "demo", "--off-chain", "--output", tmp_path / "o"),
        env=os.environ | {"TMPDIR": str(tmp_path)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        # Under nohup it would be ignored, by whoever is started as well.
        preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_DFL),
    ) as process:
        while not (nodes := children_of(process.pid)):
            assert process.poll() is None
            time.sleep(0.01)
        # What a kill does is arranged between the fork and the node's own program.
        while is_killed and not all(map(is_serving, nodes)):
            time.sleep(0.01)
        process.send_signal(number)
        _, err = process.communicate(timeout=60)
    assert process.returncode == (-number if is_killed else 130)
    assert "Traceback" not in err.decode()
    # One that had only just been forked is killed, and not waited for; nor is an orphan.
    deadline = time.monotonic() + 30
    while left := [pid for pid in nodes if Path(f"/proc/{pid}").exists()]:
        assert time.monotonic() < deadline, left
        time.sleep(0.01)
    assert is_killed or not list(tmp_path.glob("lpnode-demo-*"))


def is_serving(pid: int) -> bool:
    words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    return words[0] == os.fsencode(sys.executable) and b"serve" in words


def children_of(pid: int) -> list[int]:
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
