"""``lpnode demo``: a node on loopback, a test picture through it, and proof of what came back."""

import argparse
import shutil
import tempfile
from pathlib import Path

import uvloop
from rich.console import Console

from lpnode.command.demo_frames import DemoFrames, copy_to_mp4
from lpnode.command.node_process import NodeProcess
from lpnode.command.stream import mark_reader, run_shown, stopped_by_signals
from lpnode.command.stream_report import StreamReport, report_of
from lpnode.errors import ConfigError
from lpnode.gateway.live_stream import LiveStream, StreamPlan, Update
from lpnode.gateway.picture_input import PictureInput

MODEL = "edge-style"
BEFORE = {"levels": 5, "max_framerate": 60}
AFTER = {
    "levels": 3,
    "tint": [1.0, 0.72, 0.35],
    "ink": [0.35, 0.0, 0.3],
    "max_framerate": 60,
}


def run(arguments: argparse.Namespace) -> int:
    """Runs the demo and writes output.ts, output.mp4, frames.png and node.log.

    Returns: 0 only if frames came back, changed by the model, and changed again by the update.
    Raises: ConfigError: an argument that cannot be used. LpnodeError: the node did not start.
    """
    if arguments.duration < 4:
        raise ConfigError(f"--duration must be 4 or more, got {arguments.duration:g}")
    if not 1 <= arguments.fps <= 60:
        raise ConfigError(f"--fps must be 1 to 60, got {arguments.fps}")
    folder: Path = arguments.output
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"--output {folder}: {error.strerror}") from error
    data_dir = Path(tempfile.mkdtemp(prefix="lpnode-demo-"))
    console = Console()
    try:
        return uvloop.run(_demo(arguments, folder, data_dir, console))
    finally:
        shutil.rmtree(data_dir, ignore_errors=True)


async def _demo(
    arguments: argparse.Namespace, folder: Path, data_dir: Path, console: Console
) -> int:
    size: tuple[int, int] = arguments.size
    frames = DemoFrames(size, arguments.fps, arguments.duration)
    half_way_s = arguments.duration / 2
    with console.status("starting a node on loopback") as status:
        async with NodeProcess(data_dir, folder / "node.log") as node:
            plan = StreamPlan(
                uri=node.service_uri,
                model_id=MODEL,
                params=BEFORE,
                updates=[Update(half_way_s, AFTER)],
            )
            console.print(
                f"node at {node.service_uri}, ready after {node.ready_s:.1f} s; "
                f"streaming {size[0]}x{size[1]} at {arguments.fps} fps through {MODEL}",
                highlight=False,
            )
            with (folder / "output.ts").open("wb") as file:
                stream = LiveStream(
                    plan,
                    PictureInput(size, arguments.fps, duration_s=arguments.duration),
                    read_key=mark_reader(size),
                    file=file,
                    on_frame=frames.take,
                )
                with stopped_by_signals(stream):
                    await run_shown(stream, status.update)
            report = report_of(plan, stream)
    copy_to_mp4(folder / "output.ts", folder / "output.mp4")
    frames.write_picture(folder / "frames.png")
    console.print(report.tables())
    return _judge(report, frames, folder, console)


def _judge(report: StreamReport, frames: DemoFrames, folder: Path, console: Console) -> int:
    verdict = frames.verdict()
    for claim, is_true in (
        (f"frames came back ({report.returned} of {report.sent})", report.is_good),
        (f"changed by {MODEL} (mean difference {verdict.change:.1f} of 255)", verdict.is_changed),
        (f"and again by the update ({verdict.shift:.1f} of 255)", verdict.is_updated),
    ):
        console.print(f"[green]yes[/] {claim}" if is_true else f"[red]NO[/]  {claim}")
    console.print(f"see {folder}/frames.png, {folder}/output.mp4, {folder}/output.ts")
    return 0 if report.is_good and verdict.is_changed and verdict.is_updated else 1
