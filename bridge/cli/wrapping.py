"""From files to wrappers: every error is told, with its file and its pipeline, and all that can be wrapped is."""

from __future__ import annotations

import sys
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bridge.cli import limits, pipelines
from bridge.cli.pipelines import Pipeline, UnreadableError
from bridge.cli.story import plain
from bridge.cli.wrapper import generate, is_ours
from bridge.model import FactoryId
from bridge.policy import WRAPPER_SUFFIX, is_wrapper, wrapper_of


@dataclass(frozen=True, slots=True)
class Source:
    """A pipeline, and the file that it stands in."""

    file: str
    pipeline: Pipeline

    def __str__(self) -> str:
        return plain(f"{self.file}: {self.pipeline.name}")


@dataclass(slots=True)
class Inputs:
    """What was found: pipelines to wrap, wrappers that are left out, and whether every file could be read."""

    sources: list[Source] = field(default_factory=list)
    left_out: list[Source] = field(default_factory=list)
    complete: bool = True


class Complaints:
    """Tells what is wrong, on stderr, and remembers whether anything was."""

    def __init__(self) -> None:
        self.any = False

    def error(self, where: object, message: object) -> None:
        """Tell of something that is not done."""
        self.any = True
        print(f"{plain(where)}: {message}", file=sys.stderr)

    def warning(self, where: object, message: object) -> None:
        """Tell of something that is done all the same."""
        print(f"warning: {plain(where)}: {message}", file=sys.stderr)


def read(source: Path, complaints: Complaints) -> Inputs:
    """Read a file, or the files of a folder; of a repository's root, those of its folder pipeline/."""
    inputs = Inputs()
    for path in _files(source):
        try:
            found = pipelines.read(path.read_bytes())
        except (UnreadableError, OSError) as trouble:
            found = [UnreadableError(str(trouble.strerror if isinstance(trouble, OSError) else trouble))]
        if not found:
            complaints.warning(path, "holds no pipeline")
        for one in found:
            if isinstance(one, UnreadableError):
                inputs.complete = False
                complaints.error(path, plain(one))
            elif is_wrapper(one.name.lower()):
                inputs.left_out.append(Source(str(path), one))
            else:
                inputs.sources.append(Source(str(path), one))
    if inputs.complete and not inputs.sources:
        complaints.error(source, "there is no pipeline to wrap")
    return inputs


def _files(source: Path) -> list[Path]:
    if source.is_file():
        return [source]
    folder = source / "pipeline"
    return sorted((folder if folder.is_dir() else source).glob("*.json"))


def wrap(
    inputs: Inputs, complaints: Complaints, *, topic: str, factory: FactoryId | None, advise: bool
) -> list[tuple[Source, dict[str, Any]]]:
    """Return the wrappers of the pipelines that can have one; `advise` tells what may be done better, too."""
    foreign = {one.pipeline.name.lower() for one in inputs.left_out if not is_ours(one.pipeline.properties)}
    for one in inputs.left_out:
        if one.pipeline.name.lower() in foreign:
            complaints.warning(one, f"left out: its name ends in {WRAPPER_SUFFIX}, but it was not generated here")
    spellings = Counter(source.pipeline.name.lower() for source in inputs.sources)
    wrappers = []
    for source in inputs.sources:
        pipeline, problems = source.pipeline, limits.problems_of(source.pipeline)
        if spellings[pipeline.name.lower()] > 1:
            problems.append("another pipeline has the same name, or one that differs in upper and lower case only")
        if wrapper_of(pipeline.name).lower() in foreign:
            problems.append(f"there is a pipeline {wrapper_of(pipeline.name)} that was not generated here")
        if not problems:
            wrapper = generate(pipeline, topic=topic, factory=factory.arm_id if factory else None)
            problems = limits.problems_in(wrapper)
            if not problems:
                wrappers.append((source, wrapper))
                for warning in limits.warnings_of(pipeline) if advise else ():
                    complaints.warning(source, plain(warning))
        for problem in problems:
            complaints.error(source, plain(problem))
    return wrappers
