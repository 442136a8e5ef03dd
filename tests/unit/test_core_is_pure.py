"""The core: rules and values that need nothing but the standard library."""

import ast
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
CONTRACTS = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
CORE = next(contract["source_modules"] for contract in CONTRACTS if contract["name"].startswith("The core is pure"))


def sources(module: str) -> list[Path]:
    """The file of a module, or all files of a package."""
    place = ROOT.joinpath(*module.split("."))
    return sorted(place.rglob("*.py")) if place.is_dir() else [place.with_suffix(".py")]


def is_core(name: str) -> bool:
    """Whether a module is one of the core, or inside one of its packages."""
    return any(name == module or name.startswith(f"{module}.") for module in CORE)


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
        for path in sources(module)
        for name in imported(path)
        if not is_core(name) and name.partition(".")[0] not in sys.stdlib_module_names
    }
    assert set() == foreign


@pytest.mark.parametrize("module", CORE)
def test_the_core_never_asks_what_time_it_is(module: str) -> None:
    """A module of the core is told the time: it calls no clock."""
    trees = [ast.parse(path.read_text(encoding="utf-8")) for path in sources(module)]
    clocks = {"now", "today", "utcnow"}
    calls = [
        ast.unparse(node)
        for tree in trees
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute)
        and node.attr in clocks
        and isinstance(node.value, ast.Name)
        and node.value.id in {"date", "datetime"}
    ]
    assert [] == calls
