"""The ``lpnode`` command: which subcommand, with which arguments.

Exit codes: 0 done, 1 failed, 2 a setting or argument that cannot be used, 130 interrupted.
"""

import argparse
import asyncio
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from lpnode.errors import ConfigError, LpnodeError

# The modules behind the subcommands load torch, FFmpeg and gRPC: each is imported when it is run,
# so that --help answers at once.


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one subcommand and returns the exit code."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    try:
        code = _run(words)
        sys.stdout.flush()
        return code
    except BrokenPipeError:
        # Whoever read what was printed has seen enough; the interpreter would flush once more.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except ConfigError as error:
        print(f"lpnode: {error}", file=sys.stderr)
        return 2
    except LpnodeError as error:
        print(f"lpnode: {type(error).__name__}: {error}", file=sys.stderr)
        return 1
    except (KeyboardInterrupt, asyncio.CancelledError):
        return 130


def _run(words: list[str]) -> int:
    if words and (words[0] == "version" or {"-version", "--version"} & set(words)):
        from lpnode.command import version

        return version.run(is_json="--json" in words)
    if words and words[0] in {"serve", "doctor"}:
        return _run_with_settings(words[0], words[1:])
    if words and words[0] in {"earnings", "tickets", "wallet", "model", "run"}:
        return _run_with_own_arguments(words[0], words[1:])
    if words and words[0].startswith("-") and words[0] not in {"-h", "--help", "-help"}:
        # go-livepeer has no subcommands: `lpnode -orchestrator …` is `lpnode serve …`.
        return _run_with_settings("serve", words)
    parser = _parser()
    parsed = parser.parse_args(["--help"] if words in ([], ["-help"]) else words)
    return _dispatch(parsed)


def _run_with_settings(command: str, words: list[str]) -> int:
    if any(word in {"-h", "-help", "--help"} for word in words):
        from lpnode.config import flags_help

        print(_SERVE_HELP if command == "serve" else _DOCTOR_HELP)
        print(flags_help())
        return 0
    if command == "serve":
        from lpnode.command import serve

        return serve.run(words, os.environ)
    from lpnode.command import doctor

    is_json = "--json" in words
    return doctor.run([word for word in words if word != "--json"], os.environ, is_json=is_json)


def _run_with_own_arguments(command: str, words: list[str]) -> int:
    # Each knows its own arguments, beside those of serve that say which node's state it is.
    words = ["--help" if word == "-help" else word for word in words]
    if command == "earnings":
        from lpnode.command import earnings

        return earnings.run(words, os.environ)
    if command == "wallet":
        from lpnode.command import wallet

        return wallet.run(words, os.environ)
    if command == "model":
        from lpnode.command import model

        return model.run(words, os.environ)
    if command == "run":
        from lpnode.command import run

        return run.run(words, os.environ)
    from lpnode.command import tickets

    return tickets.run(words, os.environ)


def _dispatch(parsed: argparse.Namespace) -> int:
    match parsed.command:
        case "probe":
            from lpnode.command import probe

            return probe.run(parsed)
        case "stream":
            from lpnode.command import stream

            return stream.run(parsed)
        case _:
            from lpnode.command import demo

            return demo.run(parsed)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="lpnode",
        description="A performance-first Livepeer AI orchestrator node in one process.",
        epilog="lpnode COMMAND --help says more. lpnode --version says what was built.",
    )
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    commands.add_parser("serve", help="run the node (go-livepeer's flags, LP_* and -config)")
    _add_demo(commands)
    _add_probe(commands)
    _add_stream(commands)
    commands.add_parser("run", help="make pictures here and now: text-to-image, image-to-image")
    commands.add_parser("earnings", help="what was earned, by model, gateway or day")
    commands.add_parser("tickets", help="tickets that won: list, show, try again")
    commands.add_parser("wallet", help="the account, and what keeps it from earning")
    commands.add_parser("model", help="the diffusion models on this machine: list, check, add")
    commands.add_parser("doctor", help="what is missing on this machine, and how to fix it")
    return parser


_Commands = argparse._SubParsersAction  # the type of add_subparsers() has no public name


def _add_demo(commands: "_Commands[argparse.ArgumentParser]") -> None:
    demo = commands.add_parser(
        "demo",
        help="run a node on loopback and stream a test picture through it",
        description=(
            "Starts a node on loopback with a temporary data directory, streams a test picture "
            "through it as a gateway does, changes the prompt half-way, and writes what came "
            "back. Exits 0 only if frames really came back changed. Where an EVM can be run "
            "(anvil, or the extra lpnode[evm]), the stream is paid for with tickets on a local "
            "chain, and those that won are redeemed and compared with the books."
        ),
    )
    demo.add_argument("--output", type=Path, default=Path("lpnode-demo"), help="folder to write")
    demo.add_argument("--duration", type=float, default=10.0, help="seconds (%(default)s)")
    demo.add_argument("--size", type=_size, default=(1280, 720), help="WxH of the input (1280x720)")
    demo.add_argument("--fps", type=int, default=30, help="input frame rate (%(default)s)")
    demo.add_argument(
        "--model",
        choices=("lpnode/shapes", "edge-style"),
        default="lpnode/shapes",
        help="diffusion with the model that ships, or an effect without a model (%(default)s)",
    )
    demo.add_argument("--off-chain", action="store_true", help="pay nothing, even if it could")


