"""The committed .pyi files are what the built modules say of themselves."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

STUBS = Path(__file__).parents[2] / "lpnode" / "_native"


@pytest.mark.skipif(importlib.util.find_spec("nanobind") is None, reason="nanobind is missing")
@pytest.mark.parametrize("module", ["diffusion", "effect", "media", "mpegts", "ticket"])
def test_stub_is_current(module: str, tmp_path: Path) -> None:
    written = tmp_path / f"{module}.pyi"
    stubgen = [
        sys.executable,
        "-P",
        "-m",
        "nanobind.stubgen",
        "-q",
        "-m",
        f"lpnode._native.{module}",
    ]
    # The generator looks for the module in the working directory first.
    subprocess.run([*stubgen, "-o", written], check=True, cwd=tmp_path)
    committed = STUBS / f"{module}.pyi"
    remedy = f"python -m nanobind.stubgen -m lpnode._native.{module} -o {committed}"
    assert written.read_text() == committed.read_text(), f"run: {remedy}"
