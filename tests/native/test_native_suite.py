"""Builds the C++ tests with sanitizers and runs them."""

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
HAS_TOOLS = shutil.which("cmake") is not None and shutil.which("c++") is not None


def run(*command: str | Path) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(map(str, command))}\n{done.stdout}{done.stderr}"


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.skipif(not HAS_TOOLS, reason="cmake or a C++ compiler is missing")
def test_native_code_passes_its_own_tests_under_sanitizers(tmp_path: Path) -> None:
    options = {
        "CMAKE_BUILD_TYPE": "RelWithDebInfo",
        "LPNODE_BINDINGS": "OFF",
        "LPNODE_CUDA": "OFF",
        "LPNODE_SANITIZE": "address,undefined",
        "LPNODE_TESTS": "ON",
        "LPNODE_WERROR": "ON",
    }
    defines = [f"-D{name}={value}" for name, value in options.items()]
    run("cmake", "-S", ROOT, "-B", tmp_path, *defines)
    run("cmake", "--build", tmp_path, "--target", "native_tests", "--parallel", "2")
    run("ctest", "--test-dir", tmp_path, "--output-on-failure", "--no-tests=error")
