"""The ways from a use case to its effects: those that there are, read from the source, and those that were gone.

A use case is a generator that `bridge.service` exports, an effect a command with a `Point` that it asks for.
"""

from __future__ import annotations

import ast
import inspect
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

from bridge import service
from bridge.commands import Point
from tests.fakes.bench import Place

# The functions (`module.name`) from a use case to the one that asks for an effect, and the effect.
Way = tuple[tuple[str, ...], Point]

SERVICE: Final = Path(inspect.getfile(service)).parent


def untold(places: Iterable[Place], *, every_way: bool = True) -> list[str]:
    """Return the ways to effects on which no process died; or else the effects of use cases after which none did."""
    there_are, gone = demanded(), tried(places)
    missing = there_are - gone if every_way else _ends(there_are) - _ends(gone)
    return sorted(f"{' > '.join(path)}: {point}" for path, point in missing)


def ways_of(place: Place) -> Iterator[Way]:
    """Yield the ways that end at a place, one for each use case that is under way."""
    for start, name in enumerate(place.path):
        if place.point is not None and not place.within and name in use_cases():
            yield _own(place.path[start:]), place.point


# How ADF is asked about a run is one thing, whoever asks: its ways are told once. So are those of a start's answer,
# of the search for a run, and of who waits for it under another name.
_SHARED: Final = (
    "reading.explain",
    "reading._read_match",
    "reading.read",
    "searching.settle_start",
    "continuing.to_recover",
    "answering.answer",
    "cancelling._waiting_elsewhere",
)


def _own(path: tuple[str, ...]) -> tuple[str, ...]:
    """Return a way without what lies before the part of it that all share."""
    start = next((path.index(name) for name in _SHARED if name in path), 0)
    return path[start:]


def end_of(way: Way) -> Way:
    """Return a way without what lies between its use case and its effect."""
    path, point = way
    return (path[0], path[-1]), point


def tried(places: Iterable[Place]) -> Counter[Way]:
    """Return the ways on which a process died, and at how many places in the source each ends."""
    lines: dict[Way, set[int]] = defaultdict(set)
    for place in places:
        for way in ways_of(place):
            lines[way].add(place.line)
    return Counter({way: len(found) for way, found in lines.items()})


@cache
def demanded() -> Counter[Way]:
    """Return all ways, and how many places in the source each ends at."""
    functions = _functions()
    ways: Counter[Way] = Counter()

    def go(path: tuple[str, ...]) -> None:
        here = functions.get(path[-1])
        if here is None:
            return
        for way, places in Counter((_own(path), effect) for effect in here.effects).items():
            ways[way] = max(ways[way], places)
        for called in sorted(here.calls - set(path)):
            go((*path, called))

    for use_case in use_cases():
        go((use_case,))
    return ways


@cache
def use_cases() -> frozenset[str]:
    """Return the use cases, by module and name."""
    exported = [getattr(service, name) for name in service.__all__]
    generators = [one for one in exported if inspect.isgeneratorfunction(one)]
    return frozenset(f"{Path(inspect.getfile(one)).stem}.{one.__name__}" for one in generators)


def _ends(ways: Counter[Way]) -> Counter[Way]:
    ends: Counter[Way] = Counter()
    for way, places in ways.items():
        ends[end_of(way)] = max(ends[end_of(way)], places)
    return ends


@dataclass(frozen=True)
class _Function:
    """A function of the use cases: the effects that it asks for, and whom it calls."""

    effects: tuple[Point, ...]
    calls: frozenset[str]


def _functions() -> dict[str, _Function]:
    """Read all functions of the use cases, by module and name."""
    found = {}
    for path in sorted(SERVICE.glob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        names = dict(_names(tree, path.stem))
        for node in (one for one in tree.body if isinstance(one, ast.FunctionDef)):
            called = frozenset(name for name in _called(node) if name in names)
            found[f"{path.stem}.{node.name}"] = _Function(
                tuple(_effects(node)), frozenset(names[name] for name in called)
            )
    return found


def _names(tree: ast.Module, module: str) -> Iterator[tuple[str, str]]:
    """Yield what a module calls the functions of use cases, and which they are."""
    for node in tree.body:
        if isinstance(node, ast.FunctionDef):
            yield node.name, f"{module}.{node.name}"
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            for name in node.names:
                yield name.asname or name.name, f"{node.module.rpartition('.')[2]}.{name.name}"


def _called(function: ast.FunctionDef) -> Iterator[str]:
    for node in ast.walk(function):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            yield node.func.id


def _effects(function: ast.FunctionDef) -> Iterator[Point]:
    for node in ast.walk(function):
        if isinstance(node, ast.keyword) and node.arg == "point" and isinstance(node.value, ast.Attribute):
            yield Point[node.value.attr]
