"""The folder that the wrappers stand in, one file each: written where they differ, or only compared."""

from __future__ import annotations

import difflib
import json
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Final

from bridge.cli.story import plain
from bridge.cli.wrapper import is_ours
from bridge.policy import WRAPPER_SUFFIX

_DIFF_LINES: Final = 20
_LINE_CHARACTERS: Final = 160


class NotWrittenError(Exception):
    """A wrapper cannot stand in its place; the message says why."""


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
            if standing is not None and not _is_wrapper(standing):
                raise NotWrittenError(
                    f"{self._file(name)} was not generated here (no label adf-bridge): it is left alone. "
                    "Rename that pipeline, or delete the file"
                )
            self._path.mkdir(parents=True, exist_ok=True)
            self._file(name).write_text(text, encoding="utf-8", newline="\n")
        except OSError as error:
            raise NotWrittenError(f"{self._file(name)} cannot be written ({error.strerror})") from None
        return "created" if standing is None else "updated"

    def difference(self, name: str, text: str) -> str | None:
        """Return how a wrapper's file differs from what it has to be, in lines; None if it does not."""
        try:
            standing = self._standing(name)
        except OSError as error:
            return f"{self._file(name)} cannot be read ({error.strerror})"
        if standing == text:
            return None
        if standing is None:
            return f"{self._file(name)} is missing"
        return "\n".join([f"{self._file(name)} differs", *_diff(standing, text)])

    def orphans(self, names: Collection[str]) -> list[Path]:
        """Return the wrappers in the folder that are none of these: their pipelines are gone."""
        wanted = {name.lower() for name in names}
        found = sorted(self._path.glob(f"*{WRAPPER_SUFFIX}.json")) if self._path.is_dir() else []
        return [path for path in found if path.stem.lower() not in wanted and _is_wrapper(_content(path))]

    def _file(self, name: str) -> Path:
        return self._path / f"{name}.json"  # a name holds no slash and no dot: limits.py

    def _standing(self, name: str) -> str | None:
        try:
            content = self._file(name).read_bytes().decode("utf-8", "replace")
        except FileNotFoundError:
            return None
        return content.replace("\r\n", "\n")  # Git may have checked it out so


def _content(path: Path) -> str:
    try:
        return path.read_bytes().decode("utf-8", "replace")
    except OSError:
        return ""


def _is_wrapper(text: str) -> bool:
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        return False
    return isinstance(document, dict) and is_ours(document.get("properties"))


def _diff(standing: str, text: str) -> Iterator[str]:
    lines = list(
        difflib.unified_diff(standing.splitlines(), text.splitlines(), "as it is", "as it has to be", "", "", 1, "")
    )
    for line in lines[:_DIFF_LINES]:
        yield f"  {plain(line[:_LINE_CHARACTERS])}{'…' if len(line) > _LINE_CHARACTERS else ''}"
    if len(lines) > _DIFF_LINES:
        yield f"  … {len(lines) - _DIFF_LINES} more lines"
    if not lines:
        yield "  only in the end of its last line"
