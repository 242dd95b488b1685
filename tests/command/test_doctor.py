"""What the doctor finds, and what it says to do about it."""

import json
import socket
from pathlib import Path

import pytest

from lpnode.command import doctor
from lpnode.command.verdict import Grade, Verdict
from lpnode.edge.certificate import ensure_certificate


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.fixture
def words(tmp_path: Path) -> list[str]:
    """Settings of a node that could be served here."""
    service, operator = free_port(), free_port()
    return [
        *("-serviceAddr", f"127.0.0.1:{service}", "-httpAddr", f"127.0.0.1:{service}"),
        *("-cliAddr", f"127.0.0.1:{operator}", "-dataDir", str(tmp_path / "data")),
    ]


def examined(words: list[str]) -> dict[str, Verdict]:
    return {verdict.subject: verdict for verdict in doctor.examine(words, {})}


def test_a_machine_that_runs_the_tests_misses_nothing(words: list[str]) -> None:
    verdicts = examined(words)
    assert [v for v in verdicts.values() if v.grade is Grade.MISSING] == []
    expected = {"python", "compiler", "native code", "nvcc", "GPU driver", "TensorRT", "codecs"}
    assert expected <= set(verdicts)
    assert "edge-style" in verdicts["models"].found


def test_every_note_and_every_miss_comes_with_a_fix(words: list[str]) -> None:
    for verdict in examined(words).values():
        assert bool(verdict.fix) == (verdict.grade is not Grade.OK), verdict


def test_a_taken_port_is_named_with_the_flag_that_moves_it(words: list[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        verdict = examined([*words, "-cliAddr", f"127.0.0.1:{port}"])["operator port"]
    assert verdict.grade is Grade.MISSING
    assert str(port) in verdict.found
    assert "-cliAddr" in verdict.fix


def test_a_broken_model_list_is_shown_with_its_place(words: list[str], tmp_path: Path) -> None:
    models = tmp_path / "aiModels.json"
    models.write_text('[{"pipeline": "dreaming", "model_id": "m"}]')
    verdict = examined([*words, "-aiModels", str(models)])["models"]
    assert verdict.grade is Grade.MISSING
    assert "aiModels.json" in verdict.found
    assert "dreaming" in verdict.found


def test_a_model_without_weights_is_missing_with_the_command_that_gets_them(
    words: list[str],
) -> None:
    wish = "live-video-to-video:streamdiffusion:true"
    verdict = examined([*words, "-aiModels", wish])["models"]
    assert verdict.grade is Grade.MISSING
    assert "lpnode model add stabilityai/sd-turbo" in verdict.found


def test_what_was_never_run_on_hardware_is_said_plainly(words: list[str]) -> None:
    assert "never run on hardware" in examined(words)["GPU driver"].found


def test_a_certificate_others_can_read_is_noted(words: list[str], tmp_path: Path) -> None:
    assert "will be made" in examined(words)["certificate"].found
    ensure_certificate(tmp_path / "data", "127.0.0.1")
    assert examined(words)["certificate"].grade is Grade.OK
    (tmp_path / "data" / "key.pem").chmod(0o644)
    verdict = examined(words)["certificate"]
    assert verdict.grade is Grade.WARNING
    assert verdict.fix.startswith("chmod 600")


def test_an_operator_port_open_to_all_is_noted(words: list[str]) -> None:
    verdict = examined([*words, "-cliAddr", "0.0.0.0:7935"])["operator port"]
    assert verdict.grade is Grade.WARNING


def test_settings_that_cannot_be_used_are_a_verdict_too(words: list[str]) -> None:
    verdict = examined([*words, "-network", "mainnet"])["settings"]
    assert verdict.grade is Grade.MISSING
    assert "-network mainnet needs -ethUrl" in verdict.found


def test_the_exit_code_and_the_json_say_whether_something_is_missing(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert doctor.run(words, {}, is_json=True) == 0
    checks = json.loads(capsys.readouterr().out)["checks"]
    assert {"subject", "grade", "found", "fix"} == set(checks[0])
    assert doctor.run([*words, "-v", "9"], {}, is_json=False) == 1
    assert "1 needed and missing" in capsys.readouterr().out
