"""``lpnode stream URL``: video through a node as a gateway sends it, measured."""

import argparse
import asyncio
import contextlib
import json
import math
import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import uvloop
from rich.console import Console

from lpnode.command.payer import opened_payer
from lpnode.command.stream_report import (
    GLASS_TO_GLASS,
    SENT_TO_BACK,
    progress_line,
    report_of,
)
from lpnode.errors import ConfigError, InvalidArgument, first_cause
from lpnode.gateway.discover import dial_uri
from lpnode.gateway.file_input import FileInput
from lpnode.gateway.live_stream import LiveStream, StreamPlan, Update
from lpnode.gateway.media_input import MediaInput
from lpnode.gateway.output_reader import ReadKey
from lpnode.gateway.picture_input import PictureInput
from lpnode.media.frame import TICKS_PER_SECOND, Frame
from lpnode.media.test_source import read_mark

_PROGRESS_S = 0.5


def run(arguments: argparse.Namespace) -> int:
    """Streams as ``arguments`` say and prints what was measured.

    Returns: 0 when frames came back and the node kept the stream to its end, else 1.
    Raises: ConfigError: an argument that cannot be used. LpnodeError: the job did not start.
    """
    plan = _plan(arguments)
    media, read_key, how = _media(arguments)
    measure = GLASS_TO_GLASS if isinstance(media, PictureInput) else SENT_TO_BACK
    console = Console(stderr=True)
    console.print(f"streaming {how} through {plan.model_id} at {plan.uri}", highlight=False)
    with _opened(arguments.output) as file:
        stream = _stream(arguments, plan, media, read_key, file, console)
        report = report_of(plan, uvloop.run(stream), measure)
    if arguments.json:
        print(json.dumps(report.as_fields()))
    else:
        Console().print(report.tables())
    if arguments.output is not None:
        console.print(f"output: {arguments.output}", highlight=False)
    return 0 if report.is_good else 1


async def _stream(
    arguments: argparse.Namespace,
    plan: StreamPlan,
    media: MediaInput,
    read_key: ReadKey,
    file: BinaryIO | None,
    console: Console,
) -> LiveStream:
    def show_event(event: Mapping[str, Any]) -> None:
        if arguments.verbose:
            console.print_json(json.dumps(event), indent=None)

    async with opened_payer(arguments) as payer:
        stream = LiveStream(
            plan, media, read_key=read_key, file=file, on_event=show_event, payer=payer
        )
        with stopped_by_signals(stream), console.status("starting") as status:
            await run_shown(stream, status.update)
    return stream


async def run_shown(stream: LiveStream, show: Callable[[str], None]) -> None:
    """Runs the stream and gives ``show`` a line on it twice a second. Raises: as the stream."""

    async def show_progress() -> None:
        while True:
            await asyncio.sleep(_PROGRESS_S)
            show(progress_line(stream))

    try:
        async with asyncio.TaskGroup() as tasks:
            progress = tasks.create_task(show_progress(), name="stream progress")
            await stream.run()
            progress.cancel()
    except BaseExceptionGroup as group:
        raise first_cause(group) from None


@contextmanager
def stopped_by_signals(stream: LiveStream) -> Iterator[None]:
    """The first Ctrl-C or SIGTERM ends the input; the second gives up on what is under way.

    Afterwards both mean what they meant before.
    """
    loop = asyncio.get_running_loop()
    task = asyncio.current_task()
    assert task is not None
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    has_asked = False

    def ask() -> None:
        nonlocal has_asked
        if has_asked or stream.client is None:
            task.cancel()
        has_asked = True
        stream.stop()

    for number in before:
        loop.add_signal_handler(number, ask)
    try:
        yield
    finally:
        for number, handler in before.items():
            loop.remove_signal_handler(number)
            signal.signal(number, handler)


def _plan(arguments: argparse.Namespace) -> StreamPlan:
    try:
        uri = dial_uri(arguments.url)
    except InvalidArgument as error:
        raise ConfigError(str(error)) from error
    return StreamPlan(
        uri=uri,
        model_id=arguments.model,
        params=_parameters(arguments.params, "--params") if arguments.params else None,
        updates=[_update(text) for text in arguments.update],
    )


def _media(arguments: argparse.Namespace) -> tuple[MediaInput, ReadKey, str]:
    if arguments.duration is not None and not 0 < arguments.duration < math.inf:
        raise ConfigError(f"--duration must be positive, got {arguments.duration:g}")
    if arguments.input != "testsrc":
        file = FileInput(Path(arguments.input), duration_s=arguments.duration)
        return file, presentation_time, f"{arguments.input}: {file.description}"
    if not 1 <= arguments.fps <= 120:
        raise ConfigError(f"--fps must be 1 to 120, got {arguments.fps}")
    size: tuple[int, int] = arguments.size
    duration_s = 10.0 if arguments.duration is None else arguments.duration
    picture = PictureInput(size, arguments.fps, duration_s=duration_s)
    how = f"the test picture, {size[0]}x{size[1]} at {arguments.fps} fps,"
    return picture, frame_number(arguments.fps) if arguments.by_time else mark_reader(size), how


def presentation_time(frame: Frame) -> int:
    """Knows a frame by its time, which nodes keep."""
    return frame.pts_ticks


def mark_reader(source_size: tuple[int, int]) -> ReadKey:
    """Knows a frame by the number drawn into it."""
    return lambda frame: read_mark(frame.picture, source_size)


def frame_number(fps: int) -> ReadKey:
    """Knows a frame of the test picture by its time, whatever has become of the picture."""
    return lambda frame: round(frame.pts_ticks * fps / TICKS_PER_SECOND)


def _parameters(text: str, name: str) -> dict[str, Any]:
    try:
        params = json.loads(text)
    except ValueError as error:
        raise ConfigError(f"{name}: not JSON: {error}") from error
    if not isinstance(params, dict):
        raise ConfigError(f'{name}: must be a JSON object, for example {{"strength": 0.9}}')
    return params


def _update(text: str) -> Update:
    at, equals, params = text.partition("=")
    try:
        at_s = float(at)
    except ValueError:
        at_s = -1.0
    if not equals or not 0 <= at_s < math.inf:
        raise ConfigError(f'--update {text!r}: must be SECONDS=JSON, for example 5={{"levels": 3}}')
    return Update(at_s, _parameters(params, "--update"))


@contextmanager
def _opened(path: Path | None) -> Iterator[BinaryIO | None]:
    with contextlib.ExitStack() as files:
        try:
            yield None if path is None else files.enter_context(path.open("wb"))
        except OSError as error:
            raise ConfigError(f"--output {path}: {error.strerror}") from error
