"""``lpnode --version``: what this build is made of."""

import json
import platform
from importlib.metadata import version as version_of

import lpnode
from lpnode.command.native_build import native_modules


def run(*, is_json: bool) -> int:
    """Prints one line, or one JSON object."""
    modules = native_modules()
    build = {
        "lpnode": lpnode.__version__,
        "python": platform.python_version(),
        "torch": version_of("torch"),
        "av": version_of("av"),
        "native": {module.name: module.detail or module.problem for module in modules},
    }
    if is_json:
        print(json.dumps(build))
        return 0
    native = ", ".join(
        f"{module.name} ({module.detail or module.problem})"
        if module.detail or module.problem
        else module.name
        for module in modules
    )
    print(
        f"lpnode {build['lpnode']} · Python {build['python']} · torch {build['torch']} · "
        f"PyAV {build['av']} · native: {native}"
    )
    return 0
