"""The core: rules and values that need nothing but the standard library."""

import ast
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
CONTRACTS = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
CORE = next(contract["source_modules"] for contract in CONTRACTS if contract["name"].startswith("The core is pure"))


def source(module: str) -> Path:
    """The file of a module."""
    return ROOT.joinpath(*module.split(".")).with_suffix(".py")


def imported(path: Path) -> set[str]:
    """The full names of the modules that a file imports."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names |= {node.module or ""} if node.module != "bridge" else {f"bridge.{a.name}" for a in node.names}
    return names


@pytest.mark.parametrize("module", CORE)
def test_the_core_imports_the_standard_library_and_itself(module: str) -> None:
    """A module of the core imports no third-party package and nothing of the bridge's edges."""
    foreign = {
        name
        for name in imported(source(module))
        if name not in CORE and name.partition(".")[0] not in sys.stdlib_module_names
    }
    assert set() == foreign


@pytest.mark.parametrize("module", CORE)
def test_the_core_never_asks_what_time_it_is(module: str) -> None:
    """A module of the core is told the time: it calls no clock."""
    tree = ast.parse(source(module).read_text(encoding="utf-8"))
    clocks = {"now", "today", "utcnow"}
    calls = [
        ast.unparse(node)
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute)
        and node.attr in clocks
        and isinstance(node.value, ast.Name)
        and node.value.id in {"date", "datetime"}
    ]
    assert [] == calls
