"""The locked requirements: what is deployed is what was resolved and tested."""

import re
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
DEPLOYED = ROOT / "requirements.txt"
DEVELOPED = ROOT / "requirements-dev.txt"
LOCKS = (DEPLOYED, DEVELOPED, *sorted((ROOT / "airflow_provider/locks").glob("*.txt")))


def requirements(lock: Path) -> list[Requirement]:
    """Every pin of a lock, for whatever Python and platform."""
    lines = re.findall(r"^[A-Za-z0-9][^#\\\n]*", lock.read_text(), re.MULTILINE)
    return [Requirement(line.strip()) for line in lines]


def pins(lock: Path) -> dict[str, str]:
    """Name and version of what a lock installs for this Python and platform."""
    return {
        canonicalize_name(pin.name): str(pin.specifier).removeprefix("==")
        for pin in requirements(lock)
        if pin.marker is None or pin.marker.evaluate()
    }


def needs(requirement: Requirement) -> set[str]:
    """A requirement and all that it pulls in, as the installed distributions declare it."""
    found: set[str] = set()
    open_ends = [(requirement.name, frozenset(requirement.extras))]
    seen: set[tuple[str, frozenset[str]]] = set()
    while open_ends:
        name, extras = open_ends.pop()
        name = canonicalize_name(name)
        if (name, extras) in seen:
            continue
        seen.add((name, extras))
        found.add(name)
        for line in metadata.requires(name) or []:
            inner = Requirement(line)
            if inner.marker is None or any(inner.marker.evaluate({"extra": extra}) for extra in {"", *extras}):
                open_ends.append((inner.name, frozenset(inner.extras)))
    return found


def declared(group: list[str]) -> list[Requirement]:
    """A list of requirements in pyproject.toml."""
    return [Requirement(line) for line in group]


def test_every_lock_has_pins() -> None:
    """A lock pins each of its packages to one exact version per Python and platform."""
    assert {} == {
        lock.name: loose
        for lock in LOCKS
        if (loose := [str(pin) for pin in requirements(lock) if not str(pin.specifier).startswith("==")])
        or not requirements(lock)
    }


@pytest.mark.parametrize(
    ("lock", "group"),
    [
        pytest.param(DEPLOYED, PROJECT["project"]["dependencies"], id="deployed"),
        pytest.param(
            DEVELOPED,
            PROJECT["project"]["dependencies"] + PROJECT["dependency-groups"]["dev"],
            id="developed",
        ),
    ],
)
def test_a_lock_holds_exactly_what_is_declared(lock: Path, group: list[str]) -> None:
    """A lock holds what pyproject.toml asks for, all that this pulls in, and nothing else."""
    expected = set[str]().union(*(needs(requirement) for requirement in declared(group)))
    assert sorted(expected) == sorted(pins(lock))


@pytest.mark.parametrize(
    "requirement",
    declared(PROJECT["project"]["dependencies"] + PROJECT["dependency-groups"]["dev"]),
    ids=lambda requirement: requirement.name,
)
def test_a_pin_satisfies_its_declaration(requirement: Requirement) -> None:
    """The locked version is one that pyproject.toml allows."""
    assert requirement.specifier.contains(pins(DEVELOPED)[canonicalize_name(requirement.name)])


def test_what_is_deployed_is_what_is_tested() -> None:
    """The same versions are locked for Azure and for the tests, which may want a package on more platforms."""
    tested = {(pin.name, str(pin.specifier)) for pin in requirements(DEVELOPED)}
    assert [] == [str(pin) for pin in requirements(DEPLOYED) if (pin.name, str(pin.specifier)) not in tested]


def test_the_environment_is_the_lock() -> None:
    """The tests run with the locked versions."""
    installed = {name: metadata.version(name) for name in pins(DEVELOPED)}
    assert pins(DEVELOPED) == installed


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: lock.name)
def test_a_lock_names_no_package_index(lock: Path) -> None:
    """A lock installs through whatever package index a machine is set up for."""
    assert [] == re.findall(r"https?://|--(?:extra-)?index-url|--find-links| @ ", lock.read_text())
