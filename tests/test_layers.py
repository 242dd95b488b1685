"""Imports point one way: a lower package never knows a higher one."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "lpnode"

# From high to low; a module may import from its own layer's package and from later ones.
LAYERS: list[set[str]] = [
    {"__main__"},
    {"cli"},
    {"command"},
    {"node"},
    {"onchain"},
    {"config"},
    {"edge", "gateway"},
    {"session"},
    {"admission"},
    {"schedule"},
    {"builtin"},
    {"payment", "pipeline"},
    {"chain", "model"},
    {"media", "trickle", "protocol"},
    {"_native"},
    {"errors", "log", "metrics"},
]
RANK = {name: rank for rank, layer in enumerate(LAYERS) for name in layer}


def part_of(module: str) -> str | None:
    names = module.split(".")
    return names[1] if names[0] == "lpnode" and len(names) > 1 else None


def imported_parts(source: Path) -> set[str]:
    modules: set[str] = set()
    for node in ast.walk(ast.parse(source.read_text())):
        if isinstance(node, ast.Import):
            modules |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            modules.add(node.module)
            if node.module == "lpnode":
                modules |= {f"lpnode.{alias.name}" for alias in node.names}
    return {part for module in modules if (part := part_of(module)) in RANK}


@pytest.mark.parametrize(
    "source",
    [path for path in sorted(PACKAGE.rglob("*.py")) if path.name != "lp_rpc_pb2.py"],
    ids=lambda path: str(path.relative_to(PACKAGE)),
)
def test_a_module_imports_only_from_its_own_layer_or_below(source: Path) -> None:
    own = source.relative_to(PACKAGE).parts[0].removesuffix(".py")
    if own not in RANK:
        return
    upward = {
        part
        for part in imported_parts(source)
        if part != own and RANK[part] <= RANK[own] and own not in ("errors", "log", "metrics")
    }
    assert not upward, f"{own} must not import {sorted(upward)}"


def test_every_package_has_a_place_in_the_layers() -> None:
    names = {path.name.removesuffix(".py") for path in PACKAGE.iterdir() if path.name[0] != "."}
    names -= {"__init__", "__pycache__", "py.typed"}
    assert names <= set(RANK), f"give these a layer: {sorted(names - set(RANK))}"


@pytest.mark.parametrize(
    "package", ["lpnode.admission", "lpnode.payment.payments", "lpnode.protocol", "lpnode.trickle"]
)
def test_a_package_without_pixels_loads_no_torch(package: str) -> None:
    program = f"import {package}, sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-P", "-c", program], check=False).returncode == 0