def _add_probe(commands: "_Commands[argparse.ArgumentParser]") -> None:
    probe = commands.add_parser(
        "probe",
        help="ask a node what a gateway asks it: address, capabilities, prices, hardware",
        description="Calls GetOrchestrator as a gateway does and shows the answer.",
    )
    probe.add_argument("url", metavar="URL", help="https://host:8935 or host:port")
    probe.add_argument(
        "--model", help="show the price and the tickets for live video with this model"
    )
    probe.add_argument(
        "--json", action="store_true", help="print the shape of a gateway's /getNetworkCapabilities"
    )
    probe.add_argument(
        "--key",
        type=Path,
        metavar="KEYFILE",
        help="sign the question with this account (hex key or keystore), as on-chain nodes want it",
    )
    probe.add_argument("--password-file", type=Path, help="file with the keystore's password")
    probe.add_argument("--timeout", type=float, default=3.0, help="seconds (%(default)s)")


def _add_stream(commands: "_Commands[argparse.ArgumentParser]") -> None:
    stream = commands.add_parser(
        "stream",
        help="send video through a node as a gateway does, and measure it",
        description=(
            "A gateway-side client of live-video-to-video: GetOrchestrator, start, segments in "
            "real time, the output and the events back, parameter updates on the way. With the "
            "test picture as input every frame carries its number, so that glass-to-glass latency "
            "is measured frame by frame. Ctrl-C ends the stream cleanly and prints the table."
        ),
    )
    stream.add_argument("url", metavar="URL", help="https://host:8935 or host:port")
    stream.add_argument(
        "--input", default="testsrc", help="video file, or testsrc: the test picture (%(default)s)"
    )
    stream.add_argument("--output", type=Path, help="MPEG-TS file for what comes back")
    stream.add_argument("--model", default="passthrough", help="model to ask for (%(default)s)")
    stream.add_argument(
        "--by-time",
        action="store_true",
        help="know the test picture's frames by their time, not by the number in the picture: for "
        "models that leave nothing of it",
    )
    stream.add_argument("--params", default="", metavar="JSON", help="initial parameters")
    stream.add_argument(
        "--update",
        action="append",
        default=[],
        metavar="AT=JSON",
        help="replace the parameters AT seconds after the start; may be repeated",
    )
    stream.add_argument("--duration", type=float, help="seconds; default: the file, or 10 s")
    stream.add_argument("--size", type=_size, default=(1280, 720), help="WxH of the test picture")
    stream.add_argument("--fps", type=int, default=30, help="of the test picture (%(default)s)")
    stream.add_argument("--json", action="store_true", help="print the results as one JSON object")
    stream.add_argument("--verbose", action="store_true", help="show every event of the node")
    _add_payment(stream.add_argument_group("payment", "tickets for a node that asks a price"))


def _add_payment(payment: "argparse._ArgumentGroup") -> None:
    payment.add_argument(
        "--pay",
        type=Path,
        metavar="KEYFILE",
        help="account that pays: 32 bytes as hex, or a keystore of version 3",
    )
    payment.add_argument("--password-file", type=Path, help="file with the keystore's password")
    payment.add_argument("--max-price", metavar="WEI", help="highest price per unit; default: any")
    payment.add_argument(
        "--max-ticket-ev",
        type=int,
        default=3 * 10**12,
        metavar="WEI",
        help="most that one ticket may be worth on average (%(default)s)",
    )
    payment.add_argument(
        "--max-total-ev",
        type=int,
        default=2 * 10**13,
        metavar="WEI",
        help="most that one payment may be worth on average (%(default)s)",
    )
    payment.add_argument(
        "--payment-interval",
        type=float,
        default=5.0,
        metavar="SECONDS",
        help="time between payments (%(default)s)",
    )
    payment.add_argument(
        "--eth-url", help="JSON-RPC of the chain: checks deposit and reserve, follows L1 blocks"
    )
    payment.add_argument(
        "--eth-controller", metavar="ADDRESS", help="Controller; default: that of the network"
    )
    payment.add_argument(
        "--stop-paying",
        type=float,
        metavar="AT",
        help="pay no more AT seconds after the start, to see the node cut the stream",
    )


def _size(text: str) -> tuple[int, int]:
    width, _, height = text.partition("x")
    if not (width.isdecimal() and height.isdecimal()):
        raise argparse.ArgumentTypeError(f"{text!r} is not WIDTHxHEIGHT, for example 1280x720")
    size = int(width), int(height)
    if not all(side % 2 == 0 and 128 <= side <= 4096 for side in size):
        raise argparse.ArgumentTypeError(f"{text}: both sides must be even and 128 to 4096")
    return size


_SERVE_HELP = """\
usage: lpnode serve [-flag value | -flag=value | --flag …]

Runs the node: one port for gRPC, HTTPS and trickle, and an operator port on loopback.
SIGTERM and Ctrl-C drain: new work is refused, running sessions end within -drainTimeout.

    lpnode serve -serviceAddr my.host:8935
    lpnode serve -serviceAddr my.host:8935 -aiModels aiModels.json -v 5
    LP_SERVICEADDR=my.host:8935 lpnode serve -config node.toml

Names and meaning are go-livepeer's. A flag wins over its variable LP_<NAME>, that over the
-config file: lines `name value`, or TOML with the same names (tables only group them)."""

_DOCTOR_HELP = """\
usage: lpnode doctor [--json] [serve's flags]

Looks at what `lpnode serve` with the same flags would need: Python, compiler, native modules,
CUDA, codecs, ports, certificate, models, the chain. Exits 1 if something needed is missing."""
