"""``lpnode demo``: a node on loopback, a test picture through it, and proof of what came back.

Where an EVM can be run, the stream is paid for as well, and the tickets that won are redeemed.
"""

import argparse
import math
import shutil
import signal
import tempfile
from collections.abc import Iterator
from contextlib import AsyncExitStack, ExitStack, contextmanager
from pathlib import Path

import uvloop
from rich.console import Console

from lpnode.command.demo_frames import DemoFrames, copy_to_mp4
from lpnode.command.demo_models import DEMO_MODELS
from lpnode.command.demo_payment import DemoPayment, Settlement, demo_payment
from lpnode.command.node_process import NodeProcess
from lpnode.command.stream import frame_number, run_shown, stopped_by_signals
from lpnode.command.stream_report import StreamReport, report_of
from lpnode.errors import ConfigError, NoEvm
from lpnode.gateway.live_stream import LiveStream, StreamPlan, Update
from lpnode.gateway.picture_input import PictureInput


def run(arguments: argparse.Namespace) -> int:
    """Runs the demo and writes output.ts, output.mp4, frames.png and node.log.

    Returns: 0 only if frames came back, changed by the model, and changed again by the update, and
        the books of a paid run agree with the chain.
    Raises: ConfigError: an argument that cannot be used. LpnodeError: the node did not start.
    """
    if not 4 <= arguments.duration < math.inf:
        raise ConfigError(f"--duration must be 4 or more, got {arguments.duration:g}")
    if not 1 <= arguments.fps <= 60:
        raise ConfigError(f"--fps must be 1 to 60, got {arguments.fps}")
    folder: Path = arguments.output
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"--output {folder}: {error.strerror}") from error
    console = Console()
    with _ended_by_signals(), ExitStack() as resources:
        data_dir = Path(tempfile.mkdtemp(prefix="lpnode-demo-"))
        resources.callback(shutil.rmtree, data_dir, ignore_errors=True)
        payment = None if arguments.off_chain else _payment(resources, data_dir, console)
        return uvloop.run(_demo(arguments, folder, data_dir, console, payment))


@contextmanager
def _ended_by_signals() -> Iterator[None]:
    """SIGTERM and a terminal that is closed do what Ctrl-C does, unless they are ignored.

    Node and chain are in sessions of their own, and would outlive a process that just dies.
    """
    signals = (signal.SIGTERM, signal.SIGHUP)
    ended = [number for number in signals if signal.getsignal(number) is signal.SIG_DFL]
    # By way of Ctrl-C, for which asyncio cancels: an exception out of nowhere, while a process is
    # being started, would leave that behind. A shell may have had it ignored.
    before = {signal.SIGINT: signal.signal(signal.SIGINT, signal.default_int_handler)}
    for number in ended:
        before[number] = signal.signal(number, lambda *_: signal.raise_signal(signal.SIGINT))
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _payment(resources: ExitStack, folder: Path, console: Console) -> DemoPayment | None:
    try:
        return resources.enter_context(demo_payment(folder))
    except NoEvm as error:
        # Its fix names an extra in brackets, which is no markup.
        console.print(f"nothing is paid in this run: {error}", highlight=False, markup=False)
        return None


async def _demo(
    arguments: argparse.Namespace,
    folder: Path,
    data_dir: Path,
    console: Console,
    payment: DemoPayment | None,
) -> int:
    size: tuple[int, int] = arguments.size
    model = DEMO_MODELS[arguments.model]
    frames = DemoFrames(size, arguments.fps, arguments.duration)
    half_way_s = arguments.duration / 2
    with console.status("starting a node on loopback") as status:
        words = model.node_words() + (() if payment is None else payment.node_words())
        async with (
            NodeProcess(data_dir, folder / "node.log", words) as node,
            AsyncExitStack() as opened,
        ):
            plan = StreamPlan(
                uri=node.service_uri,
                model_id=model.model_id,
                params=dict(model.before),
                updates=[Update(half_way_s, dict(model.after))],
            )
            console.print(
                f"node at {node.service_uri}, ready after {node.ready_s:.1f} s; "
                f"streaming {size[0]}x{size[1]} at {arguments.fps} fps through {model.model_id}, "
                f"{'for free' if payment is None else payment.how}",
                highlight=False,
            )
            with (folder / "output.ts").open("wb") as file:
                stream = LiveStream(
                    plan,
                    PictureInput(size, arguments.fps, duration_s=arguments.duration),
                    # Diffusion leaves nothing of the number that is drawn into each frame.
                    read_key=frame_number(arguments.fps),
                    file=file,
                    on_frame=frames.take,
                    payer=(
                        None
                        if payment is None
                        else await opened.enter_async_context(payment.payer())
                    ),
                )
                with stopped_by_signals(stream):
                    await run_shown(stream, status.update)
            report = report_of(plan, stream)
            settlement = None
            if payment is not None:
                status.update("redeeming the tickets that won")
                settlement = await payment.settle(node.operator_uri)
    copy_to_mp4(folder / "output.ts", folder / "output.mp4")
    frames.write_picture(folder / "frames.png")
    console.print(report.tables())
    return _judge(model.model_id, report, frames, settlement, folder, console)


def _judge(
    model_id: str,
    report: StreamReport,
    frames: DemoFrames,
    settlement: Settlement | None,
    folder: Path,
    console: Console,
) -> int:
    verdict = frames.verdict()
    claims = [
        (f"frames came back ({report.returned} of {report.sent})", report.is_good),
        (
            f"changed by {model_id} (mean difference {verdict.change:.1f} of 255)",
            verdict.is_changed,
        ),
        (f"and again by the update ({verdict.shift:.1f} of 255)", verdict.is_updated),
    ]
    if settlement is not None:
        claims.append((f"{settlement}; node and chain agree to the wei", settlement.is_exact))
    for claim, is_true in claims:
        console.print(f"[green]yes[/] {claim}" if is_true else f"[red]NO[/]  {claim}")
    console.print(f"see {folder}/frames.png, {folder}/output.mp4, {folder}/output.ts")
    return 0 if all(is_true for _, is_true in claims) else 1
