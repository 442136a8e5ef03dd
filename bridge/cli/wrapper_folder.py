"""The folder that the wrappers stand in, one file each: written where they differ, or only compared."""

from __future__ import annotations

import difflib
import json
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Never

from bridge.cli.comparison import essence
from bridge.cli.story import plain
from bridge.cli.wrapper import is_ours
from bridge.policy import is_wrapper

_DIFF_LINES: Final = 20
_LINE_CHARACTERS: Final = 160


class NotWrittenError(Exception):
    """A wrapper cannot stand in its place; the message says why."""


@dataclass(frozen=True, slots=True)
class Difference:
    """How a file differs from what it has to be, in lines; `layout_only` if it says the same."""

    text: str
    layout_only: bool = False


class WrapperFolder:
    """Where the wrappers are, or will be."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def write(self, name: str, text: str) -> str:
        """Write a wrapper's file and return what was done: created, updated, unchanged. Raise NotWrittenError."""
        try:
            standing = self._standing(name)
            if standing == text:
                return "unchanged"
            if standing is not None and not is_ours(_document(standing).get("properties")):
                raise NotWrittenError(
                    f"{self._file(name)} was not generated here (no label adf-bridge): it is left alone. "
                    "Rename that pipeline, or delete the file"
                )
            self._path.mkdir(parents=True, exist_ok=True)
            self._file(name).write_text(text, encoding="utf-8", newline="\n")
        except OSError as error:
            raise NotWrittenError(f"{self._file(name)} cannot be written ({error.strerror})") from None
        return "created" if standing is None else "updated"

    def difference(self, name: str, text: str) -> Difference | None:
        """Return how a wrapper's file differs from what it has to be; None if it does not."""
        try:
            standing = self._standing(name)
        except OSError as error:
            return Difference(f"{self._file(name)} cannot be read ({error.strerror})")
        if standing == text:
            return None
        if standing is None:
            return Difference(f"{self._file(name)} is missing")
        found, wanted = _essence(standing), _essence(text)
        if found == wanted:
            return Difference(f"{self._file(name)} differs in its layout only", layout_only=True)
        return Difference("\n".join([f"{self._file(name)} differs", *_diff(found, wanted)]))

    def orphans(self, names: Collection[str]) -> list[Path]:
        """Return the wrappers in the folder that are none of these: their pipelines are gone."""
        wanted = {name.lower() for name in names}
        return [path for path in self._wrappers() if path.stem.lower() not in wanted]

    def twins(self, names: Collection[str]) -> list[tuple[Path, str]]:
        """Return the wrappers in the folder whose names differ from one of these in upper and lower case only."""
        wanted = {name.lower(): name for name in names}
        found = [(path, wanted[path.stem.lower()]) for path in self._wrappers() if path.stem.lower() in wanted]
        return [(path, name) for path, name in found if path.stem != name and not _are_one(path, self._file(name))]

    def _wrappers(self) -> list[Path]:
        found = sorted(self._path.glob("*.json")) if self._path.is_dir() else []
        return [
            path
            for path in found
            if is_wrapper(path.stem.lower()) and is_ours(_document(_content(path)).get("properties"))
        ]

    def _file(self, name: str) -> Path:
        return self._path / f"{name}.json"  # a name holds no slash and no dot: limits.py

    def _standing(self, name: str) -> str | None:
        try:
            return _text(self._file(name))
        except FileNotFoundError:
            return None


def _are_one(path: Path, other: Path) -> bool:
    """Whether two paths lead to the same file, as they do where case means nothing to the file system."""
    return other.exists() and path.samefile(other)


def _content(path: Path) -> str:
    try:
        return _text(path)
    except OSError:
        return ""


def _text(path: Path) -> str:
    """Return a file's content, without what editors and Git may have done to its beginning and its line ends."""
    return path.read_bytes().decode("utf-8-sig", "replace").replace("\r\n", "\n")


def _document(text: str) -> dict[str, Any]:
    """Return the JSON object that a text is; an empty one if it is none."""
    try:
        document = json.loads(text, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        return {}
    return document if isinstance(document, dict) else {}


def _no_constant(name: str) -> Never:
    raise ValueError(name)


def _essence(text: str) -> str:
    """Return what a file says; of one that is no pipeline, the text itself."""
    document = _document(text)
    return essence(document) if isinstance(document.get("properties"), dict) else text


def _diff(found: str, wanted: str) -> Iterator[str]:
    lines = list(
        difflib.unified_diff(found.splitlines(), wanted.splitlines(), "as it is", "as it has to be", "", "", 1, "")
    )
    for line in lines[:_DIFF_LINES]:
        yield f"  {plain(line[:_LINE_CHARACTERS])}{'…' if len(line) > _LINE_CHARACTERS else ''}"
    if len(lines) > _DIFF_LINES:
        yield f"  … {len(lines) - _DIFF_LINES} more lines"
