"""docs/failures.md: what it says is done is what tests prove, and no failure is forgotten."""

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs/failures.md"
TESTS = (ROOT / "tests", ROOT / "airflow_provider/tests")
IDS = [f"S{number:02}" for number in range(1, 49)]
PROVEN, PLANNED = {"done", "partly"}, {"not yet"}


@dataclass(frozen=True)
class Failure:
    """A row of the page."""

    id: str
    texts: tuple[str, str]
    state: str
    tests: tuple[str, ...]


def failures() -> list[Failure]:
    """The rows of the page's table."""
    lines = [
        line.strip("|").split(" | ") for line in PAGE.read_text(encoding="utf-8").splitlines() if line[:3] == "| S"
    ]
    return [
        Failure(name.strip(), (what, does), state, tuple(re.findall(r"`([^`]+)`", tests)))
        for name, what, does, state, tests in lines
    ]


def named_ids(docstring: str) -> list[str]:
    """The ids that a docstring begins with: `S03: …`, `S12, S45: …`."""
    match = re.match(r"(S\d\d(?:, S\d\d)*): ", docstring)
    return match[1].split(", ") if match is not None else []


def statements(file: ast.Module) -> Iterator[ast.stmt]:
    """What stands where tests are looked for: at the top, and in classes."""
    for node in file.body:
        yield from node.body if isinstance(node, ast.ClassDef) else [node]


@cache
def proofs() -> dict[str, set[str]]:
    """For every id the files with a test that names it; those of the provider keep their whole path."""
    found: dict[str, set[str]] = defaultdict(set)
    for path in (path for folder in TESTS for path in sorted(folder.rglob("test_*.py"))):
        name = path.relative_to(ROOT).as_posix().removeprefix("tests/")
        for node in statements(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_"):
                for one in named_ids(ast.get_docstring(node) or ""):
                    found[one].add(name)
    return dict(found)


FAILURES = failures()


@pytest.mark.parametrize(
    ("docstring", "expected"),
    [
        ("S03: one completion.", ["S03"]),
        ("S12, S45: a pause.", ["S12", "S45"]),
        ("A pause, as in S12: long.", []),
        ("S123: none.", []),
    ],
)
def test_what_a_docstring_names(docstring: str, expected: list[str]) -> None:
    """A test names the failures that stand at its docstring's beginning, and no others."""
    assert expected == named_ids(docstring)


def test_every_failure_has_one_row() -> None:
    """The page has each failure once, in order."""
    assert IDS == [failure.id for failure in FAILURES]


def test_tests_name_known_failures() -> None:
    """No test proves a failure that the page does not know."""
    assert set() == proofs().keys() - {failure.id for failure in FAILURES}


@pytest.mark.parametrize("failure", FAILURES, ids=lambda failure: failure.id)
def test_what_is_said_is_proven(failure: Failure) -> None:
    """What is done, or partly so, names files that each have a test of that failure."""
    assert failure.state in PROVEN | PLANNED
    assert (failure.state in PROVEN) == bool(failure.tests)
    assert set() == set(failure.tests) - proofs().get(failure.id, set())


@pytest.mark.parametrize("failure", FAILURES, ids=lambda failure: failure.id)
def test_what_is_proven_is_said(failure: Failure) -> None:
    """What a test proves is not called undone."""
    assert (failure.id in proofs()) == (failure.state in PROVEN)


@pytest.mark.parametrize("failure", FAILURES, ids=lambda failure: failure.id)
def test_every_row_says_something(failure: Failure) -> None:
    """Each row tells what happens and what the bridge does about it."""
    assert all(text.strip() for text in failure.texts)
