"""The folder with the pipelines: read at the start, and again when a file changes."""

import json
import logging
from dataclasses import dataclass
from pathlib import Path

from local.adf.pipeline import Pipeline, parse_pipeline
from local.json_value import FieldError

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Version:
    """One state of one file, and the pipeline in it; None where it could not be read."""

    changed: tuple[int, int]
    pipeline: Pipeline | None


class PipelineFolder:
    """Every pipeline in a folder's JSON files. A running run keeps the version it began with."""

    def __init__(self, folder: Path) -> None:
        """Read the folder. Raises FieldError, naming the file, when one of them is no pipeline."""
        self._folder = folder
        self._versions: dict[Path, _Version] = {}
        if not folder.is_dir():
            raise FieldError(f"{folder} is not a folder")
        for path in self._files():
            self._versions[path] = _Version(_state(path), _read(path))

    def all(self) -> list[Pipeline]:
        """Every pipeline, by name. A file that became unreadable keeps its last good version, and the log
        says so.
        """
        self._refresh()
        found = [version.pipeline for version in self._versions.values() if version.pipeline is not None]
        return sorted(found, key=lambda pipeline: pipeline.name)

    def _files(self) -> list[Path]:
        return sorted(self._folder.glob("*.json"))

    def _refresh(self) -> None:
        files = self._files()
        for gone in self._versions.keys() - set(files):
            del self._versions[gone]
        for path in files:
            known = self._versions.get(path)
            state = _state(path)
            if known is not None and known.changed == state:
                continue
            try:
                pipeline: Pipeline | None = _read(path)
            except (FieldError, OSError) as error:
                _log.warning("keeping the last good version of a pipeline: %s", error)
                pipeline = known.pipeline if known else None
            self._versions[path] = _Version(state, pipeline)


def _state(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_mtime_ns, status.st_size


def _read(path: Path) -> Pipeline:
    try:
        return parse_pipeline(json.loads(path.read_text(encoding="utf-8")))
    except ValueError as error:
        raise FieldError(f"{path.name} is not a pipeline: {error}") from error
