"""What the command line says before any node or stream starts."""

import json
import subprocess
import sys

import pytest

from lpnode.cli import main

COMMANDS = ("serve", "demo", "probe", "stream", "run", "model", "earnings", "tickets", "doctor")


def test_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    for words in ([], ["--help"], ["-h"]):
        with pytest.raises(SystemExit) as ended:
            main(words)
        assert ended.value.code == 0
        text = capsys.readouterr().out
        assert all(name in text for name in COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    try:
        code = main([command, "--help"])
    except SystemExit as ended:
        code = ended.code
    assert code == 0
    text = capsys.readouterr().out
    assert f"usage: lpnode {command}" in text
    assert len(text.splitlines()) > 6


def test_help_answers_without_loading_torch_or_codecs() -> None:
    program = (
        "import sys; from lpnode.cli import main; main(['serve', '--help']); "
        "sys.exit(bool({'torch', 'av', 'grpclib'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-P", "-c", program], capture_output=True, check=False)
    assert done.returncode == 0


def test_a_reader_that_has_seen_enough_is_no_error() -> None:
    # More than a pipe holds, so that the writer is still writing when nobody reads any more.
    program = "from lpnode import cli; cli._run = lambda words: print('x' * 200_000) or 0; " + (
        "import sys; sys.exit(cli.main([]))"
    )
    with subprocess.Popen(
        [sys.executable, "-P", "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as writer:
        assert writer.stdout is not None
        assert writer.stderr is not None
        writer.stdout.read(10)
        writer.stdout.close()
        assert writer.stderr.read() == b""
    assert writer.returncode == 1


def test_the_version_names_what_was_built(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version", "--json"]) == 0
    build = json.loads(capsys.readouterr().out)
    assert set(build["native"]) == {"ticket", "media", "mpegts", "effect", "diffusion"}
    assert main(["-version"]) == 0
    assert capsys.readouterr().out.startswith(f"lpnode {build['lpnode']} · Python ")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["serve", "-serviceAdr", "h:1"], "did you mean -serviceAddr?"),
        (["-orchestrator", "-network", "mainnet"], "-network mainnet needs -ethUrl"),
        (["stream", "h:1", "--params", "{"], "--params: not JSON"),
        (["stream", "h:1", "--params", "[1]"], "--params: must be a JSON object"),
        (["stream", "h:1", "--update", "soon={}"], "must be SECONDS=JSON"),
        (["stream", "h:1", "--input", "/none.mp4"], "--input /none.mp4: cannot be opened"),
        (["stream", "h:1", "--output", "/none/o.ts"], "--output /none/o.ts: No such file"),
        (["stream", "h:1", "--duration", "-1"], "--duration must be positive"),
        (["stream", "h:1", "--duration", "nan"], "--duration must be positive"),
        (["stream", "h:1", "--update", "nan={}"], "must be SECONDS=JSON"),
        (["probe", "h:1", "--timeout", "-1"], "--timeout must be positive"),
        (["probe", "h:1", "--password-file", "p"], "--password-file needs --key KEYFILE"),
        (["stream", "http://", "--fps", "30"], "https://host:port"),
        (["demo", "--duration", "1"], "--duration must be 4 or more"),
        (["demo", "--duration", "inf"], "--duration must be 4 or more"),
    ],
)
def test_a_setting_that_cannot_be_used_is_one_line_and_exit_code_2(
    words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words) == 2
    lines = capsys.readouterr().err.splitlines()
    assert lines[-1].startswith("lpnode: ")
    assert message in lines[-1]


def test_a_node_that_is_not_there_is_one_line_and_exit_code_1(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["stream", "https://127.0.0.1:1"]) == 1
    assert "cannot be reached" in capsys.readouterr().err.splitlines()[-1]
